"""The weekly look at everything: every dataset and every session is validated, one after the other, in one run."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.defs.check_results import log_evaluation
from heimdall_pipelines.defs.outages import retried_after_outage
from heimdall_pipelines.defs.synthetic_checks import ValidationConfig, evaluations
from heimdall_pipelines.store.datasets import DatasetNotFoundError, list_datasets
from heimdall_pipelines.store.leftovers import find_leftovers
from heimdall_pipelines.store.stores import Stores


@dg.op(name="validate_all")
def _validate(context: dg.OpExecutionContext, config: ValidationConfig, stores: dg.ResourceParam[Stores]) -> None:
    """Validate what this run has not validated yet: after an outage it goes on where it was."""
    record = context.instance.get_run_record_by_id(context.run_id)
    assert record is not None
    began = record.create_timestamp
    with retried_after_outage(context):
        for evaluation in _datasets(context, stores, began, checksums=config.checksums):
            log_evaluation(context, evaluation)
        for leftover in find_leftovers(stores):
            context.log.warning(
                f"{leftover.bucket}/{leftover.prefix}: {leftover.num_objects} objects of a dataset or session that is "
                "no more; to remove them: heimdall db sweep --apply"
            )


@dg.job(
    description="Looks whether rows and objects of every dataset and session agree; with "
    "`ops: {validate_all: {config: {checksums: true}}}` it reads every object."
)
def validate_everything() -> None:
    """Validate all."""
    _validate()


weekly_validation = dg.ScheduleDefinition(
    name="weekly_validation",
    job=validate_everything,
    cron_schedule="0 3 * * 0",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Validates everything on Sundays at 3:00 UTC.",
)


def _datasets(
    context: dg.OpExecutionContext, stores: Stores, began: datetime, *, checksums: bool
) -> Iterator[dg.AssetCheckEvaluation]:
    for dataset in list_datasets(stores.database):
        if dataset.deletion_began_at is not None or is_since(dataset.last_validated_at, began):
            continue
        try:
            validation = validate_dataset(stores, dataset.name, checksums=checksums, progress=context.log.info)
        except DatasetNotFoundError:
            continue  # deleted meanwhile
        context.log.info(f"dataset {dataset.name}: {validation.health_status}")
        yield from evaluations(context.instance, stores, validation)


def is_since(validated_at: datetime | None, began: datetime) -> bool:
    """Whether something was validated after a run began."""
    return validated_at is not None and validated_at >= began.replace(tzinfo=began.tzinfo or UTC)
