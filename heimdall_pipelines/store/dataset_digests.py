"""Roots of batches over their samples, and of datasets over their parameters and batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.digest_rows import ZEROS_SQL, content_sql, root_sql
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.model.batches import BatchRange

_OF_DATASET = "id = :dataset_id"
_OF_BATCH = "dataset_id = :dataset_id AND batch_no = :batch_no"
_CONTENTS_OF_SAMPLE = f"{content_sql('f.digest')} || coalesce(substr(s.digest, 1, 32), ''::bytea)"
_ROOT_OF_SAMPLES = root_sql(_CONTENTS_OF_SAMPLE, "f.sample_idx")
_SAMPLES = (
    "heimdall.measurement_features f LEFT JOIN heimdall.synthetic_iq_samples s"
    " ON s.dataset_id = f.dataset_id AND s.sample_idx = f.sample_idx"
)


@contextmanager
def sealing_dataset(connection: Connection, dataset_id: UUID, *, reason: str | None = None) -> Iterator[None]:
    """Change a dataset's row or batches inside the block; at its end it has its root and digest.

    The change is noted if there is a reason.
    """
    values = {"dataset_id": dataset_id}
    with changing(connection, "synthetic_datasets", _OF_DATASET, values, reason=reason):
        yield
        write_dataset_root(connection, dataset_id)


@contextmanager
def sealing_batch(
    connection: Connection, dataset_id: UUID, span: BatchRange, *, reason: str | None = None
) -> Iterator[None]:
    """Change a batch's row or samples inside the block; at its end it has its root and digest.

    Parameters
    ----------
    connection : Connection
    dataset_id : UUID
    span : BatchRange
        The whole batch on the grid, also beyond the target.
    reason : str, optional
        With one, the change is noted.
    """
    values = {"dataset_id": dataset_id, "batch_no": span.batch_no}
    with changing(connection, "synthetic_batches", _OF_BATCH, values, reason=reason):
        yield
        write_batch_root(connection, dataset_id, span)


def write_batch_root(connection: Connection, dataset_id: UUID, span: BatchRange) -> None:
    """Write the root over a batch's rows, and the dataset's parameters digest where the batch has none."""
    connection.execute(
        text(
            f"UPDATE heimdall.synthetic_batches b SET root = (SELECT {_ROOT_OF_SAMPLES} FROM {_SAMPLES}"
            " WHERE f.dataset_id = :dataset_id AND f.sample_idx >= :first AND f.sample_idx < :end),"
            " parameters_digest = coalesce(b.parameters_digest, d.parameters_digest)"
            " FROM heimdall.synthetic_datasets d"
            " WHERE d.id = b.dataset_id AND b.dataset_id = :dataset_id AND b.batch_no = :batch_no"
        ),
        {
            "dataset_id": dataset_id,
            "batch_no": span.batch_no,
            "first": span.first_sample_idx,
            "end": span.end_sample_idx,
        },
    )


def write_dataset_root(connection: Connection, dataset_id: UUID) -> None:
    """Write the root over a dataset's parameters and batches."""
    connection.execute(
        text(f"UPDATE heimdall.synthetic_datasets d SET root = ({_dataset_root_sql()}) WHERE {_OF_DATASET}"),
        {"dataset_id": dataset_id},
    )


def roots_now(
    connection: Connection, dataset_id: UUID, batch_size: int, first: int, end: int
) -> Iterator[tuple[int, bytes]]:
    """The root of each batch in ``first <= sample_idx < end`` as its rows' digests give it now; streamed, in order."""
    rows = connection.execute(
        text(
            f"SELECT f.sample_idx / :batch_size AS batch_no, {_ROOT_OF_SAMPLES} AS root FROM {_SAMPLES}"
            " WHERE f.dataset_id = :dataset_id AND f.sample_idx >= :first AND f.sample_idx < :end"
            " GROUP BY 1 ORDER BY 1"
        ),
        {"dataset_id": dataset_id, "batch_size": batch_size, "first": first, "end": end},
        execution_options={"yield_per": 100},
    )
    for row in rows:
        yield row.batch_no, bytes(row.root)


def dataset_root_now(connection: Connection, dataset_id: UUID) -> bytes | None:
    """The root of a dataset as its parameters digest and its batches' roots give it now."""
    root = connection.execute(
        text(f"SELECT ({_dataset_root_sql()}) FROM heimdall.synthetic_datasets d WHERE {_OF_DATASET}"),
        {"dataset_id": dataset_id},
    ).scalar()
    return None if root is None else bytes(root)


def _dataset_root_sql() -> str:
    return (
        f"SELECT sha256(coalesce(d.parameters_digest, {ZEROS_SQL}) || coalesce(string_agg("
        f"coalesce(b.root, {ZEROS_SQL}), ''::bytea ORDER BY b.batch_no), ''::bytea))"
        " FROM heimdall.synthetic_batches b WHERE b.dataset_id = d.id"
    )
