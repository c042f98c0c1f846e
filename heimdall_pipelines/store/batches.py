"""Batches of synthetic datasets: their samples are committed together, and what is there is counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.store.datasets import DATASET_COLUMNS, Dataset, DatasetDeletedError, IqSampleRow, dataset_of_row
from heimdall_pipelines.store.features import FeatureRow, insert_feature_rows
from heimdall_pipelines.store.sql import text, time_sql

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

_ROWS_PER_INSERT = 100
_OF_FEATURES = {  # columns of a feature row that its features decide
    "feature_version": "smallint",
    "receiver_features": "jsonb",
    "overall_confidence": "float8",
    "mean_snr_db": "float8",
    "num_receivers_detected": "integer",
    "gdop": "float8",
}
BATCH_COLUMNS = "batch_no, first_sample_idx, num_samples, attempts, rejections, stopped_reason"


@dataclass(frozen=True)
class Batch:
    """A row of synthetic_batches: how far a range of sample_idx is committed, or why it is not.

    ``num_samples`` are committed, beginning with ``first_sample_idx``; attempts and rejections are those of the
    committed samples or, with a ``stopped_reason``, of the try that stopped.
    """

    batch_no: int
    first_sample_idx: int
    num_samples: int
    attempts: int
    rejections: dict[str, int]
    stopped_reason: str | None


@dataclass(frozen=True, kw_only=True)
class SampleFeatureRow(FeatureRow):
    """One synthetic transmission heard by its receivers, with its truth."""

    sample_idx: int
    truth: dict[str, Any]


@dataclass(frozen=True)
class BatchRange:
    """A batch's place on the grid: ``first_sample_idx`` to ``end_sample_idx``, the latter excluded."""

    batch_no: int
    partition_key: str
    first_sample_idx: int
    end_sample_idx: int


def list_batches(database: Reading, dataset_id: UUID) -> list[Batch]:
    """Batches that were committed or stopped, in their order."""
    rows = database.read(
        f"SELECT {BATCH_COLUMNS} FROM heimdall.synthetic_batches WHERE dataset_id = %(id)s ORDER BY batch_no",
        {"id": dataset_id},
    )
    return [Batch(**row._asdict()) for row in rows]


def find_batch(database: Database, dataset_id: UUID, batch_no: int) -> Batch | None:
    """One batch, None where it was neither committed nor stopped yet."""
    with database.transaction() as connection:
        row = connection.execute(
            text(
                f"SELECT {BATCH_COLUMNS} FROM heimdall.synthetic_batches"
                " WHERE dataset_id = :id AND batch_no = :batch_no"
            ),
            {"id": dataset_id, "batch_no": batch_no},
        ).first()
        return None if row is None else Batch(**row._mapping)


def committed_sample_idxs(database: Database, dataset: Dataset, span: BatchRange, iq_below: int) -> set[int]:
    """Samples of a range that have their features and, below ``iq_below``, their IQ row too."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT sample_idx FROM heimdall.measurement_features f"
                " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end"
                " AND (sample_idx >= :iq_below OR EXISTS (SELECT FROM heimdall.synthetic_iq_samples s"
                " WHERE s.dataset_id = f.dataset_id AND s.sample_idx = f.sample_idx))"
            ),
            {"id": dataset.id, "first": span.first_sample_idx, "end": span.end_sample_idx, "iq_below": iq_below},
        )
        return {row.sample_idx for row in rows}


def feature_row_json(dataset_id: UUID, row_id: UUID, row: SampleFeatureRow) -> str:
    """A feature row as `commit_batch` takes it; made where the row was made, so that the commit need not."""
    values = row.columns() | {"id": str(row_id), "dataset_id": str(dataset_id)}
    return json.dumps(values, allow_nan=False)


def iq_row_json(row: IqSampleRow) -> str:
    """A row of synthetic_iq_samples as `commit_batch` takes it."""
    values = vars(row) | {"time_us": row.start_time_unix_ns // 1000}
    del values["start_time_unix_ns"]
    return json.dumps(values, allow_nan=False)


def commit_batch(
    database: Database,
    dataset: Dataset,
    span: BatchRange,
    *,
    sample_idxs: Sequence[int],
    feature_rows: Sequence[str],
    iq_rows: Sequence[str],
) -> Batch:
    """Put samples of a batch in the place of those that were there, and count, in one transaction.

    Commits of one dataset go one after the other; in whatever order and how often they come, the same rows and
    counts are left.

    Parameters
    ----------
    database : Database
    dataset : Dataset
        As it was when the batch was begun.
    span : BatchRange
        The batch.
    sample_idxs : sequence of int
        Which of its samples are given.
    feature_rows, iq_rows : sequence of str
        From `feature_row_json` and `iq_row_json`. Every object that an IQ row names is stored already.

    Returns
    -------
    Batch
        As it is now.

    Raises
    ------
    DatasetNotFoundError
        The dataset was deleted meanwhile.
    """
    with database.transaction() as connection:
        _lock_dataset(connection, dataset, f"{span.partition_key} was being made")
        for table in ("measurement_features", "synthetic_iq_samples"):
            connection.execute(
                text(f"DELETE FROM heimdall.{table} WHERE dataset_id = :id AND sample_idx = ANY(:idxs)"),
                {"id": dataset.id, "idxs": list(sample_idxs)},
            )
        for start in range(0, len(feature_rows), _ROWS_PER_INSERT):
            insert_feature_rows(connection, f"[{','.join(feature_rows[start : start + _ROWS_PER_INSERT])}]")
        for start in range(0, len(iq_rows), _ROWS_PER_INSERT):
            _insert_iq_rows(connection, dataset.id, f"[{','.join(iq_rows[start : start + _ROWS_PER_INSERT])}]")
        batch = _count_batch(connection, dataset, span)
        connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET num_samples = (SELECT sum(num_samples)"
                " FROM heimdall.synthetic_batches WHERE dataset_id = :id) WHERE id = :id"
            ),
            {"id": dataset.id},
        )
        return batch


def note_stopped_batch(
    database: Database, dataset: Dataset, span: BatchRange, *, reason: str, attempts: int, rejections: dict[str, int]
) -> None:
    """Keep why a batch stopped, without touching what is committed of it."""
    with database.transaction() as connection:
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
    """Count what is there: these batches, then the dataset's num_samples; a target never is below what is there.

    Returns
    -------
    Dataset
        As it is now.

    Raises
    ------
    DatasetDeletedError
        It was deleted meanwhile.
    """
    with database.transaction() as connection:
        _lock_dataset(connection, dataset, "it was being counted")
        for span in spans:
            _count_batch(connection, dataset, span)
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
            {"id": dataset.id, "batch_size": int(dataset.spec["batch_size"])},
        ).one()
        return dataset_of_row(row)


def features_json(row: SampleFeatureRow) -> str:
    """A row as `replace_features` takes it."""
    columns = row.columns()
    return json.dumps({name: columns[name] for name in ("sample_idx", *_OF_FEATURES)}, allow_nan=False)


def replace_features(database: Database, dataset: Dataset, rows: Sequence[str]) -> int:
    """Replace what is measured in feature rows of a dataset; truth, counts and IQ rows stay.

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
        It was deleted meanwhile.
    """
    columns = ", ".join(f"{name} = r.{name}" for name in _OF_FEATURES)
    types = ", ".join(f"{name} {kind}" for name, kind in _OF_FEATURES.items())
    with database.transaction() as connection:
        _lock_dataset(connection, dataset, "features of it were being replaced")
        return sum(
            connection.execute(
                text(
                    f"UPDATE heimdall.measurement_features f SET {columns}"
                    f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (sample_idx integer, {types})"
                    " WHERE f.dataset_id = :id AND f.sample_idx = r.sample_idx"
                ),
                {"id": dataset.id, "rows": f"[{','.join(rows[start : start + _ROWS_PER_INSERT])}]"},
            ).rowcount
            for start in range(0, len(rows), _ROWS_PER_INSERT)
        )


def delete_iq_rows(database: Database, dataset: Dataset, sample_idxs: Sequence[int]) -> None:
    """Delete IQ rows of a dataset; their objects stay, and no row names them any more."""
    with database.transaction() as connection:
        _lock_dataset(connection, dataset, "IQ rows of it were being deleted")
        connection.execute(
            text("DELETE FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id AND sample_idx = ANY(:idxs)"),
            {"id": dataset.id, "idxs": list(sample_idxs)},
        )


def _lock_dataset(connection: Connection, dataset: Dataset, meanwhile: str) -> None:
    """Let one transaction at a time change what is counted of a dataset."""
    found = connection.execute(
        text("SELECT deletion_began_at FROM heimdall.synthetic_datasets WHERE id = :id FOR UPDATE"), {"id": dataset.id}
    ).first()
    if found is None or found.deletion_began_at is not None:
        raise DatasetDeletedError(f"dataset {dataset.name} was deleted while {meanwhile}")


def _count_batch(connection: Connection, dataset: Dataset, span: BatchRange) -> Batch:
    """Write what the rows of a batch say of it.

    It is the batch as far as it goes on the grid: a run for a smaller target may end after one for a larger.
    """
    of_batch = {
        "id": dataset.id,
        "batch_no": span.batch_no,
        "first": span.first_sample_idx,
        "end": span.first_sample_idx + int(dataset.spec["batch_size"]),
    }
    connection.execute(
        text(
            "INSERT INTO heimdall.synthetic_batches (dataset_id, batch_no, first_sample_idx, num_samples,"
            " partition_key, attempts, rejections, stopped_reason, generator_version)"
            " SELECT :id, :batch_no, :first, count(*), :partition_key,"
            " coalesce(sum((extraction_metadata ->> 'attempts')::integer), 0), '{}', NULL, :generator_version"
            " FROM heimdall.measurement_features"
            " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end"
            " ON CONFLICT (dataset_id, batch_no) DO UPDATE SET num_samples = excluded.num_samples,"
            " attempts = excluded.attempts, stopped_reason = NULL, committed_at = now()"
        ),
        of_batch | {"partition_key": span.partition_key, "generator_version": dataset.generator_version},
    )
    row = connection.execute(
        text(
            "UPDATE heimdall.synthetic_batches SET rejections = (SELECT coalesce(jsonb_object_agg(reason, n), '{}')"
            " FROM (SELECT reason, sum(number::integer) AS n FROM heimdall.measurement_features,"
            " jsonb_each_text(extraction_metadata -> 'rejections') AS rejected (reason, number)"
            " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end GROUP BY reason) AS reasons)"
            " WHERE dataset_id = :id AND batch_no = :batch_no RETURNING batch_no, first_sample_idx, num_samples,"
            " attempts, rejections, stopped_reason"
        ),
        of_batch,
    ).one()
    return Batch(**row._mapping)


def _insert_iq_rows(connection: Connection, dataset_id: UUID, rows: str) -> None:
    connection.execute(
        text(
            "INSERT INTO heimdall.synthetic_iq_samples (dataset_id, sample_idx, timestamp, truth, receivers_metadata,"
            " iq_metadata, iq_storage_paths)"
            f" SELECT :id, r.sample_idx, {time_sql('r.time_us')}, r.truth,"
            " r.receivers_metadata, r.iq_metadata, r.iq_storage_paths"
            " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (sample_idx integer, time_us bigint, truth jsonb,"
            " receivers_metadata jsonb, iq_metadata jsonb, iq_storage_paths jsonb)"
        ),
        {"id": dataset_id, "rows": rows},
    )
