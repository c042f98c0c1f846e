"""Dagster's storage in PostgreSQL; an unavailable server gives one message instead of a traceback of 200 lines."""

import logging
from typing import Any

import click
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from heimdall_pipelines.errors import HeimdallError


class InstanceStorageError(click.ClickException, HeimdallError):
    """Dagster's database cannot be opened. Dagster's commands print only the message and exit with 1."""


class InstanceStorage(DagsterPostgresStorage):
    """The same as `storage: postgres:` of dagster.yaml, with the same configuration."""

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DagsterPostgresStorage:
        """Open the storage.

        Raises
        ------
        InstanceStorageError
            The server is unavailable, refuses, or does not have the database.
        """
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
