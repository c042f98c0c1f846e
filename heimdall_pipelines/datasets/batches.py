"""Batches: a fixed grid over sample_idx, so that a dataset's partitions stay the same however often it is expanded."""

import re
from collections.abc import Iterable

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.batches import Batch, BatchRange
from heimdall_pipelines.store.datasets import Dataset

_SLUG = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")  # no "__", which separates the batch's number
_PARTITION = re.compile(r"(?P<name>.+)__(?P<batch_no>[0-9]{5,7})")  # at most 5,000,000 batches
MAX_NAME_LENGTH = 63


class InvalidNameError(HeimdallError):
    """A dataset's name or a batch's partition key is not as it must be."""


def check_name(name: str) -> str:
    """Return the name of a dataset if it is a slug; the error says what is allowed."""
    if not _SLUG.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise InvalidNameError(
            f"dataset name {name!r}: a slug is expected: a-z, 0-9 and single - or _ between them, "
            f"at most {MAX_NAME_LENGTH} characters"
        )
    return name


def partition_key(dataset_name: str, batch_no: int) -> str:
    """Dagster's partition key of a batch.

    >>> partition_key("night", 3)
    'night__00003'
    """
    return f"{dataset_name}__{batch_no:05d}"


def parse_partition_key(key: str) -> tuple[str, int]:
    """Dataset's name and number of a batch; the only place where such keys are read.

    >>> parse_partition_key("night__00003")
    ('night', 3)
    """
    match = _PARTITION.fullmatch(key)
    if match is None or partition_key(match["name"], int(match["batch_no"])) != key:
        raise InvalidNameError(f"{key!r} is no batch: DATASET__NNNNN is expected, such as night__00003")
    return check_name(match["name"]), int(match["batch_no"])


def num_batches(dataset: Dataset) -> int:
    """Batches that the dataset's target needs."""
    return -(-dataset.target_num_samples // _batch_size(dataset))


def batch_range(dataset: Dataset, batch_no: int) -> BatchRange:
    """Samples of a batch, as far as the dataset's target goes.

    Raises
    ------
    InvalidNameError
        The dataset has no such batch.
    """
    if not 0 <= batch_no < num_batches(dataset):
        raise InvalidNameError(
            f"dataset {dataset.name} has batches 0 to {num_batches(dataset) - 1} for its "
            f"{dataset.target_num_samples} samples, no batch {batch_no}"
        )
    first = batch_no * _batch_size(dataset)
    end = min(first + _batch_size(dataset), dataset.target_num_samples)
    return BatchRange(batch_no, partition_key(dataset.name, batch_no), first, end)


def grid_range(dataset: Dataset, batch_no: int) -> BatchRange:
    """A batch's place on the grid, whether or not the dataset's target goes so far."""
    first = batch_no * _batch_size(dataset)
    return BatchRange(batch_no, partition_key(dataset.name, batch_no), first, first + _batch_size(dataset))


def missing_batches(dataset: Dataset, batches: Iterable[Batch]) -> list[BatchRange]:
    """Batches that should exist less those that do; a stopped one is missing too."""
    committed = {batch.batch_no: batch.num_samples for batch in batches}
    spans = (batch_range(dataset, batch_no) for batch_no in range(num_batches(dataset)))
    return [s for s in spans if committed.get(s.batch_no, 0) < s.end_sample_idx - s.first_sample_idx]


def _batch_size(dataset: Dataset) -> int:
    return int(dataset.spec["batch_size"])
