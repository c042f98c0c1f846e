"""Batches of synthetic datasets: their samples are committed in one transaction and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.batches import Batch, BatchRange
from heimdall_pipelines.store.changes import note_change
from heimdall_pipelines.store.columns import columns_of, typed
from heimdall_pipelines.store.dataset_digests import sealing_batch, sealing_dataset
from heimdall_pipelines.store.datasets import DATASET_COLUMNS, Dataset, DatasetDeletedError, dataset_of_row
from heimdall_pipelines.store.digest_rows import resealing
from heimdall_pipelines.store.digests import content
from heimdall_pipelines.store.features import ROWS_PER_INSERT
from heimdall_pipelines.store.sample_rows import MEASURED, MEASURED_OF_SAMPLE, OF_SAMPLES, replace_sample_rows
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

BATCH_COLUMNS = columns_of(Batch)
_TABLES_OF_SAMPLES = ("measurement_features", "synthetic_iq_samples")
_MOST_NOTED = 100  # samples of which a change has the digests


class DatasetShrunkError(HeimdallError):
    """The dataset was shrunk while a batch was made that has samples beyond its new target."""


def list_batches(database: Reading, dataset_id: UUID) -> list[Batch]:
    """Batches that were committed or stopped, by number."""
    rows = database.read(
        f"SELECT {BATCH_COLUMNS} FROM heimdall.synthetic_batches WHERE dataset_id = %(id)s ORDER BY batch_no",
        {"id": dataset_id},
    )
    return [Batch(**row._asdict()) for row in rows]


def find_batch(database: Reading, dataset_id: UUID, batch_no: int) -> Batch | None:
    """One batch; None if it was neither committed nor stopped."""
    found = database.read(
        f"SELECT {BATCH_COLUMNS} FROM heimdall.synthetic_batches WHERE dataset_id = %(id)s AND batch_no = %(batch_no)s",
        {"id": dataset_id, "batch_no": batch_no},
    )
    return Batch(**found[0]._asdict()) if found else None


def committed_sample_idxs(database: Reading, dataset: Dataset, span: BatchRange, iq_below: int) -> set[int]:
    """Samples of a range with a feature row and, below ``iq_below``, an IQ row."""
    rows = database.read(
        "SELECT sample_idx FROM heimdall.measurement_features f"
        " WHERE dataset_id = %(id)s AND sample_idx >= %(first)s AND sample_idx < %(end)s"
        " AND (sample_idx >= %(iq_below)s OR EXISTS (SELECT FROM heimdall.synthetic_iq_samples s"
        " WHERE s.dataset_id = f.dataset_id AND s.sample_idx = f.sample_idx))",
        {"id": dataset.id, "first": span.first_sample_idx, "end": span.end_sample_idx, "iq_below": iq_below},
    )
    return {row.sample_idx for row in rows}


def commit_batch(
    database: Database,
    dataset: Dataset,
    span: BatchRange,
    *,
    sample_idxs: Sequence[int],
    feature_rows: Sequence[str],
    iq_rows: Sequence[str],
) -> Batch:
    """Replace samples of a batch, count, and write digests and roots, in one transaction.

    A sample that is replaced by a different one is noted as a change.

    Commits of one dataset are serialised; repeated and in any order they lead to the same rows and counts.

    Parameters
    ----------
    database : Database
    dataset : Dataset
        As read when the batch began.
    span : BatchRange
        The batch.
    sample_idxs : sequence of int
        The samples of `feature_rows`.
    feature_rows, iq_rows : sequence of str
        From `feature_row_json` and `iq_row_json`. Every object that an IQ row names must be stored before.

    Returns
    -------
    Batch
        As stored now.

    Raises
    ------
    DatasetNotFoundError
        The dataset was deleted in the meantime.
    DatasetShrunkError
        It was shrunk in the meantime, and the batch has samples beyond its target.
    """
    with (
        database.transaction() as connection,
        _locked(connection, dataset, f"{span.partition_key} was being made"),
    ):
        _refuse_beyond_target(connection, dataset, span, max(sample_idxs, default=0))
        before = _contents(connection, dataset, sample_idxs)
        replace_sample_rows(connection, dataset.id, "measurement_features", sample_idxs, feature_rows)
        replace_sample_rows(connection, dataset.id, "synthetic_iq_samples", sample_idxs, iq_rows)
        batch = _count_batch(connection, dataset, span)
        connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET num_samples = (SELECT sum(num_samples)"
                " FROM heimdall.synthetic_batches WHERE dataset_id = :id) WHERE id = :id"
            ),
            {"id": dataset.id},
        )
        _note_replaced(connection, dataset, span, before, _contents(connection, dataset, sample_idxs))
        return batch


def note_stopped_batch(
    database: Database, dataset: Dataset, span: BatchRange, *, reason: str, attempts: int, rejections: dict[str, int]
) -> None:
    """Store why a batch stopped; its committed samples stay."""
    whole = dataset.grid.whole_batch(span.batch_no)
    with (
        database.transaction() as connection,
        sealing_dataset(connection, dataset.id),
        sealing_batch(connection, dataset.id, whole),
    ):
        connection.execute(
            text(
                "INSERT INTO heimdall.synthetic_batches (dataset_id, batch_no, first_sample_idx, num_samples,"
                " partition_key, attempts, rejections, stopped_reason, generator_version)"
                " SELECT id, :batch_no, :first, 0, :partition_key, :attempts, :rejections, :reason, generator_version"
                " FROM heimdall.synthetic_datasets WHERE id = :id"
                " ON CONFLICT (dataset_id, batch_no) DO UPDATE SET attempts = excluded.attempts,"
                " rejections = excluded.rejections, stopped_reason = excluded.stopped_reason"
            ),
            {
                "id": dataset.id,
                "batch_no": span.batch_no,
                "first": span.first_sample_idx,
                "partition_key": span.partition_key,
                "attempts": attempts,
                "rejections": json.dumps(rejections),
                "reason": reason,
            },
        )


def recount(database: Database, dataset: Dataset, spans: Sequence[BatchRange]) -> Dataset:
    """Count the feature rows of these batches, then of the dataset, and raise its target to the last sample.

    Returns
    -------
    Dataset
        As stored now.

    Raises
    ------
    DatasetDeletedError
        It was deleted in the meantime.
    """
    reason = "its samples were counted"
    with database.transaction() as connection, _locked(connection, dataset, "it was being counted", reason=reason):
        for span in spans:
            _count_batch(connection, dataset, span, reason=reason)
        return _count_dataset(connection, dataset)


def _count_dataset(connection: Connection, dataset: Dataset) -> Dataset:
    row = connection.execute(
        text(
            "UPDATE heimdall.synthetic_datasets SET num_samples = counted.num,"
            " target_num_samples = greatest(target_num_samples, counted.after_last)"
            " FROM (SELECT count(*) AS num, coalesce(max(f.sample_idx) + 1, 0) AS after_last"
            " FROM heimdall.measurement_features f JOIN heimdall.synthetic_batches b"
            " ON b.dataset_id = f.dataset_id AND b.batch_no = f.sample_idx / :batch_size"
            " WHERE f.dataset_id = :id) AS counted"
            f" WHERE id = :id RETURNING {DATASET_COLUMNS}"
        ),
        {"id": dataset.id, "batch_size": dataset.grid.batch_size},
    ).one()
    return dataset_of_row(row)


def replace_features(database: Database, dataset: Dataset, rows: Sequence[str]) -> int:
    """Replace the features in rows of a dataset; truth, counts and IQ rows stay.

    Parameters
    ----------
    database : Database
    dataset : Dataset
    rows : sequence of str
        From `features_json`.

    Returns
    -------
    int
        Rows replaced, in one transaction.

    Raises
    ------
    DatasetDeletedError
        It was deleted in the meantime.
    """
    changes = ", ".join(f"{name} = r.{name}" for name in MEASURED)
    sample_idxs = [json.loads(row)["sample_idx"] for row in rows]
    num_replaced = 0
    with (
        database.transaction() as connection,
        _locked(connection, dataset, "features of it were being replaced"),
        _sealed_batches(connection, dataset, sample_idxs, "features of an older version were replaced"),
    ):
        for start in range(0, len(rows), ROWS_PER_INSERT):
            some = slice(start, start + ROWS_PER_INSERT)
            of_some = {"id": dataset.id, "idxs": sample_idxs[some]}
            with resealing(connection, "measurement_features", OF_SAMPLES, of_some):
                num_replaced += connection.execute(
                    text(
                        f"UPDATE heimdall.measurement_features f SET {changes}"
                        f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r ({typed(MEASURED_OF_SAMPLE)})"
                        " WHERE f.dataset_id = :id AND f.sample_idx = r.sample_idx"
                    ),
                    {"id": dataset.id, "rows": f"[{','.join(rows[some])}]"},
                ).rowcount
    return num_replaced


def delete_iq_rows(database: Database, dataset: Dataset, sample_idxs: Sequence[int]) -> None:
    """Delete IQ rows of a dataset; their objects become orphans."""
    with (
        database.transaction() as connection,
        _locked(connection, dataset, "IQ rows of it were being deleted"),
        _sealed_batches(connection, dataset, sample_idxs, "IQ rows of samples that keep no IQ were deleted"),
    ):
        replace_sample_rows(connection, dataset.id, "synthetic_iq_samples", sample_idxs, [])


def _refuse_beyond_target(connection: Connection, dataset: Dataset, span: BatchRange, last_idx: int) -> None:
    target = connection.execute(
        text("SELECT target_num_samples FROM heimdall.synthetic_datasets WHERE id = :id"), {"id": dataset.id}
    ).scalar_one()
    if last_idx >= target and target < dataset.target_num_samples:
        raise DatasetShrunkError(
            f"dataset {dataset.name} was shrunk to {target} samples while {span.partition_key} was being made: "
            "nothing of the batch was committed"
        )


@contextmanager
def _locked(connection: Connection, dataset: Dataset, meanwhile: str, *, reason: str | None = None) -> Iterator[None]:
    """Lock the dataset for the block; at its end it has its root and digest; noted if there is a reason."""
    lock_dataset(connection, dataset, meanwhile)
    with sealing_dataset(connection, dataset.id, reason=reason):
        yield


@contextmanager
def _sealed_batches(
    connection: Connection, dataset: Dataset, sample_idxs: Sequence[int], reason: str
) -> Iterator[None]:
    """Change rows of samples inside the block; at its end their batches have their roots, and are noted as changed."""
    with ExitStack() as stack:
        batch_nos = {dataset.grid.batch_no(sample_idx) for sample_idx in sample_idxs}
        for batch_no in sorted(batch_nos, reverse=True):  # they are left, and noted, in ascending order
            span = dataset.grid.whole_batch(batch_no)
            stack.enter_context(sealing_batch(connection, dataset.id, span, reason=reason))
        yield


def _contents(connection: Connection, dataset: Dataset, sample_idxs: Sequence[int]) -> dict[tuple[str, int], bytes]:
    """What digests say of the rows of some samples, by table and sample."""
    return {
        (table, row.sample_idx): content(row.digest and bytes(row.digest))
        for table in _TABLES_OF_SAMPLES
        for row in connection.execute(
            text(f"SELECT sample_idx, digest FROM heimdall.{table} WHERE {OF_SAMPLES}"),
            {"id": dataset.id, "idxs": list(sample_idxs)},
        )
    }


def _note_replaced(
    connection: Connection,
    dataset: Dataset,
    span: BatchRange,
    before: dict[tuple[str, int], bytes],
    after: dict[tuple[str, int], bytes],
) -> None:
    """Note samples that were replaced by different ones, which regenerating the same samples does not do."""
    for table in _TABLES_OF_SAMPLES:
        changed = [key for key in before if key[0] == table and before[key] != after.get(key)]
        if changed:
            note_change(
                connection,
                table,
                {"dataset_id": str(dataset.id), "batch_no": span.batch_no},
                before={str(key[1]): before[key].hex() for key in changed[:_MOST_NOTED]},
                after={str(key[1]): after[key].hex() if key in after else None for key in changed[:_MOST_NOTED]},
                reason=f"{len(changed)} samples were generated again, and differ from what was committed before",
            )


def lock_dataset(connection: Connection, dataset: Dataset, meanwhile: str) -> None:
    """Lock the dataset's row, so that one transaction at a time changes its counts."""
    found = connection.execute(
        text("SELECT deletion_began_at FROM heimdall.synthetic_datasets WHERE id = :id FOR UPDATE"), {"id": dataset.id}
    ).first()
    if found is None or found.deletion_began_at is not None:
        raise DatasetDeletedError(f"dataset {dataset.name} was deleted while {meanwhile}")


def _count_batch(connection: Connection, dataset: Dataset, span: BatchRange, reason: str | None = None) -> Batch:
    """Write a batch's row from its feature rows, with its root and digest; noted as a change if there is a reason.

    Counts the whole batch on the grid: a run for a smaller target may end after one for a larger target.
    """
    whole = dataset.grid.whole_batch(span.batch_no)
    of_batch = {
        "id": dataset.id,
        "batch_no": span.batch_no,
        "first": span.first_sample_idx,
        "end": whole.end_sample_idx,
    }
    with sealing_batch(connection, dataset.id, whole, reason=reason):
        connection.execute(
            text(
                "INSERT INTO heimdall.synthetic_batches (dataset_id, batch_no, first_sample_idx, num_samples,"
                " partition_key, attempts, rejections, stopped_reason, generator_version)"
                " SELECT :id, :batch_no, :first, count(*), :partition_key,"
                " coalesce(sum((extraction_metadata ->> 'attempts')::integer), 0), '{}', NULL, :generator_version"
                " FROM heimdall.measurement_features"
                " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end"
                " ON CONFLICT (dataset_id, batch_no) DO UPDATE SET num_samples = excluded.num_samples,"
                " first_sample_idx = excluded.first_sample_idx, partition_key = excluded.partition_key,"
                " attempts = excluded.attempts, generator_version = excluded.generator_version,"
                " stopped_reason = NULL, committed_at = now()"
            ),
            of_batch | {"partition_key": span.partition_key, "generator_version": dataset.generator_version},
        )
        row = connection.execute(
            text(
                "UPDATE heimdall.synthetic_batches SET rejections ="
                " (SELECT coalesce(jsonb_object_agg(reason, n), '{}')"
                " FROM (SELECT reason, sum(number::integer) AS n FROM heimdall.measurement_features,"
                " jsonb_each_text(extraction_metadata -> 'rejections') AS rejected (reason, number)"
                " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end GROUP BY reason) AS reasons)"
                f" WHERE dataset_id = :id AND batch_no = :batch_no RETURNING {BATCH_COLUMNS}"
            ),
            of_batch,
        ).one()
    return Batch(**row._mapping)
