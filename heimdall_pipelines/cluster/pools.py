"""How many runs of a kind go at once, on all machines together: pools of Dagster's database."""

import dagster as dg

from heimdall_pipelines.defs.recorded import EXTRACTION
from heimdall_pipelines.defs.synthetic import ALL_CORES
from heimdall_pipelines.settings import LocalSettings


def pool_limits(settings: LocalSettings) -> dict[str, int]:
    """Limits of the settings by pool.

    A run that makes samples uses all cores of its machine: on one machine such runs go one after the other, with
    workers on many as many as there may be runs.
    """
    generation = 1 if settings.run_launcher == "local" else settings.max_concurrent_runs
    return {
        ALL_CORES: settings.max_generation_runs or generation,
        EXTRACTION: settings.max_extraction_runs or settings.max_concurrent_runs,
    }


def set_pool_limits(instance: dg.DagsterInstance, settings: LocalSettings) -> None:
    """Have the limits hold from the first run on: left to itself, Dagster learns of a pool while it starts its runs."""
    for pool, limit in pool_limits(settings).items():
        instance.event_log_storage.set_concurrency_slots(pool, limit)
