"""Dagster's instance, on which commands record what they did; importing this takes a second."""

import time

import dagster as dg

from heimdall_pipelines.errors import HeimdallError

_SENSOR_DAEMON = "SENSOR"
_MAX_HEARTBEAT_AGE_S = 90.0  # they come every 30 s; Dagster itself calls a daemon healthy for half an hour


class NoInstanceError(HeimdallError):
    """There is no Dagster instance to record anything on."""


def dagster_instance() -> dg.DagsterInstance:
    """Open the instance of DAGSTER_HOME; it is a context manager."""
    try:
        return dg.DagsterInstance.get()
    except dg.DagsterError as error:
        raise NoInstanceError(f"Dagster's instance, which records runs, cannot be opened: {error}") from error
    except Exception as error:  # of its storage: the server's words, whatever library Dagster reaches it by
        lines = str(error).splitlines()
        said = next((line for line in lines if "FATAL:" in line or "permission denied" in line), str(error))
        raise NoInstanceError(
            f"Dagster's database cannot be opened: {said}: see HEIMDALL_PG_DAGSTER_DATABASE, and for its tables "
            "run `dagster instance migrate` as their owner"
        ) from error


def daemon_heartbeat_age_s(instance: dg.DagsterInstance) -> float | None:
    """Time since the daemon that runs sensors gave a heartbeat; None where it must have ended."""
    heartbeat = instance.get_daemon_heartbeats().get(_SENSOR_DAEMON)
    if heartbeat is None:
        return None
    age_s = time.time() - heartbeat.timestamp
    return age_s if age_s <= _MAX_HEARTBEAT_AGE_S else None
