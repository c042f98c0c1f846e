"""Validates a dataset: runs every check and stores the health in the dataset's row."""

from dataclasses import dataclass
from typing import Any

from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.model.checks import CheckOutcome, HealthStatus, health_status
from heimdall_pipelines.store.datasets import (
    Dataset,
    get_dataset,
    get_living_dataset,
    is_being_deleted,
    set_dataset_health,
)
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress


@dataclass(frozen=True)
class DatasetValidation:
    """Result of a validation.

    Attributes
    ----------
    dataset : Dataset
        As it was checked.
    outcomes : tuple of CheckOutcome
        One for each check, in the order of `DATASET_CHECKS`.
    health_status : {"healthy", "warning", "critical"}
    num_affected, num_all : int
        Samples with a problem, and samples that exist or should exist.
    storage_size_bytes : int
        Of its objects and rows.
    concerned_batches : tuple of int
        Batches with such a sample or a wrong count.
    """

    dataset: Dataset
    outcomes: tuple[CheckOutcome, ...]
    health_status: HealthStatus
    num_affected: int
    num_all: int
    storage_size_bytes: int
    concerned_batches: tuple[int, ...]

    @classmethod
    def of(cls, found: Findings) -> "DatasetValidation":
        """Summarise findings."""
        outcomes = tuple(found.outcomes.values())
        num_all = max(found.num_features, found.dataset.num_samples)
        num_affected = max(len(found.affected), abs(found.num_features - found.dataset.num_samples))
        return cls(
            dataset=found.dataset,
            outcomes=outcomes,
            health_status=health_status(outcomes, num_affected=num_affected, num_all=num_all),
            num_affected=num_affected,
            num_all=num_all,
            storage_size_bytes=found.object_bytes + found.row_bytes,
            concerned_batches=tuple(sorted({*map(found.dataset.grid.batch_no, found.affected), *found.miscounted})),
        )

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "dataset": self.dataset.name,
            "health_status": self.health_status,
            "samples_concerned": self.num_affected,
            "samples": self.num_all,
            "storage_size_bytes": self.storage_size_bytes,
            "checks": [outcome.to_json() for outcome in self.outcomes],
        }


def validate_dataset(
    stores: Stores,
    name: str,
    *,
    checksums: bool = False,
    seed: int | None = None,
    progress: Progress = lambda _: None,
    workers: Workers | None = None,
) -> DatasetValidation:
    """Run every check of a dataset, and store its health, its problems and its size.

    Parameters and errors are those of `checks.check_dataset`; only these columns of the dataset are written. A
    dataset that is being deleted is an error, too.
    """
    dataset = get_dataset(stores.database, name)
    if is_being_deleted(stores.database, dataset):
        get_living_dataset(stores.database, name)  # raises, with what to do
    validation = DatasetValidation.of(
        check_dataset(stores, name, checksums=checksums, seed=seed, progress=progress, workers=workers)
    )
    keep_validation(stores, validation)
    return validation


def keep_validation(stores: Stores, validation: DatasetValidation) -> None:
    """Store the result of a validation in the dataset's row.

    Raises
    ------
    DatasetNotFoundError
        The dataset was or is being deleted.
    """
    set_dataset_health(
        stores.database,
        validation.dataset,
        health_status=validation.health_status,
        validation_issues=[outcome.to_json() for outcome in validation.outcomes if not outcome.passed],
        storage_size_bytes=validation.storage_size_bytes,
    )
