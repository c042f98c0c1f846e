"""Checks of synthetic batches and datasets, and the jobs that validate and repair a dataset."""

from collections.abc import Iterable, Iterator
from itertools import islice

import dagster as dg

from heimdall_pipelines.datasets.checks import check_batch
from heimdall_pipelines.datasets.feature_repair import plan_feature_repair, repair_features
from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS, DATASET_CHECKS
from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.repair_plan import RepairPlan
from heimdall_pipelines.datasets.validation import DatasetValidation, validate_dataset
from heimdall_pipelines.datasets.workers import Workers, num_workers_wanted
from heimdall_pipelines.defs.check_results import check_evaluation, check_result
from heimdall_pipelines.defs.metadata import table_metadata
from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage, started_again_after_outage
from heimdall_pipelines.defs.partitions import synthetic_batches, synthetic_datasets
from heimdall_pipelines.defs.synthetic import (
    ALL_CORES,
    MEASUREMENT_FEATURES,
    RAW_IQ_OBJECTS,
    batch_keys,
    synthetic_dataset,
    synthetic_dataset_summary,
)
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.batches import parse_partition_key, partition_key
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.stores import Stores

MAX_BATCHES_REPORTED = 100  # of those with a problem; the checks of the dataset fail in any case
_KEYS_PER_QUERY = 500
_FAILED = "FAILED"

_BATCH_CHECKS = [(MEASUREMENT_FEATURES, name) for name in BATCH_FEATURE_CHECKS] + [
    (RAW_IQ_OBJECTS, name) for name in BATCH_IQ_CHECKS
]


class ValidationConfig(dg.Config):
    """How thoroughly a dataset is checked."""

    checksums: bool = False


class RepairConfig(dg.Config):
    """What a repair does; by default it only reports what it would do."""

    apply: bool = False
    checksums: bool = False
    features: bool = False  # only bring older features to the present version
    restore_parameters: bool = False  # with apply: first restore edited parameters
    overwrite: str = ""  # with apply, the dataset's name: take edited parameters, and write samples that differ


class NotConfirmedError(HeimdallError):
    """An option that replaces good data was given without the dataset's name."""


@dg.multi_asset_check(
    name="synthetic_batch_checks",
    specs=[
        dg.AssetCheckSpec(name, asset=asset, description=DATASET_CHECKS[name][1], partitions_def=synthetic_batches)
        for asset, name in _BATCH_CHECKS
    ],
    can_subset=True,  # a run of one asset of a batch has the checks of that asset
)
def synthetic_batch_checks(
    context: dg.AssetCheckExecutionContext, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.AssetCheckResult]:
    """Check a batch's rows and objects; an outage raises and fails no check."""
    name, batch_no = parse_partition_key(context.partition_key)
    with retried_after_outage(context.op_execution_context):
        found = check_batch(stores, name, batch_no, context.log.info)
    for asset, check in _BATCH_CHECKS:
        if dg.AssetCheckKey(asset, check) in context.selected_asset_check_keys:
            yield check_result(found.outcomes[check], asset)


@dg.multi_asset_check(
    name="synthetic_dataset_checks",
    specs=[
        dg.AssetCheckSpec(
            name, asset=synthetic_dataset_summary, description=description, partitions_def=synthetic_datasets
        )
        for name, (_, description) in DATASET_CHECKS.items()
    ],
)
def synthetic_dataset_checks(
    context: dg.AssetCheckExecutionContext, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.AssetCheckResult]:
    """Validate a dataset; an outage raises and fails no check."""
    with retried_after_outage(context.op_execution_context):
        validation = validate_dataset(stores, context.partition_key, progress=context.log.info)
    for outcome in validation.outcomes:
        yield check_result(outcome, synthetic_dataset_summary.key)


@dg.op(name="validate", out={})
def _validate(
    context: dg.OpExecutionContext, config: ValidationConfig, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Check a dataset, and batches whose checks fail or failed before."""
    with retried_after_outage(context):
        validation = validate_dataset(
            stores, context.partition_key, checksums=config.checksums, progress=context.log.info
        )
        found = list(evaluations(context.instance, stores, validation))
    context.log.info(f"{context.partition_key}: {validation.health_status}")
    yield from found


# A job of ops, since Dagster 1.13 gives no partitions to a job that selects only checks.
@dg.job(
    partitions_def=synthetic_datasets,
    description="Checks that a dataset's rows and objects agree; with `ops: {validate: {config: {checksums: true}}}` "
    "it reads every object, and regenerates one in a hundred samples.",
    hooks={started_again_after_outage},
    tags=RUN_AGAIN_WHOLE,
)
def validate_synthetic_dataset() -> None:
    """Validate one dataset."""
    _validate()


@dg.op(name="repair", pool=ALL_CORES, out={})
def _repair(
    context: dg.OpExecutionContext, config: RepairConfig, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.AssetCheckEvaluation | dg.AssetObservation]:
    """Report what a repair would do or, with ``apply: true``, repair the dataset and check it again."""
    name = context.partition_key
    found: list[dg.AssetCheckEvaluation] = []
    if config.features:
        yield from _repair_features(context, stores, apply=config.apply)
        return
    if config.overwrite not in ("", name):
        raise NotConfirmedError(f"overwrite: {config.overwrite}: to confirm, give the dataset's name, {name}")
    with retried_after_outage(context):
        if config.apply:
            with Workers(num_workers_wanted()) as workers:
                plan = repair_dataset(
                    stores,
                    name,
                    workers,
                    checksums=config.checksums,
                    restore=config.restore_parameters,
                    overwrite=bool(config.overwrite),
                    progress=context.log.info,
                    making=lambda so_far: context.log.info(str(so_far)),
                )
            validation = validate_dataset(
                stores, plan.dataset.name, checksums=config.checksums, progress=context.log.info
            )
            found += evaluations(context.instance, stores, validation, plan.batches_touched)
        else:
            plan = plan_repair(stores, name, checksums=config.checksums, progress=context.log.info)
    context.log.info("\n".join(plan.lines(is_done=config.apply)))
    yield _observation(plan, is_done=config.apply)
    yield from found


def _repair_features(
    context: dg.OpExecutionContext, stores: Stores, *, apply: bool
) -> Iterator[dg.AssetCheckEvaluation | dg.AssetObservation]:
    """Count the rows of older features or, with ``apply``, regenerate and check them."""
    name = context.partition_key
    found: list[dg.AssetCheckEvaluation] = []
    with retried_after_outage(context):
        if apply:
            with Workers(num_workers_wanted()) as workers:
                repair = repair_features(stores, name, workers, context.log.info)
            validation = validate_dataset(stores, name, progress=context.log.info)
            found += evaluations(context.instance, stores, validation, repair.batches)
        else:
            repair = plan_feature_repair(stores, name)
    lines = repair.lines(is_done=apply)
    context.log.info("\n".join(lines))
    yield dg.AssetObservation(
        synthetic_dataset.key,
        partition=name,
        description="features repaired" if apply else "what a repair of features would do",
        metadata={"done" if apply else "planned": dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))},
    )
    yield from found


@dg.job(
    partitions_def=synthetic_datasets,
    description="Reports what a repair would do; with `ops: {repair: {config: {apply: true}}}` it repairs a dataset: "
    "regenerates samples, corrects counts, and deletes orphan objects. With `features: true` it only brings features "
    "of an older version to the present one. Refuses while a batch of the dataset is being made.",
    hooks={started_again_after_outage},
    tags=RUN_AGAIN_WHOLE,
)
def repair_synthetic_dataset() -> None:
    """Repair one dataset."""
    _repair()


def evaluations(
    instance: dg.DagsterInstance, stores: Stores, validation: DatasetValidation, also_batches: Iterable[int] = ()
) -> Iterator[dg.AssetCheckEvaluation]:
    """Report the findings of a validation of a dataset, and check batches again.

    These are batches with a problem, batches whose last checks failed, and those given.
    """
    for outcome in validation.outcomes:
        yield check_evaluation(outcome, synthetic_dataset_summary.key, validation.dataset.name)
    dataset = get_dataset(stores.database, validation.dataset.name)
    committed = {batch.batch_no for batch in list_batches(stores.database, dataset.id)}
    affected = {
        *islice(validation.concerned_batches, MAX_BATCHES_REPORTED),
        *also_batches,
        *_failing_batches(instance, dataset),
    }
    for batch_no in sorted(affected & committed):
        yield from evaluations_of_batch(stores, dataset.name, batch_no)


def evaluations_of_batch(stores: Stores, name: str, batch_no: int) -> Iterator[dg.AssetCheckEvaluation]:
    """Check a batch, and report the findings without a run of its checks."""
    found = check_batch(stores, name, batch_no)
    for asset, check in _BATCH_CHECKS:
        yield check_evaluation(found.outcomes[check], asset, partition_key(name, batch_no))


def _failing_batches(instance: dg.DagsterInstance, dataset: Dataset) -> set[int]:
    """Batches whose last check in Dagster failed."""
    keys = [dg.AssetCheckKey(asset, name) for asset, name in _BATCH_CHECKS]
    remaining = iter(batch_keys(dataset))
    failing: set[int] = set()
    while partitions := list(islice(remaining, _KEYS_PER_QUERY)):
        for info in instance.event_log_storage.get_asset_check_partition_info(keys, partition_keys=partitions):
            if info.latest_execution_status.value == _FAILED and info.partition_key is not None:
                failing.add(parse_partition_key(info.partition_key)[1])
    return failing


def _observation(plan: RepairPlan, *, is_done: bool) -> dg.AssetObservation:
    numbers = [(name.replace("_", " "), number) for name, number in plan.numbers().items()]
    return dg.AssetObservation(
        synthetic_dataset.key,
        partition=plan.dataset.name,
        description="repaired" if is_done else "what a repair would do",
        metadata={
            "done" if is_done else "planned": table_metadata(("what", "how many"), numbers),
            "found": dg.MetadataValue.md("\n".join(f"- {example}" for example in plan.examples) or "nothing"),
        },
    )
