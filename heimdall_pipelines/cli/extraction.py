"""Runs the extraction job in this process, recorded on the Dagster instance, and prints its result."""

from dataclasses import dataclass

import dagster as dg

from heimdall_pipelines.cli.console import output, table
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.command_runs import command_heartbeat, command_tags
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import extract_recorded_session, raw_iq_materialization
from heimdall_pipelines.defs.resources import stores_resource
from heimdall_pipelines.defs.run_errors import step_failure_text
from heimdall_pipelines.defs.stations import websdr_stations
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.session_revisions import SessionRevision
from heimdall_pipelines.store.sessions import RecordingSession, SessionBeingDeletedError
from heimdall_pipelines.store.stores import Stores

_QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}


class RunFailedError(HeimdallError):
    """The run failed; the message is from its step."""


@dataclass(frozen=True)
class JobOutcome:
    """The result of a run: the evaluations of its checks."""

    checks: tuple[dg.AssetCheckEvaluation, ...]

    @property
    def passed(self) -> bool:
        """True if no check failed with severity ERROR."""
        return all(check.passed or check.severity is dg.AssetCheckSeverity.WARN for check in self.checks)


def materialize_stations() -> None:
    """Run the asset `websdr_stations`."""
    with dagster_instance() as instance:
        dg.materialize(
            [websdr_stations],
            instance=instance,
            resources={"stores": stores_resource},
            run_config=_QUIET,
            tags=command_tags(),
        )


def extract_now(stores: Stores, session: RecordingSession) -> JobOutcome:
    """Run the job `extract_recorded_session` for one session; raises as `extract_on`."""
    with dagster_instance() as instance:
        return extract_on(instance, stores, session)


def extract_on(
    instance: dg.DagsterInstance,
    stores: Stores,
    session: RecordingSession,
    job_name: str = extract_recorded_session.name,
) -> JobOutcome:
    """Run the job `extract_recorded_session` for one session, on an instance that is open.

    Parameters
    ----------
    instance : DagsterInstance
    stores : Stores
    session : RecordingSession
    job_name : str, optional
        Another job of the same partitions.

    Raises
    ------
    RunFailedError
        With the reason; the run's log is in the Dagster UI.
    KeyboardInterrupt
        Ctrl-C; the session's rows are unchanged.
    SessionBeingDeletedError
        Its deletion has begun; nothing was recorded in Dagster.
    """
    if session.deletion_began_at is not None:
        raise SessionBeingDeletedError(session.slug)
    instance.add_dynamic_partitions(RECORDING_SESSIONS, [session.slug])
    iq = raw_iq_materialization(stores, SessionRevision(session.id, session.slug, session.revision))
    instance.report_runless_asset_event(iq)
    job = build_definitions().resolve_job_def(job_name)
    with command_heartbeat(instance):
        result = job.execute_in_process(
            run_config=_QUIET,
            partition_key=session.slug,
            instance=instance,
            raise_on_error=False,
            tags=command_tags(),
        )
    if not result.success:
        if any(_is_interruption(event) for event in result.all_events):
            raise KeyboardInterrupt  # Dagster converts it to a failed run
        raise RunFailedError("\n".join(_reasons(result)) + f"\n(run {result.run_id}, see its log in the Dagster UI)")
    return JobOutcome(tuple(result.get_asset_check_evaluations()))


def print_checks(outcome: JobOutcome) -> None:
    """Print the result and the compared numbers of each check."""
    rows = table("check", "result", "compared")
    for check in outcome.checks:
        result = "passed" if check.passed else f"failed ({check.severity.value}): {check.description}"
        numbers = ", ".join(
            f"{name} {value.value}" for name, value in check.metadata.items() if isinstance(value, dg.IntMetadataValue)
        )
        rows.add_row(check.check_name, result, numbers)
    output.print(rows)


def _is_interruption(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error if event.is_step_failure else None
    return error is not None and error.cls_name == "DagsterExecutionInterruptedError"


def _reasons(result: dg.ExecuteInProcessResult) -> list[str]:
    reasons = [step_failure_text(event) for event in result.all_events if event.is_step_failure]
    return reasons or ["the run failed before its first step"]
