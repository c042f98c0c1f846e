"""Daemons and runs of Dagster, read from its running UI by GraphQL: importing Dagster here would take much longer."""

import http.client
import json
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.status.command_process import parse_process
from heimdall_pipelines.status.report import Daemon, RecentFailedRun, RunInProgress, Runs
from heimdall_pipelines.status.run_tags import PARTITION_TAG, PROCESS_TAG, WILL_RETRY_TAG

RECENT = timedelta(hours=24)
MAX_FAILED_NAMED = 100
UNFINISHED = ("QUEUED", "STARTING", "STARTED", "CANCELING")
IN_PROGRESS = UNFINISHED[1:]  # these take a place of the queue
MAX_IN_PROGRESS_NAMED = 100
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_ANSWER_TIMEOUT_S = 4.0

_DAEMONS = """instance { daemonHealth { allDaemonStatuses {
    daemonType required lastHeartbeatTime lastHeartbeatErrors { message } } } }"""
_RESULTS = {
    "QUEUED": "results { creationTime }",
    "FAILURE": "results { runId jobName tags { key value } endTime updateTime }",
} | dict.fromkeys(IN_PROGRESS, "results { runId jobName tags { key value } creationTime }")
_LIMITS = {"FAILURE": MAX_FAILED_NAMED} | dict.fromkeys(IN_PROGRESS, MAX_IN_PROGRESS_NAMED)


class UiAnswerError(HeimdallError):
    """The server at the UI's address did not answer in time, or its answer is not one of Dagster's UI."""


@dataclass(frozen=True)
class DagsterStatus:
    """Daemons and runs of Dagster's instance."""

    daemons: tuple[Daemon, ...]
    runs: Runs


def status_of_ui(ui_url: str, now: datetime) -> DagsterStatus:
    """Read daemons and runs from the UI; ages refer to the given time.

    Raises
    ------
    UiAnswerError
        It does not answer in time, or the answer is not one of Dagster's UI.
    """
    try:
        found = _answer(ui_url, _query(now))
        return DagsterStatus(_daemons(found, now), _runs(found, now))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UiAnswerError(f"{ui_url}/graphql: {type(error).__name__}: {error}") from error


def first_line(messages: tuple[str, ...]) -> str | None:
    r"""Return the first line of a daemon's errors; None without errors.

    >>> first_line(("", "no such table: it is missing\nat line 3"))
    'no such table: it is missing'
    """
    lines = [line for message in messages for line in message.strip().splitlines()]
    return lines[0] if lines else None


def _answer(ui_url: str, query: str) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310
        f"{ui_url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_ANSWER_TIMEOUT_S) as answer:  # noqa: S310
        data: dict[str, Any] = json.loads(answer.read())["data"]
        return data


def _query(now: datetime) -> str:
    recent = f", updatedAfter: {(now - RECENT).timestamp()!r}"
    runs = "\n".join(
        f"{status}: runsOrError(filter: {{statuses: [{status}]{recent if status in ENDED else ''}}}"
        f"{f', limit: {_LIMITS[status]}' if status in _LIMITS else ''})"
        f" {{ ... on Runs {{ count {_RESULTS.get(status, '')} }} }}"
        for status in (*UNFINISHED, *ENDED)
    )
    return f"{{ {_DAEMONS}\n{runs} }}"


def _daemons(found: Mapping[str, Any], now: datetime) -> tuple[Daemon, ...]:
    daemons = found["instance"]["daemonHealth"]["allDaemonStatuses"]
    return tuple(
        _daemon(daemon, now) for daemon in sorted(daemons, key=lambda d: str(d["daemonType"])) if daemon["required"]
    )


def _daemon(daemon: Mapping[str, Any], now: datetime) -> Daemon:
    at_s = daemon["lastHeartbeatTime"]
    if at_s is None:
        return Daemon(daemon["daemonType"], None)
    errors = first_line(tuple(error["message"] for error in daemon["lastHeartbeatErrors"]))
    return Daemon(daemon["daemonType"], max(0.0, now.timestamp() - at_s), errors)


def _runs(found: Mapping[str, Any], now: datetime) -> Runs:
    queued = [run["creationTime"] for run in found["QUEUED"]["results"]]
    return Runs(
        unfinished={status.lower(): int(found[status]["count"]) for status in UNFINISHED},
        ended_last_24_h={status.lower(): int(found[status]["count"]) for status in ENDED},
        oldest_queued_age_s=now.timestamp() - min(queued) if queued else None,
        failed=tuple(_failed(found["FAILURE"]["results"], now)),
        in_progress=tuple(
            run_in_progress(run["runId"], run["jobName"], _tags(run), now.timestamp() - run["creationTime"])
            for status in IN_PROGRESS
            for run in found[status]["results"]
        ),
    )


def run_in_progress(run_id: str, job: str, tags: Mapping[str, str], age_s: float) -> RunInProgress:
    """Describe a run that takes a place of the queue."""
    process = parse_process(tags.get(PROCESS_TAG))
    return RunInProgress(
        run_id,
        job,
        tags.get(PARTITION_TAG),
        age_s,
        None if process is None else process.text,
        None if process is None else process.has_ended(),
    )


def _tags(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def _failed(runs: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[RecentFailedRun]:
    for run in runs:
        tags = _tags(run)
        if tags.get(WILL_RETRY_TAG) != "true":
            age_s = now.timestamp() - (run["endTime"] or run["updateTime"])
            yield RecentFailedRun(run["runId"], run["jobName"], tags.get(PARTITION_TAG), age_s)
