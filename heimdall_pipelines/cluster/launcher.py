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
    """Gives the launcher that the environment asks for; it has no config, so no secret can show in the UI.

    ``local`` executes runs beside the code server, ``celery`` in workers started by ``heimdall worker``.
    """

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster asks for a RunLauncher, whichever
        cls,
        inst_data: ConfigurableClassData,
        config_value: Mapping[str, Any],  # noqa: ARG003
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
        return WorkersRunLauncher(settings, inst_data)
