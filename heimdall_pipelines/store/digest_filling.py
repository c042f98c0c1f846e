"""Gives digests to rows that have none: those of before digests existed, taken as they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heimdall_pipelines.model.batches import BatchRange
from heimdall_pipelines.store.committed_parameters import keep_parameters
from heimdall_pipelines.store.dataset_digests import write_batch_root, write_dataset_root
from heimdall_pipelines.store.digest_rows import Progress, digest_missing, existing_columns
from heimdall_pipelines.store.session_digests import write_session_root
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

_PLAIN_TABLES = (
    *("websdr_stations", "known_sources", "measurements", "measurement_features", "positions"),
    "synthetic_iq_samples",
)


def fill_digests(connection: Connection, progress: Progress = lambda *_: None) -> int:
    """Give every row without a digest one, then batches, datasets and sessions their roots; again, nothing changes.

    Parameters
    ----------
    connection : Connection
        Inside a transaction; rows are streamed.
    progress : callable, optional
        Called with the name of a table and the number of its rows so far.

    Returns
    -------
    int
        Rows that got a digest.
    """
    # A migration has not the tables of later ones.
    tables = [table for table in _PLAIN_TABLES if existing_columns(connection, table)]
    num = sum(digest_missing(connection, table, progress=progress) for table in tables)
    num += _fill_datasets(connection, progress)
    num += _fill_sessions(connection, progress)
    return num


def _fill_datasets(connection: Connection, progress: Progress) -> int:
    datasets = connection.execute(
        text("SELECT id, spec ->> 'batch_size' AS batch_size FROM heimdall.synthetic_datasets WHERE digest IS NULL")
    ).all()
    num = 0
    for dataset in datasets:
        if _has_no_parameters(connection, dataset.id):
            keep_parameters(connection, dataset.id)
        numbers = connection.execute(
            text("SELECT batch_no FROM heimdall.synthetic_batches WHERE dataset_id = :id AND digest IS NULL"),
            {"id": dataset.id},
        ).scalars()
        batch_size = int(dataset.batch_size) if (dataset.batch_size or "").isdecimal() else 0
        for batch_no in numbers.all():
            span = BatchRange(batch_no, "", batch_no * batch_size, (batch_no + 1) * batch_size)
            write_batch_root(connection, dataset.id, span)
        num += digest_missing(connection, "synthetic_batches", f"dataset_id = '{dataset.id}'", progress)
        write_dataset_root(connection, dataset.id)
        connection.execute(
            text("UPDATE heimdall.synthetic_datasets SET digests_since = now() WHERE id = :id"), {"id": dataset.id}
        )
        num += digest_missing(connection, "synthetic_datasets", f"id = '{dataset.id}'", progress)
    return num


def _fill_sessions(connection: Connection, progress: Progress) -> int:
    completed = connection.execute(
        text("SELECT id FROM heimdall.recording_sessions WHERE status = 'completed' AND digest IS NULL")
    ).scalars()
    num = 0
    for session_id in completed.all():
        write_session_root(connection, session_id)
        connection.execute(
            text("UPDATE heimdall.recording_sessions SET digests_since = now() WHERE id = :id"), {"id": session_id}
        )
        num += digest_missing(connection, "recording_sessions", f"id = '{session_id}'", progress)
    return num


def _has_no_parameters(connection: Connection, dataset_id: UUID) -> bool:
    return bool(
        connection.execute(
            text("SELECT parameters_digest IS NULL FROM heimdall.synthetic_datasets WHERE id = :id"),
            {"id": dataset_id},
        ).scalar_one()
    )
