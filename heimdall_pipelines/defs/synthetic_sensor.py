"""The sensor that requests the missing batches of synthetic datasets and the summaries of complete ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

import dagster as dg

from heimdall_pipelines.defs.partitions import (
    SYNTHETIC_BATCHES,
    SYNTHETIC_DATASETS,
    synthetic_batches,
    synthetic_datasets,
)
from heimdall_pipelines.defs.requested_runs import UNFINISHED, unrequested
from heimdall_pipelines.defs.synthetic import (
    batch_keys,
    dataset_materialization,
    make_synthetic_batches,
    summarise_synthetic_dataset,
)
from heimdall_pipelines.model.batches import BatchRange
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.dataset_summaries import outdated_summaries
from heimdall_pipelines.store.datasets import Dataset, list_datasets
from heimdall_pipelines.store.stores import Stores

MAX_REQUESTS_PER_TICK = 100
MAX_UNFINISHED_RUNS = 100  # of batches, so that runs of other jobs get through the queue
_PAGE = 200


@dataclass(frozen=True)
class RunWanted:
    """A run that should have been requested.

    Its key identifies the result: more samples give a new key, a failed or cancelled run does not.
    """

    dataset: Dataset
    job_name: str
    partition_key: str
    run_key: str

    @classmethod
    def of_batch(cls, dataset: Dataset, span: BatchRange) -> "RunWanted":
        """Make a batch up to its dataset's target."""
        run_key = f"{dataset.id}:{span.batch_no}:{span.end_sample_idx}"
        return cls(dataset, make_synthetic_batches.name, span.partition_key, run_key)

    @classmethod
    def of_summary(cls, dataset: Dataset, outdated: Mapping[UUID, tuple[int, str]]) -> "RunWanted":
        """Summarise a dataset with its current samples, again if their content has changed since.

        `outdated` has the number of samples of the last summary, and the present root digest.
        """
        run_key = f"{dataset.id}:summary:{dataset.num_samples}"
        num_summarised, root = outdated.get(dataset.id, (-1, ""))
        if num_summarised == dataset.num_samples:
            run_key += f":{root[:16]}"
        return cls(dataset, summarise_synthetic_dataset.name, dataset.name, run_key)


def wanted_batches(stores: Stores, datasets: Iterable[Dataset]) -> Iterator[RunWanted]:
    """Missing batches in the order of the datasets; those of another generator version cannot be made here."""
    for dataset in datasets:
        if not is_complete(dataset) and dataset.generator_version == GENERATOR_VERSION:
            for span in dataset.grid.missing(list_batches(stores.database, dataset.id)):
                yield RunWanted.of_batch(dataset, span)


def is_complete(dataset: Dataset) -> bool:
    """Whether all samples of the target are committed."""
    return dataset.num_samples >= dataset.target_num_samples


def _unrequested(instance: dg.DagsterInstance, wanted: Iterable[RunWanted]) -> Iterator[RunWanted]:
    """Those for which no run was requested yet, in their order; read page by page, lazily."""
    remaining = iter(wanted)
    while page := list(islice(remaining, _PAGE)):
        yield from unrequested(instance, page)


@dg.sensor(
    jobs=[make_synthetic_batches, summarise_synthetic_dataset],
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Requests the missing batches of all synthetic datasets, oldest dataset first, and a summary of "
    "each complete dataset, again when its samples have changed.",
)
def requested_synthetic_batches(
    context: dg.SensorEvaluationContext, stores: dg.ResourceParam[Stores]
) -> dg.SensorResult | dg.SkipReason:
    """Level-triggered: missing batches and summaries are due; there is no cursor to lose."""
    instance = context.instance
    datasets = [dataset for dataset in list_datasets(stores.database) if dataset.deletion_began_at is None]
    for dataset in datasets:
        if not is_complete(dataset) and dataset.generator_version != GENERATOR_VERSION:
            context.log.info(
                f"{dataset.name} is skipped: its generator version is {dataset.generator_version}, "
                f"this program has version {GENERATOR_VERSION}"
            )
    num_unfinished = _num_unfinished_batch_runs(instance)
    num_allowed = max(0, min(MAX_REQUESTS_PER_TICK, MAX_UNFINISHED_RUNS - num_unfinished))
    due = list(islice(_unrequested(instance, wanted_batches(stores, datasets)), num_allowed))
    outdated = outdated_summaries(stores.database)
    complete = filter(is_complete, datasets)
    summaries = _unrequested(instance, (RunWanted.of_summary(dataset, outdated) for dataset in complete))
    due += islice(summaries, MAX_REQUESTS_PER_TICK - len(due))

    known = set(instance.get_dynamic_partitions(SYNTHETIC_DATASETS))
    unknown = [dataset for dataset in datasets if dataset.name not in known]
    if not due and not unknown:
        return dg.SkipReason(_nothing_to_do(datasets, num_unfinished))
    touched = {dataset.id: dataset for dataset in (*unknown, *(run.dataset for run in due))}
    return dg.SensorResult(
        dynamic_partitions_requests=[
            synthetic_datasets.build_add_request([dataset.name for dataset in unknown]),
            synthetic_batches.build_add_request(_unknown_batches(instance, touched.values())),
        ],
        run_requests=[
            dg.RunRequest(run_key=run.run_key, job_name=run.job_name, partition_key=run.partition_key) for run in due
        ],
        asset_events=[dataset_materialization(dataset, None) for dataset in unknown],
    )


def _num_unfinished_batch_runs(instance: dg.DagsterInstance) -> int:
    return instance.get_runs_count(dg.RunsFilter(job_name=make_synthetic_batches.name, statuses=UNFINISHED))


def _unknown_batches(instance: dg.DagsterInstance, datasets: Iterable[Dataset]) -> list[str]:
    known = set(instance.get_dynamic_partitions(SYNTHETIC_BATCHES))
    return [key for dataset in datasets for key in batch_keys(dataset) if key not in known]


def _nothing_to_do(datasets: Sequence[Dataset], num_unfinished: int) -> str:
    incomplete = [dataset.name for dataset in datasets if not is_complete(dataset)]
    if not incomplete:
        return "every dataset is complete" if datasets else "there is no dataset"
    names = ", ".join(incomplete[:5]) + (f" and {len(incomplete) - 5} more" if len(incomplete) > 5 else "")
    if num_unfinished:
        return f"{num_unfinished} runs that make batches are not finished; incomplete datasets: {names}"
    return (
        f"the missing batches of {names} were requested and failed or were cancelled, or need another generator "
        "version: see the runs of make_synthetic_batches; to retry, materialize synthetic/batches for these partitions"
    )
