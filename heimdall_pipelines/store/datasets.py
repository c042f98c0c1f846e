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
DATASET_COLUMNS = (
    "id, name, dataset_type, spec, receivers, seed, target_num_samples, num_samples, generator_version, created_at,"
    " health_status, last_validated_at, storage_size_bytes, deletion_began_at"
)
BATCH_COLUMNS = "batch_no, first_sample_idx, num_samples, attempts, rejections, stopped_reason"


class DatasetNotFoundError(HeimdallError):
    """There is no such dataset, or none any more."""


class DatasetExistsError(HeimdallError):
    """A dataset of this name was there first."""


class DatasetDeletedError(DatasetNotFoundError):
    """The dataset is being deleted: nothing is made of it any more."""


@dataclass(frozen=True)
class Receiver:
    """A receiver of a dataset as it stood when the dataset was created; degrees, m."""

    rx_id: str
    latitude: float
    longitude: float
    altitude_m: float


@dataclass(frozen=True)
class Dataset:
    """A row of synthetic_datasets; ``deletion_began_at`` is set while it is being deleted."""

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
    health_status: str = "unknown"
    last_validated_at: datetime | None = None
    storage_size_bytes: int | None = None
    deletion_began_at: datetime | None = None


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
                    f" RETURNING {DATASET_COLUMNS}"
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
            return dataset_of_row(row)
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation):
            raise DatasetExistsError(f"dataset {name} exists already; see: heimdall dataset show {name}") from error
        raise


def not_found(name: str) -> DatasetNotFoundError:
    """Make the error of a dataset that is not there."""
    return DatasetNotFoundError(f"unknown dataset {name}; see: heimdall dataset list")


def find_dataset(database: Database, name: str) -> Dataset | None:
    """The dataset of this name, None where there is none."""
    with database.transaction() as connection:
        row = connection.execute(
            text(f"SELECT {DATASET_COLUMNS} FROM heimdall.synthetic_datasets WHERE name = :name"), {"name": name}
        ).first()
        return None if row is None else dataset_of_row(row)


def get_dataset(database: Database, name: str) -> Dataset:
    """The dataset of this name.

    Raises
    ------
    DatasetNotFoundError
        There is none.
    """
    dataset = find_dataset(database, name)
    if dataset is None:
        raise not_found(name)
    return dataset


def find_living_dataset(database: Database, name: str) -> Dataset | None:
    """The dataset of this name, for those who write it; None where there is none.

    Raises
    ------
    DatasetDeletedError
        It is being deleted.
    """
    dataset = find_dataset(database, name)
    if dataset is not None and dataset.deletion_began_at is not None:
        raise DatasetDeletedError(
            f"dataset {name} is being deleted since {dataset.deletion_began_at:%Y-%m-%d %H:%M:%S} UTC; "
            f"finish it with: heimdall dataset delete {name}"
        )
    return dataset


def get_living_dataset(database: Database, name: str) -> Dataset:
    """The dataset of this name, for those who write it.

    Raises
    ------
    DatasetNotFoundError
        There is none, or it is being deleted.
    """
    dataset = find_living_dataset(database, name)
    if dataset is None:
        raise not_found(name)
    return dataset


def list_datasets(database: Database) -> list[Dataset]:
    """All datasets, oldest first."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(f"SELECT {DATASET_COLUMNS} FROM heimdall.synthetic_datasets ORDER BY created_at, name")
        )
        return [dataset_of_row(row) for row in rows]


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
                f" WHERE id = :id AND deletion_began_at IS NULL RETURNING {DATASET_COLUMNS}"
            ),
            {"id": dataset.id, "target": target_num_samples},
        ).first()
    if row is None:
        raise DatasetNotFoundError(f"dataset {dataset.name} was deleted meanwhile")
    return dataset_of_row(row)


def list_batches(database: Database, dataset_id: UUID) -> list[Batch]:
    """Batches that were committed or stopped, in their order."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(f"SELECT {BATCH_COLUMNS} FROM heimdall.synthetic_batches WHERE dataset_id = :id ORDER BY batch_no"),
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


def set_dataset_health(
    database: Database,
    dataset: Dataset,
    *,
    health_status: str,
    validation_issues: Sequence[dict[str, Any]],
    storage_size_bytes: int,
) -> None:
    """Keep what a validation found.

    Raises
    ------
    DatasetDeletedError
        The dataset was deleted meanwhile, or is being deleted.
    """
    with database.transaction() as connection:
        result = connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET health_status = :health_status, last_validated_at = now(),"
                " validation_issues = CAST(:issues AS jsonb), storage_size_bytes = :bytes"
                " WHERE id = :id AND deletion_began_at IS NULL"
            ),
            {
                "id": dataset.id,
                "health_status": health_status,
                "issues": json.dumps(validation_issues, allow_nan=False),
                "bytes": storage_size_bytes,
            },
        )
    if result.rowcount == 0:
        raise DatasetDeletedError(f"dataset {dataset.name} was deleted while it was being validated")


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


def delete_iq_rows(database: Database, dataset: Dataset, sample_idxs: Sequence[int]) -> None:
    """Delete IQ rows of a dataset; their objects stay, and no row names them any more."""
    with database.transaction() as connection:
        _lock_dataset(connection, dataset, "IQ rows of it were being deleted")
        connection.execute(
            text("DELETE FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id AND sample_idx = ANY(:idxs)"),
            {"id": dataset.id, "idxs": list(sample_idxs)},
        )


def mark_dataset_deleted(database: Database, dataset: Dataset) -> None:
    """Begin a deletion: from now on no batch of the dataset is committed."""
    with database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET deletion_began_at = coalesce(deletion_began_at, now())"
                " WHERE id = :id"
            ),
            {"id": dataset.id},
        )


def delete_dataset_rows(database: Database, dataset_id: UUID) -> None:
    """Delete a dataset with its batches, features and IQ rows."""
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.synthetic_datasets WHERE id = :id"), {"id": dataset_id})


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
            " SELECT :id, r.sample_idx, TIMESTAMPTZ 'epoch' + r.time_us * INTERVAL '1 microsecond', r.truth,"
            " r.receivers_metadata, r.iq_metadata, r.iq_storage_paths"
            " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (sample_idx integer, time_us bigint, truth jsonb,"
            " receivers_metadata jsonb, iq_metadata jsonb, iq_storage_paths jsonb)"
        ),
        {"id": dataset_id, "rows": rows},
    )


def dataset_of_row(row: Row[Any]) -> Dataset:
    """Read a row with DATASET_COLUMNS."""
    values = dict(row._mapping)
    values["receivers"] = tuple(Receiver(**receiver) for receiver in values["receivers"])
    return Dataset(**values)
