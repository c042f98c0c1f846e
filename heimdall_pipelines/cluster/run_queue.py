"""Dagster's queue of runs, of which HEIMDALL_MAX_CONCURRENT_RUNS are executed at once."""

from collections.abc import Mapping
from typing import Any, Self

from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._serdes import ConfigurableClassData

from heimdall_pipelines.settings import load_local_settings


class RunQueue(QueuedRunCoordinator):
    """Dagster's own takes no limit from the environment where pools are configured."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Add the limit of the settings to the config."""
        limit = load_local_settings().max_concurrent_runs
        return super().from_config_value(inst_data, {**config_value, "max_concurrent_runs": limit})
