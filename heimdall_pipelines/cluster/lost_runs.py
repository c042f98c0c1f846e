"""Runs that were sent to the workers and never reached one: Dagster's run monitoring checks only started runs."""

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import dagster as dg

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.waiting_runs import waiting_runs

LAUNCH_TIMEOUT = timedelta(minutes=1)  # from leaving Dagster's queue to arriving in Redis's queue
_LOST = "No worker got this run: it is not in the queue in Redis and sends no heartbeat."


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Fails runs that were lost on their way to a worker, so that Dagster retries them.",
)
def lost_runs(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """A run is lost when it is missing in two checks in a row; the cursor has the runs missing in the last one."""
    if settings.run_launcher != "celery":
        return dg.SkipReason("runs execute on the machine of the code server: HEIMDALL_RUN_LAUNCHER is local")
    import redis  # with the extra `cluster`

    try:
        missing = _missing(settings, _starting(context.instance))
    except (redis.RedisError, OSError) as error:
        return _result(f"cannot query Redis (HEIMDALL_REDIS_URL): {error}", missing=())
    lost = [run_id for run_id in json.loads(context.cursor or "[]") if run_id in missing and _fail(context, run_id)]
    return _result(f"lost: {', '.join(lost)}" if lost else "no run is lost", missing)


def _result(message: str, missing: Collection[str]) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=message, cursor=json.dumps(sorted(missing)))


def _starting(instance: dg.DagsterInstance) -> list[str]:
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    launched_before = datetime.now(UTC) - LAUNCH_TIMEOUT
    return [record.dagster_run.run_id for record in records if record.update_timestamp < launched_before]


def _missing(settings: Settings, run_ids: Collection[str]) -> set[str]:
    from heimdall_pipelines.cluster.heartbeat import heartbeats_in, is_alive  # needs the extra as well

    with heartbeats_in(settings) as client:
        waiting = waiting_runs(client)  # first: a run moves from the queue to a worker, never back
        return {run_id for run_id in run_ids if run_id not in waiting and not is_alive(client, run_id)}


def _fail(context: dg.SensorEvaluationContext, run_id: str) -> bool:
    run = context.instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.STARTING:
        return False
    context.instance.report_run_failed(run, _LOST)
    return True
