"""Writes regenerated rows of a batch that were committed before, and reads what they are compared with."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heimdall_pipelines.store.batches import lock_dataset
from heimdall_pipelines.store.changes import note_change
from heimdall_pipelines.store.dataset_digests import sealing_batch, sealing_dataset
from heimdall_pipelines.store.digest_rows import read_digested
from heimdall_pipelines.store.digests import edit_of
from heimdall_pipelines.store.sample_rows import replace_sample_rows
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.model.batches import BatchRange
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.datasets import Dataset


@dataclass(frozen=True)
class CommittedBatch:
    """What regenerated rows of a batch are compared with.

    Attributes
    ----------
    root : bytes or None
        As committed; None if the batch has none, or its row is missing or this column was edited.
    digests : dict
        Digests of the feature row and the IQ row of each sample that has one of them, as the rows have them now.
    """

    root: bytes | None
    digests: dict[int, tuple[bytes | None, bytes | None]]


@dataclass(frozen=True)
class RowsToRestore:
    """Rows of one table, from `store.sample_rows.feature_row_json` or `iq_row_json`, and their samples."""

    sample_idxs: tuple[int, ...]
    rows: tuple[str, ...]


def committed_batch(database: Database, dataset: Dataset, span: BatchRange) -> CommittedBatch:
    """Read the root and the digests of a batch."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT sample_idx, f.digest, s.digest AS iq_digest"
                " FROM (SELECT sample_idx, digest FROM heimdall.measurement_features"
                " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end) AS f"
                " FULL JOIN (SELECT sample_idx, digest FROM heimdall.synthetic_iq_samples"
                " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end) AS s USING (sample_idx)"
            ),
            {"id": dataset.id, "first": span.first_sample_idx, "end": span.end_sample_idx},
        )
        digests = {row.sample_idx: (_bytes(row.digest), _bytes(row.iq_digest)) for row in rows}
        return CommittedBatch(_root(connection, dataset, span), digests)


def restore_rows(
    database: Database,
    dataset: Dataset,
    span: BatchRange,
    features: RowsToRestore,
    iq: RowsToRestore,
    *,
    new_root_because: str | None = None,
) -> None:
    """Replace rows of a batch in one transaction; all other rows stay as they are.

    Parameters
    ----------
    database : Database
    dataset : Dataset
    span : BatchRange
        The whole batch.
    features, iq : RowsToRestore
        Rows that stand for damaged or missing ones.
    new_root_because : str, optional
        The rows differ from the committed ones, for this reason: the batch gets a new root, and the change is noted.

    Raises
    ------
    DatasetDeletedError
        It was deleted in the meantime.
    """
    with database.transaction() as connection:
        lock_dataset(connection, dataset, f"samples of {span.partition_key} were being restored")
        is_new = new_root_because is not None
        with (
            sealing_dataset(connection, dataset.id) if is_new else nullcontext(),
            sealing_batch(connection, dataset.id, span) if is_new else nullcontext(),
        ):
            for table, chosen in (("measurement_features", features), ("synthetic_iq_samples", iq)):
                replace_sample_rows(connection, dataset.id, table, chosen.sample_idxs, chosen.rows)
        if new_root_because is not None:
            note_change(
                connection,
                "synthetic_batches",
                {"dataset_id": str(dataset.id), "batch_no": span.batch_no},
                before=None,
                after={"samples": sorted({*features.sample_idxs, *iq.sample_idxs})},
                reason=new_root_because,
            )


def _root(connection: Connection, dataset: Dataset, span: BatchRange) -> bytes | None:
    where = "dataset_id = :id AND batch_no = :batch_no"
    values = {"id": dataset.id, "batch_no": span.batch_no}
    row = next(iter(read_digested(connection, "synthetic_batches", where, values)), None)
    if row is None or row["root"] is None:
        return None
    edit = edit_of("synthetic_batches", row, row["digest"])
    return bytes(row["root"]) if edit is None or (edit.has_digest and "root" not in edit.columns) else None


def _bytes(value: memoryview | None) -> bytes | None:
    return None if value is None else bytes(value)
