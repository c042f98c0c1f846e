"""Values set in Dagster's database before its daemon starts: limits of pools, cursors of its event log."""

import dagster as dg
from dagster._daemon.auto_run_reexecution.event_log_consumer import DAGSTER_EVENT_TYPES

from heimdall_pipelines.defs.recorded import EXTRACTION
from heimdall_pipelines.defs.synthetic import ALL_CORES
from heimdall_pipelines.settings import LocalSettings


def pool_limits(settings: LocalSettings) -> dict[str, int]:
    """Limits of the settings by pool.

    A run that makes samples uses all cores of its machine: on one machine these runs execute one after the other, with
    workers on several machines as many as the limit of all runs.
    """
    generation = 1 if settings.run_launcher == "local" else settings.max_concurrent_runs
    return {
        ALL_CORES: settings.max_generation_runs or generation,
        EXTRACTION: settings.max_extraction_runs or settings.max_concurrent_runs,
    }


def set_pool_limits(instance: dg.DagsterInstance, settings: LocalSettings) -> None:
    """Set the limits before the first run: otherwise Dagster learns of a pool only while it starts its runs."""
    for pool, limit in pool_limits(settings).items():
        instance.event_log_storage.set_concurrency_slots(pool, limit)


def begin_event_cursors(instance: dg.DagsterInstance) -> None:
    """Let the daemon read failed runs from now on, unless it has cursors: without any it starts with warnings."""
    keys = {f"EVENT_LOG_CONSUMER_CURSOR-{event.value}" for event in DAGSTER_EVENT_TYPES}
    missing = keys - instance.daemon_cursor_storage.get_cursor_values(keys).keys()
    if missing:
        newest_id = instance.event_log_storage.get_maximum_record_id() or 0
        instance.daemon_cursor_storage.set_cursor_values(dict.fromkeys(missing, str(newest_id)))
