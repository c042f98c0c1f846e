"""Reads through one read-only connection without SQLAlchemy, whose import takes longer than a whole list."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import psycopg2
from psycopg2.extras import NamedTupleCursor, register_uuid

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.outages import meaning_of

CONNECT_TIMEOUT_S = 10


class Reading(Protocol):
    """Argument of functions that only read: a `Reader` or a `heimdall_pipelines.store.database.Database`."""

    def read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Return the rows, with columns as attributes; parameters are ``%(name)s`` in the SQL."""


class ClosedOnExit(ABC):
    """A context manager that is closed at the end of the block."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reader(ClosedOnExit):
    """One read-only connection, opened by the first read; for one thread.

    Use it as a context manager, so that its connection is closed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: psycopg2.extensions.connection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Return the rows of a query, in its own transaction.

        Raises
        ------
        DatabaseUnavailableError
            PostgreSQL could not be reached or closed the connection.
        DatabaseRefusedError
            It refuses the role, the password or the database, or the role lacks a right (LackingRightError). Other
            errors pass as they are.
        """
        with self._errors():
            if self._connection is None:
                self._connection = self._connect()
            with self._connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall()

    def _connect(self) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(
            host=self._settings.pg_host,
            port=self._settings.pg_port,
            user=self._settings.pg_user,
            password=self._settings.pg_password.get_secret_value(),
            dbname=self._settings.pg_database,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="heimdall",
            cursor_factory=NamedTupleCursor,
        )
        connection.set_session(readonly=True, autocommit=True)
        register_uuid(conn_or_curs=connection)  # type: ignore[no-untyped-call]
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg2.Error as error:
            is_broken_off = self._connection is not None and self._connection.closed != 0
            meaning = meaning_of(error, self._settings, is_broken_off=is_broken_off)
            if meaning is None:
                raise
            raise meaning from error
