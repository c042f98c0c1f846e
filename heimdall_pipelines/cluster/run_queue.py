"""Dagster's queue of runs; at most HEIMDALL_MAX_CONCURRENT_RUNS execute at once."""

from collections.abc import Mapping
from typing import Any, Self

from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._serdes import ConfigurableClassData

from heimdall_pipelines.settings import load_local_settings


class RunQueue(QueuedRunCoordinator):
    """Dagster's queue reads no limit from the environment if pools are configured."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Add the limit of the settings to the config."""
        limit = load_local_settings().max_concurrent_runs
        return super().from_config_value(inst_data, {**config_value, "max_concurrent_runs": limit})
