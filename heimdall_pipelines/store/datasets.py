"""Rows of synthetic datasets: what was asked for, which batches are committed, their features and IQ."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg2.errors import UniqueViolation
from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import IntegrityError

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.features import FeatureRow, ReceiverFeatures, insert_feature_rows

_ROWS_PER_INSERT = 100
_COLUMNS = (
    "id, name, dataset_type, spec, receivers, seed, target_num_samples, num_samples, generator_version, created_at"
)


class DatasetNotFoundError(HeimdallError):
    """There is no such dataset, or none any more."""


class DatasetExistsError(HeimdallError):
    """A dataset of this name was there first."""


@dataclass(frozen=True)
class Receiver:
    """A receiver of a dataset as it stood when the dataset was created; degrees, m."""

    rx_id: str
    latitude: float
    longitude: float
    altitude_m: float


@dataclass(frozen=True)
class Dataset:
    """A row of synthetic_datasets."""

    id: UUID
    name: str
    dataset_type: str
    spec: dict[str, Any]
    receivers: tuple[Receiver, ...]
    seed: int
    target_num_samples: int
    num_samples: int
    generator_version: int
    created_at: datetime


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


@dataclass(frozen=True, kw_only=True)
class IqSampleRow:
    """Where the IQ of one sample is stored; the row of synthetic_iq_samples."""

    sample_idx: int
    start_time_unix_ns: int
    truth: dict[str, Any]
    receivers_metadata: list[dict[str, Any]]
    iq_metadata: dict[str, Any]
    iq_storage_paths: dict[str, str]


@dataclass(frozen=True)
class BatchRange:
    """A batch's place on the grid: ``first_sample_idx`` to ``end_sample_idx``, the latter excluded."""

    batch_no: int
    partition_key: str
    first_sample_idx: int
    end_sample_idx: int


@dataclass(frozen=True)
class DatasetCounts:
    """What a dataset has, counted row by row."""

    features: int
    iq_samples: int
    iq_objects: int


@dataclass(frozen=True)
class StoredSample:
    """What a summary reads of one sample: truth beside estimate."""

    sample_idx: int
    truth: dict[str, Any]
    receivers: tuple[ReceiverFeatures, ...]
    gdop: float | None
    mean_snr_db: float | None


def add_dataset(
    database: Database,
    *,
    name: str,
    spec: dict[str, Any],
    receivers: Sequence[Receiver],
    seed: int,
    target_num_samples: int,
    generator_version: int,
) -> Dataset:
    """Add a dataset without samples.

    Raises
    ------
    DatasetExistsError
        The name is taken.
    """
    try:
        with database.transaction() as connection:
            row = connection.execute(
                text(
                    "INSERT INTO heimdall.synthetic_datasets"
                    " (name, dataset_type, spec, receivers, seed, target_num_samples, generator_version)"
                    " VALUES (:name, :dataset_type, :spec, :receivers, :seed, :target, :generator_version)"
                    f" RETURNING {_COLUMNS}"
                ),
                {
                    "name": name,
                    "dataset_type": spec["dataset_type"],
                    "spec": json.dumps(spec, allow_nan=False),
                    "receivers": json.dumps([vars(receiver) for receiver in receivers]),
                    "seed": seed,
                    "target": target_num_samples,
                    "generator_version": generator_version,
                },
            ).one()
            return _dataset(row)
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation):
            raise DatasetExistsError(f"dataset {name} exists already; see: heimdall dataset show {name}") from error
        raise


def find_dataset(database: Database, name: str) -> Dataset | None:
    """The dataset of this name, None where there is none."""
    with database.transaction() as connection:
        row = connection.execute(
            text(f"SELECT {_COLUMNS} FROM heimdall.synthetic_datasets WHERE name = :name"), {"name": name}
        ).first()
        return None if row is None else _dataset(row)


def get_dataset(database: Database, name: str) -> Dataset:
    """The dataset of this name.

    Raises
    ------
    DatasetNotFoundError
        There is none.
    """
    dataset = find_dataset(database, name)
    if dataset is None:
        raise DatasetNotFoundError(f"unknown dataset {name}; see: heimdall dataset list")
    return dataset


def list_datasets(database: Database) -> list[Dataset]:
    """All datasets, oldest first."""
    with database.transaction() as connection:
        rows = connection.execute(text(f"SELECT {_COLUMNS} FROM heimdall.synthetic_datasets ORDER BY created_at, name"))
        return [_dataset(row) for row in rows]


def raise_target(database: Database, dataset: Dataset, target_num_samples: int) -> Dataset:
    """State how many samples a dataset should have; a target is never lowered.

    Raises
    ------
    DatasetNotFoundError
        It was deleted meanwhile.
    """
    with database.transaction() as connection:
        row = connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET target_num_samples = greatest(target_num_samples, :target)"
                f" WHERE id = :id RETURNING {_COLUMNS}"
            ),
            {"id": dataset.id, "target": target_num_samples},
        ).first()
    if row is None:
        raise DatasetNotFoundError(f"dataset {dataset.name} was deleted meanwhile")
    return _dataset(row)


def list_batches(database: Database, dataset_id: UUID) -> list[Batch]:
    """Batches that were committed or stopped, in their order."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT batch_no, first_sample_idx, num_samples, attempts, rejections, stopped_reason"
                " FROM heimdall.synthetic_batches WHERE dataset_id = :id ORDER BY batch_no"
            ),
            {"id": dataset_id},
        )
        return [Batch(**row._mapping) for row in rows]


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
    of_batch = {"id": dataset.id, "first": span.first_sample_idx, "end": span.end_sample_idx}
    with database.transaction() as connection:
        found = connection.execute(
            text("SELECT 1 FROM heimdall.synthetic_datasets WHERE id = :id FOR UPDATE"), {"id": dataset.id}
        ).first()
        if found is None:
            raise DatasetNotFoundError(f"dataset {dataset.name} was deleted while {span.partition_key} was being made")
        for table in ("measurement_features", "synthetic_iq_samples"):
            connection.execute(
                text(f"DELETE FROM heimdall.{table} WHERE dataset_id = :id AND sample_idx = ANY(:idxs)"),
                {"id": dataset.id, "idxs": list(sample_idxs)},
            )
        for start in range(0, len(feature_rows), _ROWS_PER_INSERT):
            insert_feature_rows(connection, f"[{','.join(feature_rows[start : start + _ROWS_PER_INSERT])}]")
        for start in range(0, len(iq_rows), _ROWS_PER_INSERT):
            _insert_iq_rows(connection, dataset.id, f"[{','.join(iq_rows[start : start + _ROWS_PER_INSERT])}]")
        # The batch as far as it goes: a run for a smaller target may end after one for a larger.
        end = _batch_end(span, dataset)
        connection.execute(
            text(
                "INSERT INTO heimdall.synthetic_batches (dataset_id, batch_no, first_sample_idx, num_samples,"
                " partition_key, attempts, rejections, stopped_reason, generator_version)"
                " SELECT :id, :batch_no, :first, count(*), :partition_key,"
                " coalesce(sum((extraction_metadata ->> 'attempts')::integer), 0), '{}', NULL, :generator_version"
                " FROM heimdall.measurement_features"
                " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end"
                " ON CONFLICT (dataset_id, batch_no) DO UPDATE SET num_samples = excluded.num_samples,"
                " attempts = excluded.attempts, stopped_reason = NULL"
            ),
            of_batch
            | {
                "end": end,
                "batch_no": span.batch_no,
                "partition_key": span.partition_key,
                "generator_version": dataset.generator_version,
            },
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
            of_batch | {"end": end, "batch_no": span.batch_no},
        ).one()
        connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET num_samples = (SELECT sum(num_samples)"
                " FROM heimdall.synthetic_batches WHERE dataset_id = :id) WHERE id = :id"
            ),
            {"id": dataset.id},
        )
        return Batch(**row._mapping)


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


def count_rows(database: Database, dataset_id: UUID) -> DatasetCounts:
    """Count features, IQ rows and the objects that these name."""
    with database.transaction() as connection:
        features = connection.execute(
            text("SELECT count(*) FROM heimdall.measurement_features WHERE dataset_id = :id"), {"id": dataset_id}
        ).scalar_one()
        row = connection.execute(
            text(
                "SELECT count(*) AS samples, coalesce(sum((SELECT count(*) FROM jsonb_object_keys(iq_storage_paths))),"
                " 0)::bigint AS objects FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id"
            ),
            {"id": dataset_id},
        ).one()
        return DatasetCounts(features, row.samples, row.objects)


def stream_samples(database: Database, dataset_id: UUID) -> Iterator[StoredSample]:
    """Truth and estimates of a dataset in the order of sample_idx, fetched in small groups."""
    with database.transaction() as connection:
        rows = connection.execution_options(yield_per=100).execute(
            text(
                "SELECT sample_idx, truth, receiver_features, gdop, mean_snr_db FROM heimdall.measurement_features"
                " WHERE dataset_id = :id ORDER BY sample_idx"
            ),
            {"id": dataset_id},
        )
        for row in rows:
            yield StoredSample(
                sample_idx=row.sample_idx,
                truth=row.truth,
                receivers=tuple(ReceiverFeatures.from_json(element) for element in row.receiver_features),
                gdop=row.gdop,
                mean_snr_db=row.mean_snr_db,
            )


def get_iq_sample(database: Database, dataset_id: UUID, sample_idx: int) -> IqSampleRow | None:
    """Where the IQ of a sample is stored, None where it is not."""
    with database.transaction() as connection:
        row = connection.execute(
            text(
                "SELECT sample_idx, (extract(epoch FROM timestamp) * 1000000)::bigint * 1000 AS start_time_unix_ns,"
                " truth, receivers_metadata, iq_metadata, iq_storage_paths FROM heimdall.synthetic_iq_samples"
                " WHERE dataset_id = :id AND sample_idx = :sample_idx"
            ),
            {"id": dataset_id, "sample_idx": sample_idx},
        ).first()
        return None if row is None else IqSampleRow(**row._mapping)


def delete_dataset_rows(database: Database, dataset_id: UUID) -> None:
    """Delete a dataset with its batches, features and IQ rows."""
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.synthetic_datasets WHERE id = :id"), {"id": dataset_id})


def _batch_end(span: BatchRange, dataset: Dataset) -> int:
    return span.first_sample_idx + int(dataset.spec["batch_size"])


def _insert_iq_rows(connection: Connection, dataset_id: UUID, rows: str) -> None:
    connection.execute(
        text(
            "INSERT INTO heimdall.synthetic_iq_samples (dataset_id, sample_idx, timestamp, truth, receivers_metadata,"
            " iq_metadata, iq_storage_paths)"
            " SELECT :id, r.sample_idx, TIMESTAMPTZ 'epoch' + r.time_us * INTERVAL '1 microsecond', r.truth,"
            " r.receivers_metadata, r.iq_metadata, r.iq_storage_paths"
            " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (sample_idx integer, time_us bigint, truth jsonb,"
            " receivers_metadata jsonb, iq_metadata jsonb, iq_storage_paths jsonb)"
        ),
        {"id": dataset_id, "rows": rows},
    )


def _dataset(row: Row[Any]) -> Dataset:
    values = dict(row._mapping)
    values["receivers"] = tuple(Receiver(**receiver) for receiver in values["receivers"])
    return Dataset(**values)
