"""Pooled connections to PostgreSQL: transactions, and outages distinguished from other errors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Row, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.outages import DatabaseUnavailableError, address, meaning_of
from heimdall_pipelines.store.reading import CONNECT_TIMEOUT_S, ClosedOnExit

POOL_WAIT_S = 30


class Database(ClosedOnExit):
    """The project's tables, through at most ``settings.pg_pool_size`` connections of this process.

    Use it as a context manager, so that its connections are closed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
        return f"Database({address(self._settings)})"

    def close(self) -> None:
        """Close every connection of the pool."""
        self._engine.dispose()

    def read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Return the rows of a query, in its own transaction, as `Reader.read`; raises as `transaction`."""
        with self.transaction() as connection:
            return read_rows(connection, sql, parameters)

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
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(
                f"{address(self._settings)}: no free connection of this process after {POOL_WAIT_S} s"
            ) from error
        except DBAPIError as error:
            meaning = meaning_of(error.orig or error, self._settings, is_broken_off=error.connection_invalidated)
            if meaning is None:
                raise
            raise meaning from error


def read_rows(connection: Connection, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
    """Return the rows of a query inside a transaction; parameters are ``%(name)s`` in the SQL."""
    return connection.exec_driver_sql(sql, dict(parameters) if parameters is not None else None).all()


def is_broken_off(error: BaseException | None) -> bool:
    """Whether a SQLAlchemy error means that PostgreSQL could not be reached or the connection was closed."""
    return isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated)
