"""Waits for runs of a Dagster instance."""

import dagster as dg

from heimdall_pipelines_tests.waiting import wait_for

FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def batch_run(instance: dg.DagsterInstance, partition: str) -> dg.DagsterRun:
    """Wait for the first run that makes a batch."""
    tags = {"dagster/partition": partition}

    def found() -> dg.DagsterRun | None:
        return next(
            iter(instance.get_runs(dg.RunsFilter(job_name="make_synthetic_batches", tags=tags), ascending=True)), None
        )

    return wait_for(f"a run of {partition}", found)


def wait_for_status(instance: dg.DagsterInstance, run_id: str, *statuses: dg.DagsterRunStatus) -> dg.DagsterRun:
    """Wait until a run has one of these statuses; it is an error where it ended with another."""

    def found() -> dg.DagsterRun | None:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        if run.status in statuses:
            return run
        assert run.status not in FINISHED, f"{run.status}: {words(instance, run_id)}"
        return None

    return wait_for(f"{run_id} to be {statuses}", found)


def words(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What a run's events say."""
    return [entry.message or entry.get_dagster_event().message or "" for entry in instance.all_logs(run_id)]
