"""The run launcher of dagster.yaml: HEIMDALL_RUN_LAUNCHER says which one it is."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher, RunLauncher
from dagster._serdes import ConfigurableClassData

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.settings import load_local_settings


class ExtraNotInstalledError(HeimdallError):
    """What runs on several machines need is not installed."""


class ChosenRunLauncher(DefaultRunLauncher):
    """Gives the launcher that the environment asks for; no secret is in its config, which the UI shows.

    ``local`` executes runs beside the code server, ``celery`` in workers started by ``heimdall worker``.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take how long workers are given to tell run monitoring which runs they execute."""
        return {"worker_answer_timeout_seconds": dg.Field(float, default_value=5.0)}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster asks for a RunLauncher, whichever
        cls,
        inst_data: ConfigurableClassData,
        config_value: Mapping[str, Any],
    ) -> RunLauncher[dg.DagsterInstance]:
        """Make the launcher of the settings."""
        settings = load_local_settings()
        if settings.run_launcher == "local":
            return DefaultRunLauncher(inst_data)
        try:
            from heimdall_pipelines.cluster.celery_launcher import WorkersRunLauncher  # Celery is an extra
        except ModuleNotFoundError as error:
            raise ExtraNotInstalledError(
                f"HEIMDALL_RUN_LAUNCHER is celery, but {error.name} is not installed: "
                "pip install 'heimdall-pipelines[cluster]'"
            ) from error
        return WorkersRunLauncher(
            settings, answer_timeout_s=config_value["worker_answer_timeout_seconds"], inst_data=inst_data
        )
