"""Synthetic datasets: requests, batches and summaries."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from heimdall_pipelines.datasets.baseline_summary import HEADINGS
from heimdall_pipelines.datasets.generating import BatchProgress, BatchReport, make_batch
from heimdall_pipelines.datasets.requesting import Acceptance, request_dataset
from heimdall_pipelines.datasets.summary import DatasetSummary, summarise_dataset
from heimdall_pipelines.datasets.workers import Workers, num_workers_wanted
from heimdall_pipelines.defs.asset_metadata import OWNERS, stored_in_bucket, stored_in_table
from heimdall_pipelines.defs.metadata import drawn_or_reason, table_metadata
from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage
from heimdall_pipelines.defs.partitions import (
    SYNTHETIC_BATCHES,
    SYNTHETIC_DATASETS,
    synthetic_batches,
    synthetic_datasets,
)
from heimdall_pipelines.defs.synthetic_config import SyntheticDatasetConfig
from heimdall_pipelines.model.batches import parse_partition_key
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.rf.terrain import Terrain
from heimdall_pipelines.settings import load_bucket_settings
from heimdall_pipelines.stations.network import load_network, sync_network
from heimdall_pipelines.store.dataset_summaries import record_summary
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.iq_objects import DATASETS_PREFIX, dataset_iq_prefix
from heimdall_pipelines.store.stations import list_stations
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.terrain.ground import terrain_if_there
from heimdall_pipelines.throttle import Throttle

ALL_CORES = "all-cores"  # the pool of runs that use all cores of a machine
PROGRESS_LOG_INTERVAL_S = 3.0
_WAITING = "waiting for a repair of {} to end"

BATCHES = dg.AssetKey(["synthetic", "batches"])
RAW_IQ_OBJECTS = dg.AssetKey(["synthetic", "raw_iq_objects"])
MEASUREMENT_FEATURES = dg.AssetKey(["synthetic", "measurement_features"])


@dg.asset(
    key=["synthetic", "datasets"],
    group_name="synthetic",
    owners=OWNERS,
    kinds={"postgres"},
    partitions_def=synthetic_datasets,
    deps=["websdr_stations"],
    metadata=stored_in_table("synthetic_datasets"),
)
def synthetic_dataset(
    context: dg.AssetExecutionContext, config: SyntheticDatasetConfig, stores: dg.ResourceParam[Stores]
) -> dg.MaterializeResult[None]:
    """A dataset of transmissions whose truth is known; the partition is its name.

    To request one, open the launchpad, add a partition, and write the config (Ctrl+Space shows all parameters):

    ```yaml
    ops:
      synthetic__datasets:
        config:
          target_num_samples: 1000
    ```

    A new dataset needs `target_num_samples`; all other parameters have defaults. A larger total expands an existing
    dataset, whose parameters do not change. The sensor `requested_synthetic_batches` then requests the missing
    batches.
    """
    with retried_after_outage(context.op_execution_context):
        if not list_stations(stores.database):
            sync_network(stores.database, load_network())
            context.log.info("there were no stations: those of the project's network were added")
        outcome = request_dataset(
            stores,
            context.partition_key,
            target_num_samples=config.target_num_samples,
            parameters=config.parameters(),
            seed=config.seed,
        )
    dataset = outcome.dataset
    for note in outcome.notes:
        context.log.info(f"{dataset.name}: {note}")
    if outcome.warning is not None:
        context.log.warning(outcome.warning)
    context.log.info(
        f"{dataset.name}: {'created, ' if outcome.is_new else ''}{dataset.target_num_samples} samples wanted, "
        f"{outcome.num_samples_added} more than before"
    )
    add_partitions(context.instance, dataset)
    return dg.MaterializeResult(metadata=dataset_materialization(dataset, outcome.acceptance).metadata)


@dg.multi_asset(
    name="synthetic_batch",
    specs=[
        dg.AssetSpec(
            BATCHES,
            group_name="synthetic",
            owners=OWNERS,
            metadata=stored_in_table("synthetic_batches"),
            kinds={"postgres"},
            deps=[dg.AssetDep(synthetic_dataset, partition_mapping=dg.AllPartitionMapping())],
            description="Ranges of a dataset's samples: how many are committed, and how many scenes were drawn.",
        ),
        dg.AssetSpec(
            RAW_IQ_OBJECTS,
            group_name="synthetic",
            owners=OWNERS,
            metadata=stored_in_bucket(load_bucket_settings().s3_bucket_synthetic_iq, DATASETS_PREFIX)
            | stored_in_table("synthetic_iq_samples"),
            kinds={"s3", "postgres"},
            deps=[BATCHES],
            description="IQ that is kept in the S3 store, described by SigMF: of the first 100 samples, or of all.",
        ),
        dg.AssetSpec(
            MEASUREMENT_FEATURES,
            group_name="synthetic",
            owners=OWNERS,
            kinds={"postgres"},
            deps=[BATCHES],
            description="One row per sample: truth, and the features of each receiver.",
            code_version=str(FEATURE_VERSION),
            metadata=stored_in_table("measurement_features"),
        ),
    ],
    partitions_def=synthetic_batches,
    can_subset=True,  # the UI and `dg launch` may select one of them; a batch is always made whole
    pool=ALL_CORES,
)
def synthetic_batch(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.MaterializeResult[None]]:
    """Make a batch: objects first, then its rows in one transaction; cancelled before that, it commits nothing."""
    name, batch_no = parse_partition_key(context.partition_key)
    progress = _throttled(context.log.info)
    with retried_after_outage(context.op_execution_context), Workers(num_workers_wanted()) as workers:
        report = make_batch(stores, name, batch_no, workers, progress, _once(context.log.info, _WAITING.format(name)))
        dataset = get_dataset(stores.database, name)
    seen_now: dict[dg.AssetKey, dict[str, str | int]] = {
        BATCHES: {},
        RAW_IQ_OBJECTS: {"bucket": stores.objects.synthetic_iq_bucket},
        MEASUREMENT_FEATURES: {"dataset_samples": dataset.num_samples, "dataset_target": dataset.target_num_samples},
    }
    for made in batch_materializations(report):
        metadata = dict(made.metadata) | seen_now[made.asset_key]
        if made.asset_key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=made.asset_key, metadata=metadata)
        else:
            context.log_event(made.with_metadata(metadata))


@dg.asset(
    key=["synthetic", "dataset_summary"],
    group_name="synthetic",
    owners=OWNERS,
    kinds={"postgres"},
    partitions_def=synthetic_datasets,
    deps=[dg.AssetDep(MEASUREMENT_FEATURES, partition_mapping=dg.AllPartitionMapping())],
)
def synthetic_dataset_summary(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]
) -> dg.MaterializeResult[None]:
    """A dataset as it stands: counts, rejected scenes, estimates against the truth, pictures."""
    with retried_after_outage(context.op_execution_context):
        summary = summarise_dataset(stores.database, context.partition_key)
        terrain = terrain_if_there(summary.dataset.terrain_tiles, stores.objects)
        record_summary(
            stores.database,
            summary.dataset.id,
            num_samples=summary.counts.features,
            content_sha256=summary.content_sha256,
        )
    return dg.MaterializeResult(metadata=_summary_metadata(summary, terrain, context.log.warning))


make_synthetic_batches = dg.define_asset_job(
    "make_synthetic_batches",
    selection=dg.AssetSelection.assets(synthetic_batch),
    description="Makes one batch of a synthetic dataset, with all cores of the machine.",
    tags=RUN_AGAIN_WHOLE,
)

summarise_synthetic_dataset = dg.define_asset_job(
    "summarise_synthetic_dataset",
    selection=dg.AssetSelection.assets(synthetic_dataset_summary),
    description="Summarises one synthetic dataset.",
    tags=RUN_AGAIN_WHOLE,
)


def add_partitions(instance: dg.DagsterInstance, dataset: Dataset) -> None:
    """Add the partitions of a dataset and of all its batches to Dagster; existing ones stay."""
    instance.add_dynamic_partitions(SYNTHETIC_DATASETS, [dataset.name])
    instance.add_dynamic_partitions(SYNTHETIC_BATCHES, batch_keys(dataset))


def batch_keys(dataset: Dataset) -> list[str]:
    """Partition keys of the batches that a dataset's target needs."""
    return [span.partition_key for span in dataset.grid.all()]


def dataset_materialization(dataset: Dataset, acceptance: Acceptance | None) -> dg.AssetMaterialization:
    """Return the materialization of a dataset; only a new one has an acceptance."""
    metadata: dict[str, dg.MetadataValue] = {
        "target": dg.MetadataValue.int(dataset.target_num_samples),
        "committed": dg.MetadataValue.int(dataset.num_samples),
        "batches": dg.MetadataValue.int(dataset.grid.num_batches),
        "receivers": dg.MetadataValue.int(len(dataset.receivers)),
        "terrain_tiles": dg.MetadataValue.int(len(dataset.terrain_tiles)),
        "seed": dg.MetadataValue.text(str(dataset.seed)),  # the UI rounds large integers
        "spec": table_metadata(("parameter", "value"), _in_order(dataset.spec_json)),
    }
    if acceptance is not None:
        metadata["acceptance"] = dg.MetadataValue.float(round(acceptance.ratio, 4))
        metadata["rejections"] = _rejections(acceptance.attempts, acceptance.rejections)
    return dg.AssetMaterialization(synthetic_dataset.key, partition=dataset.name, metadata=metadata)


def batch_materializations(report: BatchReport) -> list[dg.AssetMaterialization]:
    """Return the materializations of a batch, its objects and its features."""
    metadata: dict[dg.AssetKey, dict[str, dg.MetadataValue]] = {
        BATCHES: {
            "samples": dg.MetadataValue.int(report.batch.num_samples),
            "first_sample_idx": dg.MetadataValue.int(report.span.first_sample_idx),
            "made": dg.MetadataValue.int(report.num_made),
            "attempts": dg.MetadataValue.int(report.attempts),
            "acceptance": dg.MetadataValue.float(round(report.num_made / report.attempts, 4)),
            "rejections": _rejections(report.attempts, report.rejections),
            "samples_per_s": dg.MetadataValue.float(round(report.num_made / report.elapsed_s, 1)),
            "duration_s": dg.MetadataValue.float(round(report.elapsed_s, 2)),
            "generator_version": dg.MetadataValue.int(report.dataset.generator_version),
        },
        RAW_IQ_OBJECTS: {
            "objects": dg.MetadataValue.int(report.num_objects),
            "prefix": dg.MetadataValue.text(dataset_iq_prefix(report.dataset.id)),
        },
        MEASUREMENT_FEATURES: {"rows": dg.MetadataValue.int(report.batch.num_samples)},
    }
    return [
        dg.AssetMaterialization(key, partition=report.span.partition_key, metadata=values)
        for key, values in metadata.items()
    ]


def _summary_metadata(
    summary: DatasetSummary, terrain: Terrain | None, warn: Callable[[str], object]
) -> dict[str, dg.MetadataValue]:
    errors = [(e.feature, e.unit, e.num, f"{e.bias:+.3g}", f"{e.rmse:.3g}", f"{e.worst:+.3g}") for e in summary.errors]
    delays = [
        (x.rx_id, x.num, f"{x.bias_us:+.3g}", f"{x.median_us:.3g}", f"{x.percentile_90_us:.3g}")
        for x in summary.differences.receivers
    ]
    baselines = summary.baselines
    return {
        "samples": dg.MetadataValue.int(summary.counts.features),
        "target": dg.MetadataValue.int(summary.dataset.target_num_samples),
        "iq_samples": dg.MetadataValue.int(summary.counts.iq_samples),
        "iq_objects": dg.MetadataValue.int(summary.counts.iq_objects),
        "attempts": dg.MetadataValue.int(summary.attempts),
        "acceptance": dg.MetadataValue.float(round(summary.acceptance, 4)),
        "rejections": _rejections(summary.attempts, summary.rejections),
        "errors": table_metadata(("feature", "unit", "estimates", "bias", "RMSE", "worst"), errors),
        "delays": table_metadata(("receiver", "samples", "bias, us", "median, us", "90 %, us"), delays),
        "compared": dg.MetadataValue.md("\n".join(f"- {e.feature}: {e.note}" for e in summary.errors) or "nothing"),
        "baselines": table_metadata(HEADINGS, baselines.cells() if baselines else ()),
        "baselines_of": dg.MetadataValue.text(baselines.note() if baselines else "no samples"),
    } | _summary_pictures(summary, terrain, warn)


def _summary_pictures(
    summary: DatasetSummary, terrain: Terrain | None, warn: Callable[[str], object]
) -> dict[str, dg.MetadataValue]:
    from heimdall_pipelines.datasets.summary_pictures import summary_drawings  # matplotlib: 27 MB that other runs save

    drawings = summary_drawings(summary, terrain)
    drawn = {title: drawn_or_reason(title, draw, warn) for title, draw in drawings.items()}
    return {title: picture for title, picture in drawn.items() if picture is not None}


def _in_order(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameters as JSON in the order of their documentation; the database has another order."""
    for name in sorted(spec, key=[*DatasetSpec.model_fields, *spec].index):
        yield name, spec[name] if isinstance(spec[name], str) else json.dumps(spec[name])


def _rejections(attempts: int, rejections: dict[str, int]) -> dg.MetadataValue:
    if not rejections:
        return dg.MetadataValue.md("none")
    frequent_first = sorted(rejections.items(), key=lambda item: -item[1])
    return table_metadata(
        ("reason", "attempts", "share"), ((reason, n, f"{n / attempts:.1%}") for reason, n in frequent_first)
    )


def _once(log: Callable[[str], None], line: str) -> Callable[[], None]:
    """Return a function that logs a line the first time it is called."""
    remaining = [line]

    def log_once() -> None:
        if remaining:
            log(remaining.pop())

    return log_once


def _throttled(log: Callable[[str], None]) -> Callable[[BatchProgress], None]:
    """Log progress every few seconds: each line is an event that is stored."""
    throttle = Throttle(PROGRESS_LOG_INTERVAL_S)

    def progress(so_far: BatchProgress) -> None:
        if throttle.is_due():
            log(str(so_far))

    return progress
