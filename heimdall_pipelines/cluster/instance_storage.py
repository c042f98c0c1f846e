"""Dagster's storage in PostgreSQL; no server, or no settings of one, gives two lines instead of a long traceback."""

import logging
from typing import Any

import click
from dagster import Field
from dagster._config import UserConfigSchema, process_config, resolve_to_config_type
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.settings import unset_variables


class InstanceStorageError(click.ClickException, HeimdallError):
    """Dagster's database cannot be opened. Dagster's commands print only the message and exit with 1."""


class InstanceStorage(DagsterPostgresStorage):
    """The same as `storage: postgres:` of dagster.yaml, configured by its `postgres_db`."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Accept any value: variables are read in `from_config_value`, where one that is not set has a message."""
        return {"postgres_db": Field(dict)}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DagsterPostgresStorage:
        """Open the storage.

        Raises
        ------
        InstanceStorageError
            A variable is not set; the server is unavailable, refuses, or does not have the database.
        """
        unset = unset_variables(_variables(config_value["postgres_db"]))
        if unset:
            raise InstanceStorageError(
                f"Dagster's database is unknown: {', '.join(unset)} {'is' if len(unset) == 1 else 'are'} not set.\n"
                'On one machine start the servers (heimdall dev), then: eval "$(heimdall env)". Elsewhere set them.'
            )
        checked = process_config(resolve_to_config_type(super().config_type()), config_value)
        if not checked.success:
            problems = "; ".join(error.message.partition("\n\nStack Trace")[0] for error in checked.errors or [])
            raise InstanceStorageError(f"dagster.yaml, storage: {problems}")
        config_value = checked.value
        root = logging.getLogger()
        root.addFilter(_is_no_retry)  # each of Dagster's attempts would log three lines
        try:
            return super().from_config_value(inst_data, config_value)
        except Exception as error:
            reason = _reason(error)
            if reason is None:
                raise
            place = config_value["postgres_db"]
            raise InstanceStorageError(
                f"Dagster's database {place['db_name']} at {place['hostname']}:{place['port']} cannot be opened: "
                f"{reason}\nStart the servers (on one machine: heimdall dev), or see HEIMDALL_PG_*."
            ) from None
        finally:
            root.removeFilter(_is_no_retry)


def _variables(config: dict[str, Any]) -> list[str]:
    """Names of the environment variables that a configuration refers to."""
    return [value["env"] for value in config.values() if isinstance(value, dict) and "env" in value]


def _is_no_retry(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Retrying failed database")


def _reason(error: BaseException | None) -> str | None:
    """Return the message of the server or driver in one line; None if the error is not of the connection."""
    while error is not None and type(error).__name__ != "OperationalError":  # SQLAlchemy's or psycopg2's
        error = error.__cause__
    if error is None:
        return None
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    return next((line for line in lines if "FATAL:" in line), lines[0])
