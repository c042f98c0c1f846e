"""Rows that are held back: who inserts one waits, so that a run cannot end before a test has done something to it."""

import contextlib
from collections.abc import Iterator

from sqlalchemy import Connection, text

from heimdall_pipelines.store.database import Database

_WAITING = "FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
_HOLD_BACK = """
CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {condition} THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
        RETURN NEW;
    END $$;
CREATE TRIGGER held_back BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hold_back()
"""


class HeldBack:
    """Who waits for the end of the block."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def is_waiting(self) -> bool:
        """Whether somebody waits."""
        return bool(self._connection.execute(text(f"SELECT count(*) {_WAITING}")).scalar())

    def end_what_waits(self) -> None:
        """End the connections that wait, which outlive the processes that they were of."""
        self._connection.execute(text(f"SELECT pg_terminate_backend(pid) {_WAITING}"))


@contextlib.contextmanager
def held_back(database: Database, table: str, condition: str) -> Iterator[HeldBack]:
    """Block inserts of rows for which a condition in SQL holds (NEW is the row) until the end of the block."""
    with database.transaction() as connection:
        connection.execute(text(_HOLD_BACK.format(table=table, condition=condition)))
    try:
        with database.transaction() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
            yield HeldBack(connection)
    finally:
        with database.transaction() as connection:
            connection.execute(text("DROP FUNCTION hold_back CASCADE"))


def batches_held_back(database: Database, *, after: int = 0) -> contextlib.AbstractContextManager[HeldBack]:
    """Let no batch be committed of a dataset that has so many; runs that make one are at work until the end."""
    num_batches = "(SELECT count(*) FROM heimdall.synthetic_batches WHERE dataset_id = NEW.dataset_id)"
    return held_back(database, "heimdall.synthetic_batches", f"{num_batches} >= {after}")


def success_held_back(database: Database) -> contextlib.AbstractContextManager[HeldBack]:
    """Let no run say that it succeeded; the database is Dagster's."""
    return held_back(database, "event_logs", "NEW.dagster_event_type = 'PIPELINE_SUCCESS'")
