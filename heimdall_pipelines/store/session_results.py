"""Replaces what was computed from a revision of a session, if it is still the present one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg2.errors import ForeignKeyViolation

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.session_digests import sealing_session
from heimdall_pipelines.store.sessions import SessionNotFoundError, lock_session
from heimdall_pipelines.store.sql import raised_for, text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.session_revisions import SessionRevision


class SupersededError(HeimdallError):
    """The session was completed again while a revision was processed; the newer revision gets its own run."""


@contextmanager
def replacing_rows(
    database: Database, target: SessionRevision, table: str, *, doing: str, change: str
) -> Iterator[Connection]:
    """Replace all rows of a session in a table by those that the block inserts, in one transaction.

    Writers of the same session are serialised by an advisory lock; on any error the previous rows stay.

    Parameters
    ----------
    database : Database
    target : SessionRevision
        From which the new rows are computed.
    table : str
        With the column recording_session_id.
    doing : str
        What is done with the session, for errors: "extracted".
    change : str
        Reason of the change that is noted if there were rows before.

    Raises
    ------
    SupersededError
        The session is not, or no longer, completed at this revision.
    SessionNotFoundError, SessionBeingDeletedError
        The session was deleted in the meantime, or its deletion has begun.
    """
    deleted = SessionNotFoundError(f"session {target.slug} was deleted while it was being {doing}")
    with raised_for(ForeignKeyViolation, deleted), database.transaction() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": str(target.session_id)}
        )
        replaced = connection.execute(
            text(f"DELETE FROM heimdall.{table} WHERE recording_session_id = :id"), {"id": target.session_id}
        )
        yield connection
        state = lock_session(connection, target.session_id, target.slug, doing)
        if state.status != "completed" or state.revision != target.revision:
            raise SupersededError(
                f"session {target.slug} changed while revision {target.revision} was being {doing} "
                f"(now {state.status}, revision {state.revision}); each completed revision gets its own run"
            )
        with sealing_session(connection, target.session_id, reason=change if replaced.rowcount else None):
            pass
