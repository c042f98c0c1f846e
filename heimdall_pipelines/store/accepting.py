"""Takes over edits made by hand: rows get the digests of what they are, and each edit is noted as a change."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.model.batches import END_OF_SAMPLES
from heimdall_pipelines.store.changes import changing, note_change
from heimdall_pipelines.store.committed_parameters import keep_parameters, parameters_state
from heimdall_pipelines.store.dataset_digests import roots_now, write_batch_root, write_dataset_root
from heimdall_pipelines.store.digest_rows import read_digested, write_digests
from heimdall_pipelines.store.digests import DIGESTED_TABLES, EMPTY_ROOT, edit_of, row_digest
from heimdall_pipelines.store.session_digests import session_root_now, write_session_root
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.model.batches import BatchGrid
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.datasets import Dataset

_ROWS_AT_ONCE = 200
_NAMED_BY = {  # what people know a row by
    "websdr_stations": ("rx_id",),
    "known_sources": ("name",),
    "recording_sessions": ("slug",),
    "measurements": ("websdr_station_id", "start_time_unix_ns"),
    "measurement_features": ("sample_idx", "segment_idx"),
    "positions": ("segment_idx",),
    "synthetic_datasets": ("name",),
    "synthetic_batches": ("batch_no",),
    "synthetic_iq_samples": ("sample_idx",),
}


def accept_rows(
    connection: Connection, table: str, where: str, values: Mapping[str, Any], reason: str | None
) -> Iterator[str]:
    """Find the rows that are not as committed, and take them over if there is a reason; streamed.

    Parameters
    ----------
    connection : Connection
        Inside a transaction.
    table : str
    where, values : str, mapping
        Which rows are looked at.
    reason : str or None
        None: nothing is changed.

    Yields
    ------
    str
        Each edit, in words.
    """
    some: list[tuple[Mapping[str, Any], bytes]] = []
    for row in read_digested(connection, table, where, values):
        edit = edit_of(table, row, row["digest"])
        if edit is None:
            continue
        named = ", ".join(f"{name} {row[name]}" for name in _NAMED_BY[table] if row[name] is not None)
        yield f"{table}, {named}: {edit}"
        if reason is None:
            continue
        some.append((row, row_digest(table, row)))
        note_change(
            connection,
            table,
            {name: row[name] if isinstance(row[name], int) else str(row[name]) for name in DIGESTED_TABLES[table]},
            before=None,
            after={name: row.get(name) for name in edit.columns if name != "digest"},
            reason=f"edited by hand, accepted: {reason}",
        )
        if len(some) == _ROWS_AT_ONCE:
            write_digests(connection, table, some)
            some = []
    write_digests(connection, table, some)


def accept_dataset_rows(
    connection: Connection,
    dataset_id: UUID,
    grid: BatchGrid,
    reason: str | None,
    sidecar_sha256: Mapping[int, Mapping[str, str]],
) -> Iterator[str]:
    """Find every edit of a dataset's rows and parameters, and take them over if there is a reason.

    Parameters
    ----------
    connection : Connection
        Inside a transaction.
    dataset_id : UUID
    grid : BatchGrid
        Of the parameters as they are.
    reason : str or None
        None: nothing is changed.
    sidecar_sha256 : mapping
        Digests of sidecars that rows do not have, by sample and rx_id.

    Yields
    ------
    str
        Each edit, in words.
    """
    of_dataset = {"id": dataset_id}
    yield from _accept_sidecars(connection, dataset_id, reason, sidecar_sha256)
    for table in ("measurement_features", "synthetic_iq_samples"):
        yield from accept_rows(connection, table, "dataset_id = :id", of_dataset, reason)
    for problem in parameters_state(connection, dataset_id).problems:
        yield f"parameters: {problem}"
    if reason is not None:
        _accept_parameters(connection, dataset_id)
    now = dict(roots_now(connection, dataset_id, grid.batch_size, 0, END_OF_SAMPLES))
    stored = connection.execute(
        text("SELECT batch_no, root FROM heimdall.synthetic_batches WHERE dataset_id = :id ORDER BY batch_no"),
        of_dataset,
    ).all()
    for batch in stored:
        if batch.root is None or bytes(batch.root) != now.get(batch.batch_no, EMPTY_ROOT):
            yield f"batch {batch.batch_no}: its root is not that of its rows"
            if reason is not None:
                write_batch_root(connection, dataset_id, grid.whole_batch(batch.batch_no))
    yield from accept_rows(connection, "synthetic_batches", "dataset_id = :id", of_dataset, reason)
    if reason is not None:
        write_dataset_root(connection, dataset_id)
    yield from accept_rows(connection, "synthetic_datasets", "id = :id", of_dataset, reason)


def accept_parameters(database: Database, dataset: Dataset, *, reason: str) -> None:
    """Make the parameters in a dataset's row those that it and its batches vouch for, with an intact copy of them.

    Where the row is as created, only digests and copies that were edited are restored.
    """
    of_dataset = {"id": dataset.id}
    with database.transaction() as connection:
        with (
            changing(connection, "synthetic_datasets", "id = :id", of_dataset, reason=reason),
            changing(connection, "synthetic_batches", "dataset_id = :id", of_dataset, reason=reason),
        ):
            _accept_parameters(connection, dataset.id)
            write_dataset_root(connection, dataset.id)
        deque(accept_rows(connection, "synthetic_datasets", "id = :id", of_dataset, reason), maxlen=0)


def accept_session_rows(
    connection: Connection, session_id: UUID, reason: str | None, sidecar_sha256: Mapping[str, str]
) -> Iterator[str]:
    """Find every edit of a session's rows, stations and source, and take them over if there is a reason.

    Parameters
    ----------
    connection : Connection
        Inside a transaction.
    session_id : UUID
    reason : str or None
        None: nothing is changed.
    sidecar_sha256 : mapping
        Digests of sidecars that measurements do not have, by rx_id.

    Yields
    ------
    str
        Each edit, in words.
    """
    of_session = {"id": session_id}
    for rx_id, sha256 in sidecar_sha256.items():
        yield f"sidecar of {rx_id}: its digest is not that of its measurement"
        if reason is not None:
            connection.execute(
                text(
                    "UPDATE heimdall.measurements m SET sidecar_sha256 = :sha256 FROM heimdall.websdr_stations w"
                    " WHERE w.id = m.websdr_station_id AND w.rx_id = :rx_id AND m.recording_session_id = :id"
                ),
                of_session | {"rx_id": rx_id, "sha256": sha256},
            )
    places = {
        "websdr_stations": "id IN (SELECT websdr_station_id FROM heimdall.measurements"
        " WHERE recording_session_id = :id)",
        "known_sources": "id = (SELECT known_source_id FROM heimdall.recording_sessions s WHERE s.id = :id)",
    }
    for table, where in places.items():
        yield from accept_rows(connection, table, where, of_session, reason)
    for table in ("measurements", "measurement_features", "positions"):
        yield from accept_rows(connection, table, "recording_session_id = :id", of_session, reason)
    root = connection.execute(
        text("SELECT root FROM heimdall.recording_sessions WHERE id = :id"), of_session
    ).scalar_one()
    if root is None or bytes(root) != session_root_now(connection, session_id):
        yield "session: its root is not that of its rows"
        if reason is not None:
            write_session_root(connection, session_id)
    yield from accept_rows(connection, "recording_sessions", "id = :id", of_session, reason)


def _accept_sidecars(
    connection: Connection, dataset_id: UUID, reason: str | None, sidecar_sha256: Mapping[int, Mapping[str, str]]
) -> Iterator[str]:
    for sample_idx, sums in sidecar_sha256.items():
        yield f"sidecars of sample {sample_idx} ({', '.join(sums)}): their digests are not those of the IQ row"
        if reason is not None:
            connection.execute(
                text(
                    "UPDATE heimdall.synthetic_iq_samples SET iq_metadata = jsonb_set(iq_metadata, '{sidecar_sha256}',"
                    " coalesce(iq_metadata -> 'sidecar_sha256', '{}') || CAST(:sums AS jsonb))"
                    " WHERE dataset_id = :id AND sample_idx = :sample_idx"
                ),
                {"id": dataset_id, "sample_idx": sample_idx, "sums": json.dumps(dict(sums))},
            )


def _accept_parameters(connection: Connection, dataset_id: UUID) -> None:
    """Make the parameters as they are those of the dataset and its batches; copies that were edited are deleted."""
    damaged = parameters_state(connection, dataset_id).damaged_copies
    connection.execute(
        text("DELETE FROM heimdall.dataset_parameters WHERE dataset_id = :id AND digest = ANY(:damaged)"),
        {"id": dataset_id, "damaged": list(damaged)},
    )
    keep_parameters(connection, dataset_id)
    connection.execute(
        text(
            "UPDATE heimdall.synthetic_batches b SET parameters_digest = d.parameters_digest"
            " FROM heimdall.synthetic_datasets d WHERE d.id = :id AND b.dataset_id = d.id"
            " AND b.parameters_digest IS DISTINCT FROM d.parameters_digest"
        ),
        {"id": dataset_id},
    )
