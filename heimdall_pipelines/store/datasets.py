"""Rows of synthetic_datasets: parameters, target, health, deletion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg2.errors import UniqueViolation

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.batches import BatchGrid
from heimdall_pipelines.model.dataset_parameters import completed
from heimdall_pipelines.model.receiver_sites import sites_from_json, sites_to_json
from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.columns import columns_of
from heimdall_pipelines.store.committed_parameters import keep_parameters
from heimdall_pipelines.store.dataset_digests import sealing_dataset, write_dataset_root
from heimdall_pipelines.store.digest_rows import read_digested, seal_rows
from heimdall_pipelines.store.digests import edit_of
from heimdall_pipelines.store.sql import raised_for, text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.model.dataset_spec import DatasetSpec
    from heimdall_pipelines.rf.receiver_site import ReceiverSite
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading


class DatasetNotFoundError(HeimdallError):
    """There is no such dataset, or it was deleted."""


class DatasetExistsError(HeimdallError):
    """A dataset of this name exists already."""


class DatasetDeletedError(DatasetNotFoundError):
    """The dataset is being deleted, so no sample of it is made."""


class SamplesExistError(HeimdallError):
    """The dataset has samples that a lower target would leave out."""


@dataclass(frozen=True)
class Dataset:
    """A row of synthetic_datasets; ``deletion_began_at`` is set while it is being deleted.

    ``receivers`` are the active stations at the time of its creation, over terrain with the altitude that they have
    there. ``terrain_tiles`` are the SHA-256 of the tiles on which its scenes stand, the first wins; none is a smooth
    Earth.

    ``spec_json`` are the parameters as stored; those of another version may not be readable as `spec`.
    """

    id: UUID
    name: str
    dataset_type: str
    spec_json: dict[str, Any]
    receivers: tuple[ReceiverSite, ...]
    seed: int
    target_num_samples: int
    num_samples: int
    generator_version: int
    created_at: datetime
    health_status: str = "unknown"
    last_validated_at: datetime | None = None
    storage_size_bytes: int | None = None
    deletion_began_at: datetime | None = None
    terrain_tiles: tuple[str, ...] = ()

    @cached_property
    def spec(self) -> DatasetSpec:
        """Parameters of the samples.

        Raises
        ------
        InvalidSpecError
            This version cannot read them.
        """
        from heimdall_pipelines.model.dataset_spec import InvalidSpecError, parse_spec  # loads numpy

        try:
            return parse_spec(completed(self.spec_json))
        except InvalidSpecError as error:
            _, _, problems = str(error).partition("\n")
            raise InvalidSpecError(
                f"dataset {self.name}: this version cannot read its parameters; they were edited, or it is of another "
                f"version:\n{problems or error}"
            ) from error

    @property
    def grid(self) -> BatchGrid:
        """Batches of the dataset, also where this version cannot read its other parameters."""
        return BatchGrid(self.name, int(self.spec_json["batch_size"]), self.target_num_samples)


DATASET_COLUMNS = columns_of(Dataset, renamed={"spec_json": "spec AS spec_json"})


def add_dataset(
    database: Database,
    *,
    name: str,
    spec: DatasetSpec,
    receivers: Sequence[ReceiverSite],
    seed: int,
    target_num_samples: int,
    generator_version: int,
    terrain_tiles: Sequence[str] = (),
) -> Dataset:
    """Add a dataset without samples.

    Raises
    ------
    DatasetExistsError
        The name is taken.
    """
    taken = DatasetExistsError(f"dataset {name} exists already; see: heimdall dataset show {name}")
    with raised_for(UniqueViolation, taken), database.transaction() as connection:
        row = connection.execute(
            text(
                "INSERT INTO heimdall.synthetic_datasets"
                " (name, dataset_type, spec, receivers, seed, target_num_samples, generator_version,"
                " terrain_tiles)"
                " VALUES (:name, :dataset_type, :spec, :receivers, :seed, :target, :generator_version, :tiles)"
                f" RETURNING {DATASET_COLUMNS}"
            ),
            {
                "name": name,
                "dataset_type": spec.dataset_type,
                "spec": json.dumps(spec.to_json(), allow_nan=False),
                "receivers": json.dumps(sites_to_json(receivers)),
                "seed": seed,
                "target": target_num_samples,
                "generator_version": generator_version,
                "tiles": json.dumps(list(terrain_tiles)),
            },
        ).one()
        keep_parameters(connection, row.id)
        write_dataset_root(connection, row.id)
        seal_rows(connection, "synthetic_datasets", "id = :id", {"id": row.id})
        return dataset_of_row(row)


def not_found(name: str) -> DatasetNotFoundError:
    """Error for a dataset that does not exist."""
    return DatasetNotFoundError(f"unknown dataset {name}; see: heimdall dataset list")


def find_dataset(database: Database, name: str) -> Dataset | None:
    """The dataset of this name, None if it does not exist."""
    with database.transaction() as connection:
        return read_dataset(connection, name)


def read_dataset(connection: Connection, name: str) -> Dataset | None:
    """The dataset of this name, None if it does not exist; within a transaction or snapshot."""
    row = connection.execute(
        text(f"SELECT {DATASET_COLUMNS} FROM heimdall.synthetic_datasets WHERE name = :name"), {"name": name}
    ).first()
    return None if row is None else dataset_of_row(row)


def get_dataset(database: Database, name: str) -> Dataset:
    """The dataset of this name.

    Raises
    ------
    DatasetNotFoundError
        It does not exist.
    """
    dataset = find_dataset(database, name)
    if dataset is None:
        raise not_found(name)
    return dataset


def find_living_dataset(database: Database, name: str) -> Dataset | None:
    """The dataset of this name, to write to it; None if it does not exist.

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
    """The dataset of this name, to write to it.

    Raises
    ------
    DatasetNotFoundError
        It does not exist, or it is being deleted.
    """
    dataset = find_living_dataset(database, name)
    if dataset is None:
        raise not_found(name)
    return dataset


def list_datasets(database: Reading) -> list[Dataset]:
    """All datasets, oldest first."""
    rows = database.read(f"SELECT {DATASET_COLUMNS} FROM heimdall.synthetic_datasets ORDER BY created_at, name")
    return [dataset_of_row(row) for row in rows]


def datasets_to_validate(database: Database) -> list[Dataset]:
    """All datasets but those that are being deleted, oldest first."""
    return [dataset for dataset in list_datasets(database) if not is_being_deleted(database, dataset)]


def is_being_deleted(database: Database, dataset: Dataset) -> bool:
    """Whether a deletion of a dataset has begun; a mark that was set by hand does not count."""
    if dataset.deletion_began_at is None:
        return False
    with database.transaction() as connection:
        rows = read_digested(connection, "synthetic_datasets", "id = :id", {"id": dataset.id})
        edits = [edit_of("synthetic_datasets", row, row["digest"]) for row in rows]
    return not any(edit is not None and "deletion_began_at" in edit.columns for edit in edits)


def raise_target(database: Database, dataset: Dataset, target_num_samples: int) -> Dataset:
    """Raise the number of samples that a dataset should have; a lower target changes nothing.

    Raises
    ------
    DatasetNotFoundError
        It was deleted meanwhile.
    """
    of_dataset = {"id": dataset.id}
    with (
        database.transaction() as connection,
        changing(connection, "synthetic_datasets", "id = :id", of_dataset, reason="the dataset was expanded"),
    ):
        row = connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET target_num_samples = greatest(target_num_samples, :target)"
                f" WHERE id = :id AND deletion_began_at IS NULL RETURNING {DATASET_COLUMNS}"
            ),
            of_dataset | {"target": target_num_samples},
        ).first()
    if row is None:
        raise DatasetNotFoundError(f"dataset {dataset.name} was deleted meanwhile")
    return dataset_of_row(row)


def lower_target(database: Database, dataset: Dataset, target_num_samples: int) -> Dataset:
    """Lower the number of samples that a dataset should have; samples that exist are never dropped.

    Commits of batches wait for it, and those that began before and reach beyond the new target commit nothing.

    Raises
    ------
    DatasetNotFoundError
        It was deleted meanwhile, or its deletion has begun.
    SamplesExistError
        Samples at or after the new target exist.
    """
    values = {"id": dataset.id, "target": target_num_samples}
    with database.transaction() as connection:
        locked = connection.execute(
            text("SELECT 1 FROM heimdall.synthetic_datasets WHERE id = :id AND deletion_began_at IS NULL FOR UPDATE"),
            values,
        ).first()
        if locked is None:
            raise DatasetNotFoundError(f"dataset {dataset.name} was deleted meanwhile")
        end = connection.execute(
            text(
                "SELECT greatest("
                "(SELECT max(sample_idx) + 1 FROM heimdall.measurement_features WHERE dataset_id = :id),"
                " (SELECT max(first_sample_idx + num_samples) FROM heimdall.synthetic_batches"
                " WHERE dataset_id = :id AND num_samples > 0), 0)"
            ),
            values,
        ).scalar_one()
        if end > target_num_samples:
            raise SamplesExistError(
                f"dataset {dataset.name} cannot be shrunk to {target_num_samples} samples: samples up to {end - 1} "
                f"exist, and only what is not generated yet is taken back; {end} is possible"
            )
        with sealing_dataset(connection, dataset.id, reason="the dataset was shrunk"):
            connection.execute(  # batches that stopped without a sample
                text(
                    "DELETE FROM heimdall.synthetic_batches"
                    " WHERE dataset_id = :id AND num_samples = 0 AND first_sample_idx >= :target"
                ),
                values,
            )
            row = connection.execute(
                text(
                    "UPDATE heimdall.synthetic_datasets SET target_num_samples = least(target_num_samples, :target)"
                    f" WHERE id = :id RETURNING {DATASET_COLUMNS}"
                ),
                values,
            ).one()
    return dataset_of_row(row)


def set_dataset_health(
    database: Database,
    dataset: Dataset,
    *,
    health_status: str,
    validation_issues: Sequence[dict[str, Any]],
    storage_size_bytes: int,
) -> None:
    """Store the result of a validation.

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
                # One that was set by hand does not keep a dataset from being checked.
                " WHERE id = :id AND (deletion_began_at IS NULL OR deletion_began_at = :deletion_began_at)"
            ),
            {
                "id": dataset.id,
                "deletion_began_at": dataset.deletion_began_at,
                "health_status": health_status,
                "issues": json.dumps(validation_issues, allow_nan=False),
                "bytes": storage_size_bytes,
            },
        )
    if result.rowcount == 0:
        raise DatasetDeletedError(f"dataset {dataset.name} was deleted while it was being validated")


def mark_dataset_deleted(database: Database, dataset: Dataset) -> None:
    """Begin a deletion: from now on no batch of the dataset can be committed."""
    of_dataset = {"id": dataset.id}
    with (
        database.transaction() as connection,
        changing(connection, "synthetic_datasets", "id = :id", of_dataset, reason="its deletion began"),
    ):
        connection.execute(
            text(
                "UPDATE heimdall.synthetic_datasets SET deletion_began_at = coalesce(deletion_began_at, now())"
                " WHERE id = :id"
            ),
            of_dataset,
        )


def delete_dataset_rows(database: Database, dataset_id: UUID) -> None:
    """Delete a dataset with its batches, features and IQ rows."""
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.synthetic_datasets WHERE id = :id"), {"id": dataset_id})


def dataset_of_row(row: Any) -> Dataset:
    """Read a row with DATASET_COLUMNS, of `Reading.read` or of SQLAlchemy."""
    values = row._asdict()
    try:
        values["receivers"] = sites_from_json(values["receivers"])
    except TypeError:  # edited by hand: validation says so, and no sample is generated
        values["receivers"] = ()
    tiles = values["terrain_tiles"]
    values["terrain_tiles"] = tuple(tiles) if isinstance(tiles, list) else ()
    return Dataset(**values)
