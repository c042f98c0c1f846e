"""Dagster's instance, in which commands record their results; the import takes a second."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from heimdall_pipelines.defs.command_runs import end_lost_runs
from heimdall_pipelines.errors import HeimdallError

_SENSOR_DAEMON = "SENSOR"
_MAX_HEARTBEAT_AGE_S = 90.0  # the interval is 30 s; Dagster itself considers a daemon healthy for half an hour


class NoInstanceError(HeimdallError):
    """Dagster's instance cannot be opened."""


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance of DAGSTER_HOME, and end the runs of commands that were killed on this machine."""
    with open_instance() as instance:
        end_lost_runs(instance)
        yield instance


def open_instance() -> dg.DagsterInstance:
    """Open the instance of DAGSTER_HOME, a context manager, and change nothing in it."""
    try:
        return dg.DagsterInstance.get()
    except dg.DagsterError as error:
        raise NoInstanceError(f"Dagster's instance, which records runs, cannot be opened: {error}") from error
    except Exception as error:  # of its storage: the server's message, with any client library
        lines = str(error).splitlines()
        said = next((line for line in lines if "FATAL:" in line or "permission denied" in line), str(error))
        raise NoInstanceError(
            f"Dagster's database cannot be opened: {said}: check HEIMDALL_PG_DAGSTER_DATABASE, and for its tables "
            "run `dagster instance migrate` as their owner"
        ) from error


def daemon_heartbeat_age_s(instance: dg.DagsterInstance) -> float | None:
    """Time since the last heartbeat of the daemon that runs sensors; None if it has ended."""
    heartbeat = instance.get_daemon_heartbeats().get(_SENSOR_DAEMON)
    if heartbeat is None:
        return None
    age_s = time.time() - heartbeat.timestamp
    return age_s if age_s <= _MAX_HEARTBEAT_AGE_S else None
