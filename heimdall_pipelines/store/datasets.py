"""Rows of synthetic datasets: what was asked for, how healthy it is, and what is read of its samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg2.errors import UniqueViolation

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.features import ReceiverFeatures
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

DATASET_COLUMNS = (
    "id, name, dataset_type, spec, receivers, seed, target_num_samples, num_samples, generator_version, created_at,"
    " health_status, last_validated_at, storage_size_bytes, deletion_began_at"
)


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
    from sqlalchemy.exc import IntegrityError

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


def list_datasets(database: Reading) -> list[Dataset]:
    """All datasets, oldest first."""
    rows = database.read(f"SELECT {DATASET_COLUMNS} FROM heimdall.synthetic_datasets ORDER BY created_at, name")
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


def get_truth(database: Database, dataset_id: UUID, sample_idx: int) -> dict[str, Any] | None:
    """Truth of a sample as its feature row holds it, None where there is no such row."""
    return get_truths(database, dataset_id, sample_idx, sample_idx + 1).get(sample_idx)


def get_truths(database: Database, dataset_id: UUID, first: int, end: int) -> dict[int, dict[str, Any]]:
    """Truths of the feature rows with ``first <= sample_idx < end``, by sample; none of rows without."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT sample_idx, truth FROM heimdall.measurement_features WHERE dataset_id = :id"
                " AND sample_idx >= :first AND sample_idx < :end AND truth IS NOT NULL"
            ),
            {"id": dataset_id, "first": first, "end": end},
        )
        return {row.sample_idx: row.truth for row in rows}


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


def dataset_of_row(row: Any) -> Dataset:
    """Read a row with DATASET_COLUMNS, of `Reading.read` or of SQLAlchemy."""
    values = row._asdict()
    values["receivers"] = tuple(Receiver(**receiver) for receiver in values["receivers"])
    return Dataset(**values)
