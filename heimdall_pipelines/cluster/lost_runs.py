"""Runs that were handed to the workers and that nobody has: Dagster's run monitoring looks for started ones alone."""

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import dagster as dg

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.waiting_runs import waiting_runs

LAUNCHED_WITHIN = timedelta(minutes=1)  # between a run's leaving Dagster's queue and its place in Redis's
_LOST = "No worker got this run: it neither waits in Redis nor leaves a heartbeat."


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Fails runs that were lost on their way to a worker, so that Dagster starts them once more.",
)
def lost_runs(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Lost is what two looks missed, one after the other; the cursor has whom the last one missed."""
    if settings.run_launcher != "celery":
        return dg.SkipReason("runs execute beside the code server: HEIMDALL_RUN_LAUNCHER is local")
    import redis  # with the extra `cluster`

    try:
        missed = _held_by_none(settings, _starting(context.instance))
    except (redis.RedisError, OSError) as error:
        return _said(f"Redis (HEIMDALL_REDIS_URL) could not be asked: {error}", missed=())
    lost = [run_id for run_id in json.loads(context.cursor or "[]") if run_id in missed and _fail(context, run_id)]
    return _said(f"lost: {', '.join(lost)}" if lost else "no run is lost", missed)


def _said(words: str, missed: Collection[str]) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=words, cursor=json.dumps(sorted(missed)))


def _starting(instance: dg.DagsterInstance) -> list[str]:
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    launched_before = datetime.now(UTC) - LAUNCHED_WITHIN
    return [record.dagster_run.run_id for record in records if record.update_timestamp < launched_before]


def _held_by_none(settings: Settings, run_ids: Collection[str]) -> set[str]:
    from heimdall_pipelines.cluster.heartbeat import heartbeats_in, is_alive  # needs the extra as well

    with heartbeats_in(settings) as client:
        waiting = waiting_runs(client)  # first: a run goes from the queue to a worker, never back
        return {run_id for run_id in run_ids if run_id not in waiting and not is_alive(client, run_id)}


def _fail(context: dg.SensorEvaluationContext, run_id: str) -> bool:
    run = context.instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.STARTING:
        return False
    context.instance.report_run_failed(run, _LOST)
    return True
