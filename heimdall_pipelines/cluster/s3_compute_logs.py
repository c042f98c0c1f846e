"""Output of runs in the S3 store of the settings."""

import boto3
from botocore.config import Config
from dagster._serdes import ConfigurableClassData
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

from heimdall_pipelines.settings import Settings

UPLOAD_INTERVAL_S = 15


class StoreComputeLogManager(S3ComputeLogManager):
    """Dagster's manager with the credentials of the settings; it would read them from boto3's variables and files."""

    def __init__(self, settings: Settings, *, local_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        assert settings.s3_bucket_compute_logs is not None
        endpoint = f"{'https' if settings.s3_secure else 'http'}://{settings.s3_endpoint}"
        super().__init__(
            settings.s3_bucket_compute_logs,
            local_dir=local_dir,
            inst_data=inst_data,
            endpoint_url=endpoint,
            region=settings.s3_region,
            skip_empty_files=True,
            upload_interval=UPLOAD_INTERVAL_S,
        )
        self._s3_session = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key,
            aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
            config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 2, "mode": "standard"}),
        )
