"""The run launcher of dagster.yaml, selected by HEIMDALL_RUN_LAUNCHER."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher, RunLauncher
from dagster._serdes import ConfigurableClassData

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.settings import load_local_settings


class ExtraNotInstalledError(HeimdallError):
    """The packages for runs on several machines are not installed."""


class ChosenRunLauncher(DefaultRunLauncher):
    """Selects the launcher by the environment; its config, which the UI shows, has no secret.

    ``local`` executes runs on the machine of the code server, ``celery`` in workers started by ``heimdall worker``.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Timeout of the workers' answer to run monitoring."""
        return {"worker_answer_timeout_seconds": dg.Field(float, default_value=5.0)}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster only needs a RunLauncher
        cls,
        inst_data: ConfigurableClassData,
        config_value: Mapping[str, Any],
    ) -> RunLauncher[dg.DagsterInstance]:
        """Return the launcher that the settings select."""
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
