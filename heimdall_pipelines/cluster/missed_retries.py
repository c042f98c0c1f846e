"""Failed runs that Dagster's daemon was to retry and did not.

A run's failure is stored as an event first and in the run's status after it. Where the daemon reads the event in
between, it finds a run that has not failed, and never looks at it again.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from heimdall_pipelines.status.run_tags import AUTO_RETRY_RUN_ID_TAG, REPORTED_AGAIN_TAG, WILL_RETRY_TAG

RETRY_TIMEOUT = timedelta(minutes=1)  # the daemon reads the events of failures every 5 s
_OLDEST = timedelta(days=1)
_REPORTED_AGAIN = "Dagster's daemon has not retried this run in a minute: its failure is reported again."


def report_missed_retries(instance: dg.DagsterInstance) -> list[str]:
    """Report the failure of such runs once more, so that the daemon retries them; returns the ids of these runs."""
    now = datetime.now(UTC)
    failed = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE], tags={WILL_RETRY_TAG: "true"}, updated_after=now - _OLDEST
        )
    )
    missed = [
        record.dagster_run
        for record in failed
        if record.update_timestamp < now - RETRY_TIMEOUT
        and not {AUTO_RETRY_RUN_ID_TAG, REPORTED_AGAIN_TAG} & record.dagster_run.tags.keys()
    ]
    for run in missed:
        instance.add_run_tags(run.run_id, {REPORTED_AGAIN_TAG: "true"})
        instance.report_run_failed(run, _REPORTED_AGAIN)
    return [run.run_id for run in missed]
