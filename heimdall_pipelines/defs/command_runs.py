"""Runs that execute in a command of `heimdall`, such as `session extract`: tagged with its process, and ended with it.

A command that is killed cannot end its run, which would count as running for a day and fill the queue. The next command
on the same machine and the sensor `lost_runs` find such runs by the process in their tag; for other machines the sensor
reads the heartbeats of the commands.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import dagster as dg

from heimdall_pipelines.status.command_process import parse_process, this_process
from heimdall_pipelines.status.run_tags import PROCESS_TAG

HEARTBEAT_INTERVAL_S = 10.0
HEARTBEAT_TIMEOUT_S = 120.0
_HEARTBEATS_KEY = "heimdall_command_heartbeats"  # in Dagster's key-value table: one JSON object, process to time
_KEPT_S = 86_400.0
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_logger = logging.getLogger(__name__)


def command_tags() -> dict[str, str]:
    """Tags of a run of the present process; Dagster cannot retry such a run."""
    return {PROCESS_TAG: str(this_process()), "dagster/max_retries": "0"}


@contextmanager
def command_heartbeat(instance: dg.DagsterInstance) -> Iterator[None]:
    """Send heartbeats of the present process until the end of the block; an outage interrupts only them."""
    ended = threading.Event()
    thread = threading.Thread(target=_send_heartbeats, args=(instance, ended), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # an outage: the entry is removed with others of yesterday
            _store_heartbeat(instance, None)


def end_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs of commands that ended on this machine without ending them; returns the ids of these runs."""
    return [
        run.run_id
        for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
        if (process := parse_process(run.tags.get(PROCESS_TAG))) is not None
        and process.has_ended()
        and _fail(instance, run.run_id, f"The process of this run has ended: {process.text}.")
    ]


class HeartbeatWatch:
    """Finds runs of other machines whose command sends no heartbeat any more; by the clock of this machine alone.

    Parameters
    ----------
    seen : mapping
        What `seen` of the previous watch was; JSON.
    """

    def __init__(self, seen: Mapping[str, Any]) -> None:
        self._before = seen
        self.seen: dict[str, list[Any]] = {}

    def end_lost_runs(self, instance: dg.DagsterInstance, now_s: float) -> list[str]:
        """Fail the runs whose heartbeat has not changed for `HEARTBEAT_TIMEOUT_S`; returns their ids."""
        beats = _heartbeats(instance)
        lost = []
        for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
            process = parse_process(run.tags.get(PROCESS_TAG))
            if process is None or process.has_ended() is not None:
                continue
            beat = beats.get(str(process))
            last_beat, since_s = self._before.get(run.run_id, (None, now_s))
            if run.run_id not in self._before or beat != last_beat:
                since_s = now_s
            self.seen[run.run_id] = [beat, since_s]
            reason = f"The command of this run sends no heartbeat: {process.text}."
            if now_s - since_s > HEARTBEAT_TIMEOUT_S and _fail(instance, run.run_id, reason):
                lost.append(run.run_id)
        return lost


def _fail(instance: dg.DagsterInstance, run_id: str, reason: str) -> bool:
    run = instance.get_run_by_id(run_id)  # again: a process ends its run before it ends itself
    if run is None or run.is_finished:
        return False
    instance.report_run_failed(run, reason)
    return True


def _send_heartbeats(instance: dg.DagsterInstance, ended: threading.Event) -> None:
    is_unavailable = False
    while True:
        try:
            _store_heartbeat(instance, time.time())
            is_unavailable = False
        except Exception as error:  # an outage of PostgreSQL, as any error; the run itself has it too
            if not is_unavailable:
                _logger.warning("the command sends no heartbeats: %s", error)
            is_unavailable = True
        if ended.wait(HEARTBEAT_INTERVAL_S):
            return


def _store_heartbeat(instance: dg.DagsterInstance, now_s: float | None) -> None:
    """Set the heartbeat of this process, or remove it; one of another command lost in between comes again."""
    process = str(this_process())
    oldest_s = time.time() - _KEPT_S
    beats = {other: at_s for other, at_s in _heartbeats(instance).items() if at_s > oldest_s and other != process}
    if now_s is not None:
        beats[process] = now_s
    instance.daemon_cursor_storage.set_cursor_values({_HEARTBEATS_KEY: json.dumps(beats)})


def _heartbeats(instance: dg.DagsterInstance) -> dict[str, float]:
    stored = instance.daemon_cursor_storage.get_cursor_values({_HEARTBEATS_KEY}).get(_HEARTBEATS_KEY)
    return {} if stored is None else json.loads(stored)
