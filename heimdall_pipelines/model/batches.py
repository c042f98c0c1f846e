"""Batches: a fixed grid over sample_idx, so that a dataset's partitions stay the same however often it is expanded."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.slugs import is_slug

# A dataset's name has no "__".
BATCH_SUFFIX = "__([0-9]{5,7})"  # of a partition key, for Python and PostgreSQL; at most 5,000,000 batches
_PARTITION = re.compile(f"(.+){BATCH_SUFFIX}")
MAX_NAME_LENGTH = 63
# After every sample_idx, also one that was edited by hand: the greatest integer of PostgreSQL.
END_OF_SAMPLES = 2**31 - 1


class InvalidNameError(HeimdallError):
    """The name of a dataset or the partition key of a batch is invalid."""


def check_name(name: str) -> str:
    """Return the name of a dataset if it is a slug; the error says what is allowed."""
    if not is_slug(name) or len(name) > MAX_NAME_LENGTH:
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
    if match is None or partition_key(match[1], int(match[2])) != key:
        raise InvalidNameError(f"{key!r} is not a batch: DATASET__NNNNN is expected, for example night__00003")
    return check_name(match[1]), int(match[2])


@dataclass(frozen=True)
class BatchRange:
    """A batch's place on the grid: ``first_sample_idx`` to ``end_sample_idx``, the latter excluded."""

    batch_no: int
    partition_key: str
    first_sample_idx: int
    end_sample_idx: int

    @property
    def num_samples(self) -> int:
        """Samples of the batch."""
        return self.end_sample_idx - self.first_sample_idx


@dataclass(frozen=True)
class Batch:
    """How many samples of a batch are committed, or why it stopped: a row of synthetic_batches.

    ``num_samples`` are committed, beginning with ``first_sample_idx``; attempts and rejections are those of the
    committed samples or, with a ``stopped_reason``, of the run that stopped.
    """

    batch_no: int
    first_sample_idx: int
    num_samples: int
    attempts: int
    rejections: dict[str, int]
    stopped_reason: str | None


def total_rejections(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up how often each reason rejected a scene.

    >>> total_rejections([{"gdop_too_high": 2}, {"gdop_too_high": 1, "too_few_receivers": 4}])
    {'gdop_too_high': 3, 'too_few_receivers': 4}
    """
    total: Counter[str] = Counter()
    for rejections in each:
        total.update(rejections)
    return dict(total)


@dataclass(frozen=True)
class BatchGrid:
    """The batches of a dataset.

    Attributes
    ----------
    dataset_name : str
    batch_size : int
        Samples of every batch but the last, which may have fewer.
    target_num_samples : int

    Examples
    --------
    >>> grid = BatchGrid("night", batch_size=10, target_num_samples=25)
    >>> grid.num_batches, grid.batch_no(12)
    (3, 1)
    >>> grid.batch(2)
    BatchRange(batch_no=2, partition_key='night__00002', first_sample_idx=20, end_sample_idx=25)
    """

    dataset_name: str
    batch_size: int
    target_num_samples: int

    @property
    def num_batches(self) -> int:
        """Batches that the target needs."""
        return -(-self.target_num_samples // self.batch_size)

    def batch_no(self, sample_idx: int) -> int:
        """Batch of a sample."""
        return sample_idx // self.batch_size

    def batch(self, batch_no: int) -> BatchRange:
        """Samples of a batch up to the target.

        Raises
        ------
        InvalidNameError
            The dataset has no such batch.
        """
        if not 0 <= batch_no < self.num_batches:
            raise InvalidNameError(
                f"dataset {self.dataset_name} has batches 0 to {self.num_batches - 1} for its "
                f"{self.target_num_samples} samples, no batch {batch_no}"
            )
        whole = self.whole_batch(batch_no)
        end = min(whole.end_sample_idx, self.target_num_samples)
        return BatchRange(batch_no, whole.partition_key, whole.first_sample_idx, end)

    def whole_batch(self, batch_no: int) -> BatchRange:
        """A batch's place on the grid, also beyond the target."""
        first = batch_no * self.batch_size
        return BatchRange(batch_no, partition_key(self.dataset_name, batch_no), first, first + self.batch_size)

    def all(self) -> list[BatchRange]:
        """All batches up to the target."""
        return [self.batch(batch_no) for batch_no in range(self.num_batches)]

    def missing(self, batches: Iterable[Batch]) -> list[BatchRange]:
        """Batches that are not committed, or not up to the target; a stopped one is missing, too."""
        committed = {batch.batch_no: batch.num_samples for batch in batches}
        return [span for span in self.all() if committed.get(span.batch_no, 0) < span.num_samples]
