"""Checks a dataset's objects against the rows that name them: a merge join of the store's listing and the IQ rows."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice

from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, StoredIq, activity
from heimdall_pipelines.store.iq_form import IqForm, sidecar_key
from heimdall_pipelines.store.iq_objects import dataset_iq_prefix
from heimdall_pipelines.store.objects import (
    ObjectDamagedError,
    ObjectEntry,
    ObjectLocation,
    ObjectNotFoundError,
    ObjectStore,
)
from heimdall_pipelines.store.stores import Stores

_READS_AT_ONCE = 4


@dataclass(frozen=True)
class MergedSample:
    """An IQ row with the objects of its sample, or one object of a sample that has no IQ row.

    Attributes
    ----------
    row : StoredIq or None
    sample_idx : int or None
        None if the object's key belongs to no sample.
    entries : dict of str to ObjectEntry
        By key.
    """

    row: StoredIq | None
    sample_idx: int | None
    entries: dict[str, ObjectEntry]


class ListingOrderError(UnavailableError):
    """The store does not list objects in the order of their keys, which the merge join needs."""


def check_objects(
    stores: Stores, snapshot: DatasetSnapshot, found: Findings, checked: Callable[[int], None], *, checksums: bool
) -> None:
    """Compare all objects of a dataset with all its rows; memory does not grow with their number.

    Parameters
    ----------
    stores : Stores
    snapshot : DatasetSnapshot
        Opened before the listing, so that the objects of all its rows are stored.
    found : Findings
        Added to.
    checked : callable
        Called from time to time with the number of objects so far.
    checksums : bool
        Read every object, and compare its SHA-256 with the stored one.

    Raises
    ------
    UnavailableError
        The store could not be listed or read.
    """
    dataset = snapshot.dataset
    orphans, unfinished = _Orphans(), _Orphans()
    was_being_written = activity(stores.database, dataset.id).is_locked
    with _ObjectsOfSample(stores.objects, snapshot, found, checksums=checksums) as compare:
        for merged in merge_rows_and_objects(stores.objects, snapshot):
            if merged.row is not None:
                orphans.add(compare(merged.row, merged.entries))
            elif merged.sample_idx is not None and merged.sample_idx < dataset.target_num_samples:
                unfinished.add(merged.entries.values())
            else:
                orphans.add(merged.entries.values())
            checked(compare.num_objects)
    now = activity(stores.database, dataset.id)
    outcome = found.outcomes["objects_agree"]
    # The snapshot's last commit: a whole batch may have been committed since, even before the listing.
    if unfinished.num and (was_being_written or now.is_locked or now.last_commit != snapshot.last_commit):
        outcome.numbers["objects_of_batches_in_progress"] = unfinished.num
        found.object_bytes += unfinished.num_bytes
        unfinished = _Orphans()
    for objects in (orphans, unfinished):
        outcome.problems(objects.num, objects.examples)
        found.object_bytes += objects.num_bytes
    outcome.numbers["objects_without_row"] = orphans.num + unfinished.num


def check_objects_of_batch(
    stores: Stores, snapshot: DatasetSnapshot, found: Findings, first: int, end: int, checked: Callable[[int], None]
) -> None:
    """Compare the objects of a range of samples with their rows, one listing for each sample."""
    bucket, prefix = stores.objects.synthetic_iq_bucket, dataset_iq_prefix(snapshot.dataset.id)
    orphans = _Orphans()
    with _ObjectsOfSample(stores.objects, snapshot, found, checksums=False) as compare:
        for row in snapshot.stored_iq(first, end):
            listed = stores.objects.entries(bucket, f"{prefix}{row.sample_idx}/")
            orphans.add(compare(row, {entry.key: entry for entry in listed}))
            checked(compare.num_objects)
    found.outcomes["objects_agree"].problems(orphans.num, orphans.examples)
    found.outcomes["objects_agree"].numbers["objects_without_row"] = orphans.num


def merge_rows_and_objects(objects: ObjectStore, snapshot: DatasetSnapshot) -> Iterator[MergedSample]:
    """Merge IQ rows with the objects of their samples, and objects without row; streamed in the order of the keys."""
    rows = snapshot.stored_iq_as_listed()
    row = next(rows, None)
    last = ""
    for sample, entries in groupby(_of_samples(objects, snapshot), key=lambda item: item[0]):
        if not sample:
            yield from (MergedSample(None, None, {entry.key: entry}) for _, entry in entries)
            continue
        if sample <= last:
            raise ListingOrderError(
                f"{objects!r} lists sample {sample} after {last}: the comparison needs the order of keys"
            )
        last = sample
        while row is not None and str(row.sample_idx) < sample:
            yield MergedSample(row, row.sample_idx, {})
            row = next(rows, None)
        if row is not None and str(row.sample_idx) == sample:
            yield MergedSample(row, row.sample_idx, {entry.key: entry for _, entry in entries})
            row = next(rows, None)
        else:
            yield from (MergedSample(None, int(sample), {entry.key: entry}) for _, entry in entries)
    while row is not None:
        yield MergedSample(row, row.sample_idx, {})
        row = next(rows, None)


def _of_samples(objects: ObjectStore, snapshot: DatasetSnapshot) -> Iterator[tuple[str, ObjectEntry]]:
    """Objects of a dataset with the text of their sample_idx, which is empty for a key that is of no sample."""
    prefix = dataset_iq_prefix(snapshot.dataset.id)
    for entry in objects.entries(objects.synthetic_iq_bucket, prefix):
        sample, _, name = entry.key.removeprefix(prefix).partition("/")
        is_sample = name and sample.isascii() and sample.isdigit() and str(int(sample)) == sample
        yield sample if is_sample else "", entry


@dataclass
class _Orphans:
    """Objects that no row names."""

    num: int = 0
    num_bytes: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, entries: Iterable[ObjectEntry]) -> None:
        """Count some."""
        for entry in entries:
            self.num += 1
            self.num_bytes += entry.size_bytes
            if len(self.examples) < MAX_EXAMPLES:
                self.examples.append(f"{entry.key}: no row names it")


class _ObjectsOfSample:
    """Compares the objects of one sample with its row; returns those that the row does not name."""

    def __init__(self, objects: ObjectStore, snapshot: DatasetSnapshot, found: Findings, *, checksums: bool) -> None:
        num_samples = snapshot.dataset.spec.num_iq_samples
        self._size_bytes = {form: form.object_bytes(num_samples) for form in IqForm}
        self._objects = objects
        self._findings = found
        self._outcome = found.outcomes["objects_agree"]
        self._sidecars = found.outcomes["sidecars_as_committed"]
        self._checksums = checksums
        self._readers = ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="read")
        self.num_objects = 0

    def __enter__(self) -> "_ObjectsOfSample":
        return self

    def __exit__(self, *error: object) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._outcome.numbers["objects"] = self.num_objects
        for number in ("objects_expected", "sidecars", "checksums_compared"):
            self._outcome.count(number, 0)
        for number in ("sidecars_read", "sidecars_without_checksum"):
            self._sidecars.count(number, 0)
        if self._sidecars.numbers["sidecars_without_checksum"]:
            self._sidecars.note = (
                "rows of before checksums of sidecars were kept have none; to add them: heimdall db accept dataset "
                f"{self._findings.dataset.name} --reason REASON --apply"
            )

    def __call__(self, row: StoredIq, entries: dict[str, ObjectEntry]) -> list[ObjectEntry]:
        size_bytes = self._size_bytes[row.form]
        unsure: list[tuple[str, str]] = []
        sidecars: list[tuple[str, ObjectEntry]] = []
        for rx_id, key in row.paths.items():
            self._outcome.count("objects_expected")
            entry = entries.pop(key, None)
            if entry is None:
                self._wrong(row, f"{key} is missing")
            else:
                self.num_objects += 1
                self._findings.object_bytes += entry.size_bytes
                if entry.size_bytes != size_bytes:
                    self._wrong(row, f"{key} has {entry.size_bytes} bytes, {size_bytes} are expected")
                elif self._checksums or entry.etag != row.etag.get(rx_id, entry.etag):
                    unsure.append((rx_id, key))
            sidecar = entries.pop(sidecar_key(key), None)
            if sidecar is None or sidecar.size_bytes == 0:
                self._wrong(row, f"{sidecar_key(key)} is {'missing' if sidecar is None else 'empty'}")
            else:
                self._outcome.count("sidecars")
                self._findings.object_bytes += sidecar.size_bytes
                sidecars.append((rx_id, sidecar))
        self._compare_checksums(row, unsure)
        self._compare_sidecars(row, sidecars)
        return list(entries.values())

    def _compare_checksums(self, row: StoredIq, unsure: list[tuple[str, str]]) -> None:
        """Read objects and compare; a different ETag proves nothing: copies in another store have other ETags."""
        remaining = iter(unsure)
        while group := list(islice(remaining, _READS_AT_ONCE)):
            sums = self._readers.map(lambda one: self._sha256_of(one[1], self._size_bytes[row.form]), group)
            for (rx_id, key), sha256 in zip(group, sums, strict=True):
                self._outcome.count("checksums_compared")
                if isinstance(sha256, ObjectDamagedError):
                    self._wrong(row, str(sha256))
                elif sha256 is None:
                    self._wrong(row, f"{key} is missing")
                elif sha256 != row.sha256.get(rx_id):
                    self._wrong(row, f"{key} was changed since it was stored: its SHA-256 differs")

    def _compare_sidecars(self, row: StoredIq, sidecars: list[tuple[str, ObjectEntry]]) -> None:
        """Read sidecars, which are small, and compare them with what was stored."""
        known = [(rx_id, entry) for rx_id, entry in sidecars if rx_id in row.sidecar_sha256]
        self._sidecars.count("sidecars_without_checksum", len(sidecars) - len(known))
        found = self._readers.map(lambda one: self._sha256_of(one[1].key, one[1].size_bytes), known)
        for (rx_id, entry), sha256 in zip(known, found, strict=True):
            self._sidecars.count("sidecars_read")
            if isinstance(sha256, ObjectDamagedError):
                self._wrong(row, str(sha256), "sidecars_as_committed")
            elif sha256 != row.sidecar_sha256[rx_id]:
                what = "is missing" if sha256 is None else "was changed since it was stored: its SHA-256 differs"
                self._wrong(row, f"{entry.key} {what}", "sidecars_as_committed")

    def _sha256_of(self, key: str, size_bytes: int) -> str | ObjectDamagedError | None:
        location = ObjectLocation(self._objects.synthetic_iq_bucket, key)
        try:
            return hashlib.sha256(self._objects.read(location, 0, size_bytes)).hexdigest()
        except ObjectNotFoundError:
            return None
        except ObjectDamagedError as error:
            return error

    def _wrong(self, row: StoredIq, what: str, check: str = "objects_agree") -> None:
        # Nothing is missing for a row that should not exist.
        repaired_by_regeneration = row.sample_idx not in self._findings.orphan_iq_rows
        self._findings.add(check, row.sample_idx, what, repaired_by_regeneration=repaired_by_regeneration)
