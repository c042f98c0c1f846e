"""The weekly look at everything: every dataset and every session is validated, one after the other, in one run."""

from collections.abc import Iterator
from datetime import datetime

import dagster as dg

from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.datasets.validation import DatasetValidation, keep_validation
from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage, started_again_after_outage
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import session_evaluations
from heimdall_pipelines.defs.synthetic_checks import ValidationConfig, evaluations
from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.datasets import DatasetNotFoundError, list_datasets
from heimdall_pipelines.store.orphans import find_orphans
from heimdall_pipelines.store.sessions import completed_sessions, get_session
from heimdall_pipelines.store.stores import Stores


class ValidationIncompleteError(HeimdallError):
    """Datasets that could not be looked at, though every server was there; all others were."""


@dg.op(name="validate_all", out={})
def _validate(
    context: dg.OpExecutionContext, config: ValidationConfig, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Validate what this run has not validated yet: after an outage it goes on where it was."""
    record = context.instance.get_run_record_by_id(context.run_id)
    assert record is not None
    problems: list[str] = []
    with retried_after_outage(context):
        yield from _datasets(context, stores, record.create_timestamp, problems, checksums=config.checksums)
        yield from _sessions(context, stores, record.create_timestamp, checksums=config.checksums)
        for leftover in find_orphans(stores):
            if leftover.is_young:
                continue  # a deletion may be at work; the next week sees it again
            context.log.warning(
                f"{leftover.bucket}/{leftover.prefix}: {leftover.num_objects} objects of a dataset or session that is "
                "no more; to remove them: heimdall db sweep --apply"
            )
    if problems:
        raise ValidationIncompleteError(f"not everything could be looked at: {'; '.join(problems)}")


@dg.job(
    description="Looks whether rows and objects of every dataset and session agree; with "
    "`ops: {validate_all: {config: {checksums: true}}}` it reads every object.",
    hooks={started_again_after_outage},
    tags=RUN_AGAIN_WHOLE,
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
    context: dg.OpExecutionContext, stores: Stores, began: datetime, problems: list[str], *, checksums: bool
) -> Iterator[dg.AssetCheckEvaluation]:
    for dataset in list_datasets(stores.database):
        if dataset.deletion_began_at is not None or _is_since(dataset.last_validated_at, began):
            continue
        try:
            looked = check_dataset(stores, dataset.name, checksums=checksums, progress=context.log.info)
            validation = DatasetValidation.of(looked)
            found = list(evaluations(context.instance, stores, validation))
            keep_validation(stores, validation)  # last: what is kept is passed over after an outage
        except DatasetNotFoundError:
            continue  # deleted meanwhile
        except UnavailableError:
            raise
        except HeimdallError as error:
            problems.append(str(error))
            continue
        context.log.info(f"dataset {dataset.name}: {validation.health_status}")
        yield from found


def _sessions(
    context: dg.OpExecutionContext, stores: Stores, began: datetime, *, checksums: bool
) -> Iterator[dg.AssetCheckEvaluation]:
    for session in completed_sessions(stores.database):
        try:
            if _is_since(get_session(stores.database, session.id).last_validated_at, began):
                continue
            validation = validate_session(stores, session.id, checksums=checksums)
        except UnavailableError:
            raise
        except HeimdallError as error:
            context.log.warning(f"session {session.slug} was not validated: {error}")  # deleted or completed again
            continue
        context.log.info(f"session {session.slug}: {validation.health_status}")
        context.instance.add_dynamic_partitions(RECORDING_SESSIONS, [session.slug])
        yield from session_evaluations(validation)


def _is_since(validated_at: datetime | None, began: datetime) -> bool:
    """Whether something was validated after this run began."""
    return validated_at is not None and validated_at >= began
