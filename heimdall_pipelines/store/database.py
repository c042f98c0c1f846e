"""Pooled connections to PostgreSQL: transactions, and outages distinguished from other errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from psycopg2 import errors as psycopg2_errors
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.settings import Settings

CONNECT_TIMEOUT_S = 10
POOL_WAIT_S = 30

# By the server's message (lc_messages C or English), since libpq has no SQLSTATE for a refused connection.
_REFUSALS = {
    "authentication failed": "see HEIMDALL_PG_USER and HEIMDALL_PG_PASSWORD",
    "no password supplied": "see HEIMDALL_PG_PASSWORD",
    "not permitted to log in": "see HEIMDALL_PG_USER",
    "no pg_hba.conf entry": "see HEIMDALL_PG_USER and HEIMDALL_PG_DATABASE, and pg_hba.conf on the server",
    "permission denied for database": "see HEIMDALL_PG_DATABASE and HEIMDALL_PG_USER",
    'FATAL:  role "': "see HEIMDALL_PG_USER",
    'FATAL:  database "': "see HEIMDALL_PG_DATABASE",
}


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL could not be reached, closed the connection or has none free; the transaction was rolled back."""


class DatabaseRefusedError(HeimdallError):
    """PostgreSQL refuses the role, its password or the database, or the role lacks a right: retrying does not help."""


class LackingRightError(DatabaseRefusedError):
    """The role lacks the right for this statement."""


class Database:
    """The project's tables, through at most ``settings.pg_pool_size`` connections of this process.

    Use it as a context manager, so that its connections are closed.
    """

    def __init__(self, settings: Settings) -> None:
        self._where = f"PostgreSQL at {settings.pg_host}:{settings.pg_port}/{settings.pg_database}"
        self.role = settings.pg_user
        self._engine = create_engine(
            URL.create(
                "postgresql+psycopg2",
                username=settings.pg_user,
                password=settings.pg_password.get_secret_value(),
                host=settings.pg_host,
                port=settings.pg_port,
                database=settings.pg_database,
            ),
            pool_size=settings.pg_pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "heimdall"},
        )

    def __repr__(self) -> str:
        return f"Database({self._where})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection of the pool."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection inside one transaction: committed at the end, rolled back on any error.

        Raises
        ------
        DatabaseUnavailableError
            PostgreSQL could not be reached or closed the connection.
        DatabaseRefusedError
            It refuses the role, the password or the database, or the role lacks a right (LackingRightError). Other
            errors pass as they are.
        """
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Give a read-only connection to one consistent snapshot, independent of later commits.

        Raises
        ------
        DatabaseUnavailableError, DatabaseRefusedError
            As of `transaction`.
        """
        with self._errors(), self._engine.connect() as connection:
            reading = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with reading.begin():
                yield reading

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            for words, what_to_do in _REFUSALS.items():
                if words in str(error.orig):
                    raise DatabaseRefusedError(f"{self._where}: {_first_line(error)}: {what_to_do}") from error
            raise DatabaseUnavailableError(f"{self._where}: {_first_line(error)}") from error
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(
                f"{self._where}: no free connection of this process after {POOL_WAIT_S} s"
            ) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise DatabaseUnavailableError(f"{self._where}: {_first_line(error)}") from error
            if isinstance(error.orig, psycopg2_errors.InsufficientPrivilege):
                raise LackingRightError(
                    f"{self._where}: {_first_line(error)}: the role {self.role} (HEIMDALL_PG_USER) lacks a right, "
                    "see deploy/postgresql/roles.sql"
                ) from error
            raise


def is_broken_off(error: BaseException | None) -> bool:
    """Whether a SQLAlchemy error means that PostgreSQL could not be reached or the connection was closed."""
    return isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def time_sql(microseconds: str) -> str:
    """SQL for the time of whole microseconds after the epoch; to_timestamp takes a float, which is too imprecise."""
    return f"TIMESTAMPTZ 'epoch' + ({microseconds}) * INTERVAL '1 microsecond'"


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
