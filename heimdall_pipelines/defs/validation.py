"""The weekly validation: every dataset and every session, one after the other, in one run."""

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
from heimdall_pipelines.sessions.clock_estimates import ClockEstimates
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.datasets import DatasetNotFoundError, datasets_to_validate
from heimdall_pipelines.store.orphans import find_orphans
from heimdall_pipelines.store.sessions import completed_sessions, get_session
from heimdall_pipelines.store.stores import Stores


class ValidationIncompleteError(HeimdallError):
    """Some datasets could not be checked although every server was available; all others were checked."""


@dg.op(name="validate_all", out={})
def _validate(
    context: dg.OpExecutionContext, config: ValidationConfig, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Validate what this run has not validated yet: after an outage it continues."""
    record = context.instance.get_run_record_by_id(context.run_id)
    assert record is not None
    problems: list[str] = []
    with retried_after_outage(context):
        yield from _datasets(context, stores, record.create_timestamp, problems, checksums=config.checksums)
        yield from _sessions(context, stores, record.create_timestamp, checksums=config.checksums)
        for orphan in find_orphans(stores):
            if orphan.is_young:
                continue  # a deletion may be running; the next validation finds it again
            context.log.warning(
                f"{orphan.bucket}/{orphan.prefix}: {orphan.num_objects} orphan objects: their dataset or session was "
                "deleted. Delete them with: heimdall db sweep --apply"
            )
    if problems:
        raise ValidationIncompleteError(f"some datasets could not be checked: {'; '.join(problems)}")


@dg.job(
    description="Checks that rows and objects of every dataset and session agree; with "
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
    for dataset in datasets_to_validate(stores.database):
        if _is_since(dataset.last_validated_at, began):
            continue
        try:
            looked = check_dataset(stores, dataset.name, checksums=checksums, progress=context.log.info)
            validation = DatasetValidation.of(looked)
            found = list(evaluations(context.instance, stores, validation))
            keep_validation(stores, validation)  # last: what is stored is skipped after an outage
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
    clocks = ClockEstimates()
    for session in completed_sessions(stores.database):
        try:
            if _is_since(get_session(stores.database, session.id).last_validated_at, began):
                continue
            validation = validate_session(stores, session.id, checksums=checksums, clocks=clocks)
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
