"""Output of runs: stored in files of one machine, or in the S3 store, where several machines can read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData

from heimdall_pipelines.settings import load_local_settings, load_settings


class ChosenComputeLogManager(LocalComputeLogManager):
    """Selects files, or S3 if HEIMDALL_S3_BUCKET_COMPUTE_LOGS names a bucket; its config has no secret."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """The folder that holds the files."""
        return {"dagster_home": dg.StringSource}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster only needs a ComputeLogManager
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> ComputeLogManager[dg.DagsterInstance]:
        """Return the manager that the settings select."""
        folder = str(Path(config_value["dagster_home"]) / "storage")  # Dagster's own default
        if load_local_settings().s3_bucket_compute_logs is None:
            return LocalComputeLogManager(folder, inst_data=inst_data)
        from heimdall_pipelines.cluster.s3_compute_logs import StoreComputeLogManager  # boto3 takes a while to load

        return StoreComputeLogManager(load_settings(), local_dir=folder, inst_data=inst_data)
