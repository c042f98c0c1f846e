"""Runs that Dagster's run monitoring does not find: of commands that were killed, and those that reached no worker."""

import json
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from heimdall_pipelines.cluster.missed_retries import report_missed_retries
from heimdall_pipelines.defs.command_runs import HeartbeatWatch, end_lost_runs
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.run_tags import PROCESS_TAG
from heimdall_pipelines.status.waiting_runs import waiting_runs

LAUNCH_TIMEOUT = timedelta(minutes=1)  # from leaving Dagster's queue to arriving in Redis's queue
_LOST = "No worker got this run: it is not in the queue in Redis and sends no heartbeat."


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Fails runs whose command was killed, and runs that were lost on their way to a worker, which Dagster "
    "retries; reports a failure again that Dagster was to retry and did not.",
)
def lost_runs(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """A run of a worker is lost when it is missing in two checks in a row; the cursor has those of the last one."""
    before = _cursor(context)
    watch = HeartbeatWatch(before.get("heartbeats", {}))
    for run_id in report_missed_retries(context.instance):
        context.log.warning("the daemon did not retry run %s: its failure is reported again", run_id)
    lost = end_lost_runs(context.instance) + watch.end_lost_runs(context.instance, time.time())
    if settings.run_launcher != "celery":
        return _result(lost, (), watch, "no run is lost; HEIMDALL_RUN_LAUNCHER is local, so that none goes to a worker")
    import redis  # with the extra `cluster`

    try:
        missing = _missing(settings, _starting(context.instance))
    except (redis.RedisError, OSError) as error:
        return _result(lost, (), watch, f"cannot query Redis (HEIMDALL_REDIS_URL): {error}")
    lost += [run_id for run_id in before.get("missing", ()) if run_id in missing and _fail(context, run_id)]
    return _result(lost, missing, watch, "no run is lost")


def _cursor(context: dg.SensorEvaluationContext) -> dict[str, Any]:
    stored = json.loads(context.cursor or "{}")
    return stored if isinstance(stored, dict) else {"missing": stored}  # a list in earlier versions


def _result(lost: Collection[str], missing: Collection[str], watch: HeartbeatWatch, otherwise: str) -> dg.SensorResult:
    cursor = {"missing": sorted(missing), "heartbeats": watch.seen}
    return dg.SensorResult(skip_reason=f"lost: {', '.join(lost)}" if lost else otherwise, cursor=json.dumps(cursor))


def _starting(instance: dg.DagsterInstance) -> list[str]:
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    launched_before = datetime.now(UTC) - LAUNCH_TIMEOUT
    return [
        record.dagster_run.run_id
        for record in records
        if record.update_timestamp < launched_before and PROCESS_TAG not in record.dagster_run.tags
    ]


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
