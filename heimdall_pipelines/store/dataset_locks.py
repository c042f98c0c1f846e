"""Locks of datasets: shared by batches, exclusive for a repair. A lock ends with its process at the latest."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.outages import DatabaseUnavailableError

SAFE_WITHOUT_LOCK_S = 1800.0  # a repair leaves objects younger than an hour alone
_POLL_S = 0.5
_KEY = "hashtextextended('heimdall writes ' || CAST(:id AS text), 0)"


class DatasetLockedError(HeimdallError):
    """Another process is writing the dataset."""


class LockLostError(DatabaseUnavailableError):
    """The lock was lost before the batch was committed, so that a repair may have removed its objects."""


class DatasetLock:
    """A shared lock, held as long as its connection lasts."""

    def __init__(self, connection: Connection, dataset_id: UUID) -> None:
        self._connection = connection
        self._dataset_id = dataset_id
        self._began = time.monotonic()

    def confirm(self) -> None:
        """Check, before rows are committed, that no repair can have removed the batch's objects.

        Raises
        ------
        LockLostError
            The connection broke, and the batch is so old that a repair would have removed its first objects as orphans.
            The next run of the batch stores them again.
        """
        if time.monotonic() - self._began < SAFE_WITHOUT_LOCK_S:
            return
        try:
            self._connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            raise LockLostError(
                f"the connection to PostgreSQL that held the lock of dataset {self._dataset_id} broke: a repair may "
                "have removed objects of this batch, so nothing was committed; run the batch again"
            ) from error


@contextmanager
def shared_lock(
    database: Database, dataset_id: UUID, waiting: Callable[[], None] = lambda: None
) -> Iterator[DatasetLock]:
    """Lock a dataset for a batch; other batches may hold the lock at the same time.

    Parameters
    ----------
    database : Database
        One of its connections is held until the lock ends.
    dataset_id : UUID
    waiting : callable, optional
        Called twice a second while a repair holds the exclusive lock; it may raise to give up.
    """
    with _held(database) as connection:
        while not _try(connection, "pg_try_advisory_xact_lock_shared", dataset_id):
            waiting()
            time.sleep(_POLL_S)  # in Python, so that a cancellation can interrupt it
        yield DatasetLock(connection, dataset_id)


@contextmanager
def exclusive_lock(database: Database, dataset_id: UUID, name: str) -> Iterator[None]:
    """Lock a dataset for a repair: no other process writes it.

    Raises
    ------
    DatasetLockedError
        A batch is being made, or another repair is running.
    """
    with _held(database) as connection:
        if not _try(connection, "pg_try_advisory_xact_lock", dataset_id):
            raise DatasetLockedError(
                f"dataset {name} is being written: a batch of it is being made, or another repair is running. "
                "Nothing was changed; try again when it has ended"
            )
        yield


def is_locked(connection: Connection, dataset_id: UUID) -> bool:
    """Whether a batch or a repair of a dataset is running now; takes no lock."""
    return bool(
        connection.execute(
            text(
                "SELECT EXISTS (SELECT FROM pg_locks, (SELECT " + _KEY + " AS key) AS lock_key"
                " WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND classid::bigint = (key >> 32) & 4294967295 AND objid::bigint = key & 4294967295)"
            ),
            {"id": dataset_id},
        ).scalar_one()
    )


def _try(connection: Connection, function: str, dataset_id: UUID) -> bool:
    return bool(connection.execute(text(f"SELECT {function}({_KEY})"), {"id": dataset_id}).scalar_one())


@contextmanager
def _held(database: Database) -> Iterator[Connection]:
    """Connection that holds a lock; losing it after the work is done is not an error."""
    is_done = False
    try:
        with database.transaction() as connection:
            yield connection
            is_done = True
    except DatabaseUnavailableError:
        if not is_done:
            raise
