"""What runs print: kept in files of one machine, or in the S3 store where several machines have to find it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData

from heimdall_pipelines.settings import load_local_settings, load_settings


class ChosenComputeLogManager(LocalComputeLogManager):
    """Gives files, or S3 where HEIMDALL_S3_BUCKET_COMPUTE_LOGS names a bucket; no secret is in its config."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take the folder that the files lie below."""
        return {"dagster_home": dg.StringSource}

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster asks for a ComputeLogManager, whichever
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> ComputeLogManager[dg.DagsterInstance]:
        """Make the manager of the settings."""
        folder = str(Path(config_value["dagster_home"]) / "storage")  # Dagster's own default
        if load_local_settings().s3_bucket_compute_logs is None:
            return LocalComputeLogManager(folder, inst_data=inst_data)
        from heimdall_pipelines.cluster.s3_compute_logs import StoreComputeLogManager  # boto3 takes a while to load

        return StoreComputeLogManager(load_settings(), local_dir=folder, inst_data=inst_data)
