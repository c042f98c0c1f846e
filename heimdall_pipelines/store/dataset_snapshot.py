"""A dataset's rows at one moment, for checks and repairs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from heimdall_pipelines.model.batches import Batch
from heimdall_pipelines.model.row_metadata import readable_iq_metadata
from heimdall_pipelines.model.time_differences import (
    PairTimeDifference,
    are_time_differences,
    read_time_differences,
)
from heimdall_pipelines.model.truth import SampleTruth, readable_truth
from heimdall_pipelines.store.batches import BATCH_COLUMNS
from heimdall_pipelines.store.committed_parameters import parameters_state
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.dataset_digests import dataset_root_now, roots_now
from heimdall_pipelines.store.dataset_locks import is_locked
from heimdall_pipelines.store.dataset_summaries import SummarisedContent, summarised_content
from heimdall_pipelines.store.datasets import Dataset, not_found, read_dataset
from heimdall_pipelines.store.digest_rows import digested_columns, read_digested
from heimdall_pipelines.store.digests import Edit, counted_columns, edit_of
from heimdall_pipelines.store.features import ReceiverFeatures, read_receivers
from heimdall_pipelines.store.iq_form import NEW_FORM, IqForm
from heimdall_pipelines.store.row_sizes import row_bytes

_ROWS_PER_FETCH = 100


@dataclass(frozen=True)
class SampleRow:
    """A sample's row of measurement_features.

    ``unreadable`` names the column whose JSON is malformed; there are then no receivers. ``truth`` is None where it is
    missing or malformed, ``attempts`` where the metadata is. ``edit`` is None where the row is as it was committed;
    ``digest`` is as stored.
    """

    sample_idx: int
    feature_version: int
    truth: SampleTruth | None
    receivers: tuple[ReceiverFeatures, ...]
    time_differences: tuple[PairTimeDifference, ...] | None
    tx_latitude: float | None
    tx_longitude: float | None
    tx_altitude_m: float | None
    tx_power_dbm: float | None
    attempts: int | None
    num_receivers_in_sample: int
    num_receivers_detected: int
    overall_confidence: float | None
    mean_snr_db: float | None
    gdop: float | None
    unreadable: str | None = None
    edit: Edit | None = None
    digest: bytes | None = field(default=None, compare=False)


_DERIVED_FIELDS = frozenset({"receivers", "time_differences", "attempts", "unreadable", "edit", "digest"})
_SAMPLE_FIELDS = [field.name for field in fields(SampleRow) if field.name not in _DERIVED_FIELDS]


@dataclass(frozen=True)
class UnreadRow:
    """A row as PostgreSQL sent it, JSON as text: another process can read it with `read_sample` or `read_iq`.

    Attributes
    ----------
    sample_idx : int
    values : dict of str to object
        By column.
    """

    sample_idx: int
    values: dict[str, Any]


@dataclass(frozen=True)
class StoredIq:
    """A sample's row of synthetic_iq_samples.

    ``etag``, ``sha256`` and ``sidecar_sha256`` are by rx_id; a row of an older version has no ETags, and no sums of
    sidecars. ``form`` is that of its objects. ``unreadable``, ``edit`` and ``digest`` are those of `SampleRow`; read as
    listed, it has no edit.
    """

    sample_idx: int
    truth: SampleTruth | None
    paths: dict[str, str]
    num_samples: int | None
    sha256: Mapping[str, str]
    etag: Mapping[str, str]
    sidecar_sha256: Mapping[str, str] = field(default_factory=dict)
    form: IqForm = NEW_FORM
    unreadable: str | None = None
    edit: Edit | None = None
    digest: bytes | None = field(default=None, compare=False)

    @classmethod
    def malformed(cls, sample_idx: int, column: str) -> "StoredIq":
        """A row of which a column is malformed; it names no object."""
        return cls(sample_idx, truth=None, paths={}, num_samples=None, sha256={}, etag={}, unreadable=column)


_IQ_COLUMNS = "sample_idx, iq_storage_paths, iq_metadata, digest"


class DatasetSnapshot:
    """Reads a dataset's rows within one snapshot.

    Attributes
    ----------
    dataset : Dataset
        With the parameters that it was created with, where a copy of them is intact.
    parameters : ParametersState
        How those in its row differ from these.
    batches : tuple of Batch
        In their order.
    last_commit : datetime or None
        Of a batch, within the snapshot.
    connection : Connection
        To the snapshot, for other modules' reads.
    """

    def __init__(self, connection: Connection, dataset: Dataset) -> None:
        self.connection = connection
        self.parameters = parameters_state(connection, dataset.id)
        committed = self.parameters.committed
        self.dataset = committed.of(dataset) if committed is not None and self.parameters.edited else dataset
        rows = connection.execute(
            text(f"SELECT {BATCH_COLUMNS} FROM heimdall.synthetic_batches WHERE dataset_id = :id ORDER BY batch_no"),
            {"id": dataset.id},
        )
        self.batches = tuple(Batch(**row._mapping) for row in rows)
        self.last_commit = _last_commit(connection, dataset.id)

    def samples(self, first: int, end: int) -> Iterator[SampleRow]:
        """Feature rows with ``first <= sample_idx < end``, in order, fetched in small groups."""
        return map(read_sample, self.unread_samples(first, end))

    def unread_samples(self, first: int, end: int) -> Iterator[UnreadRow]:
        """The same rows, for `read_sample`."""
        return self._unread("measurement_features", first, end)

    def sample(self, sample_idx: int) -> SampleRow | None:
        """The feature row of a sample, None where there is none."""
        return next(self.samples(sample_idx, sample_idx + 1), None)

    def iq_of(self, sample_idx: int) -> StoredIq | None:
        """The IQ row of a sample, None where there is none."""
        return next(self.stored_iq(sample_idx, sample_idx + 1), None)

    def older_features(self, feature_version: int) -> Iterator[tuple[int, int]]:
        """Index and feature version of the samples whose features have an older version."""
        rows = self._stream(
            "SELECT sample_idx, feature_version FROM heimdall.measurement_features"
            " WHERE dataset_id = :id AND feature_version < :version",
            {"version": feature_version},
        )
        for row in rows:
            yield row["sample_idx"], row["feature_version"]

    def stored_iq(self, first: int, end: int) -> Iterator[StoredIq]:
        """IQ rows with ``first <= sample_idx < end``, in order, fetched in small groups."""
        return map(read_iq, self.unread_iq(first, end))

    def unread_iq(self, first: int, end: int) -> Iterator[UnreadRow]:
        """The same rows, for `read_iq`."""
        return self._unread("synthetic_iq_samples", first, end)

    def stored_iq_as_listed(self) -> Iterator[StoredIq]:
        """All IQ rows, without their truth, in the order in which a store lists their objects: 1, 10, 100, 2."""
        rows = self._stream(
            f"SELECT {_IQ_COLUMNS} FROM heimdall.synthetic_iq_samples"
            ' WHERE dataset_id = :id ORDER BY sample_idx::text COLLATE "C"',
            {},
        )
        for row in rows:
            yield _stored_iq(row, None)

    def iq_form(self, first: int, end: int) -> IqForm:
        """Form in which the IQ of ``first <= sample_idx < end`` is stored or, if none of it is, would be."""
        return form_of_samples(self.connection, self.dataset.id, first, end)

    def has_bounds(self, first: int, end: int) -> bool:
        """Whether truths of ``first <= sample_idx < end`` have the bound of the position; True if there are none."""
        return bool(
            self.connection.execute(
                text(
                    "SELECT coalesce(avg((truth ? 'position_bound')::int) >= 0.5, true)"
                    " FROM heimdall.measurement_features"
                    " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end"
                ),
                {"id": self.dataset.id, "first": first, "end": end},
            ).scalar_one()
        )

    def summarised_content(self) -> SummarisedContent | None:
        """Content that the last summary was computed from, None if there was none."""
        return summarised_content(self.connection, self.dataset.id)

    def dataset_edit(self) -> Edit | None:
        """How the dataset's row differs from what was committed."""
        (row,) = read_digested(self.connection, "synthetic_datasets", "id = :id", {"id": self.dataset.id})
        return edit_of("synthetic_datasets", row, row["digest"])

    def root_agrees(self) -> bool:
        """Whether the dataset's root is that of its parameters' digest and its batches' roots."""
        stored = self.connection.execute(
            text("SELECT root FROM heimdall.synthetic_datasets WHERE id = :id"), {"id": self.dataset.id}
        ).scalar_one()
        return stored is not None and bytes(stored) == dataset_root_now(self.connection, self.dataset.id)

    def batch_edits(self) -> Iterator[tuple[int, Edit | None, bytes | None]]:
        """Number of each batch, how its row differs from what was committed, and its root; in any order."""
        for row in read_digested(self.connection, "synthetic_batches", "dataset_id = :id", {"id": self.dataset.id}):
            root = None if row["root"] is None else bytes(row["root"])
            yield row["batch_no"], edit_of("synthetic_batches", row, row["digest"]), root

    def roots_now(self, first: int, end: int) -> dict[int, bytes]:
        """Roots of the batches in ``first <= sample_idx < end``, as the digests of their rows give them."""
        return dict(roots_now(self.connection, self.dataset.id, self.dataset.grid.batch_size, first, end))

    def digests_since(self) -> datetime | None:
        """Since when digests vouch for the rows that existed then; None: from the first row on."""
        since: datetime | None = self.connection.execute(
            text("SELECT digests_since FROM heimdall.synthetic_datasets WHERE id = :id"), {"id": self.dataset.id}
        ).scalar_one()
        return since

    def row_bytes(self) -> int:
        """Size of the dataset's rows in PostgreSQL."""
        parts = dict.fromkeys(("measurement_features", "synthetic_iq_samples", "synthetic_batches"), "dataset_id")
        return row_bytes(self.connection, parts | {"synthetic_datasets": "id"}, self.dataset.id)

    def _unread(self, table: str, first: int, end: int) -> Iterator[UnreadRow]:
        rows = self._stream(
            f"SELECT {digested_columns(table, json_as_text=True)}, digest FROM heimdall.{table}"
            " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end ORDER BY sample_idx",
            {"first": first, "end": end},
        )
        for row in rows:
            portable = {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}
            yield UnreadRow(row["sample_idx"], portable)

    def _stream(self, statement: str, values: dict[str, object]) -> Iterator[dict[str, Any]]:
        rows = self.connection.execution_options(yield_per=_ROWS_PER_FETCH).execute(
            text(statement), values | {"id": self.dataset.id}
        )
        for row in rows:
            yield dict(row._mapping)


def read_sample(unread: UnreadRow) -> SampleRow:
    """Read a feature row."""
    read = _with_json("measurement_features", unread)
    elements, truth, metadata = read["receiver_features"], read["truth"], read["extraction_metadata"]
    row = {name: read[name] for name in _SAMPLE_FIELDS}
    row["attempts"] = metadata.get("attempts") if isinstance(metadata, dict) else None
    row["digest"] = read["digest"]
    row["edit"] = edit_of("measurement_features", read, row["digest"])
    row["truth"] = readable_truth(truth)
    receivers = read_receivers(elements)
    unreadable = None
    if truth is not None and row["truth"] is None:
        unreadable = "truth"
    elif not isinstance(row["attempts"], int):
        row["attempts"] = None
        unreadable = "extraction_metadata"
    elif receivers is None:
        unreadable = "receiver_features"
    elif not are_time_differences(read["time_differences"]):
        unreadable = "time_differences"
    row["time_differences"] = None if unreadable else read_time_differences(read["time_differences"])
    if unreadable is not None or receivers is None:
        return SampleRow(receivers=(), unreadable=unreadable, **row)
    return SampleRow(receivers=receivers, **row)


def read_iq(unread: UnreadRow) -> StoredIq:
    """Read an IQ row."""
    row = _with_json("synthetic_iq_samples", unread)
    truth = readable_truth(row["truth"])
    stored = replace(_stored_iq(row, truth), edit=edit_of("synthetic_iq_samples", row, row["digest"]))
    return stored if truth is not None else replace(stored, unreadable="truth")


def _with_json(table: str, unread: UnreadRow) -> dict[str, Any]:
    """Values of a row with its JSON read, as psycopg2 reads it."""
    values = dict(unread.values)
    for name in _json_columns(table):
        if values[name] is not None:
            values[name] = json.loads(values[name])
    return values


@cache
def _json_columns(table: str) -> tuple[str, ...]:
    return tuple(column.name for column in counted_columns(table) if column.type == "jsonb")


def _stored_iq(row: dict[str, Any], truth: SampleTruth | None) -> StoredIq:
    metadata, paths = readable_iq_metadata(row["iq_metadata"]), row["iq_storage_paths"]
    form = None if metadata is None else IqForm.named(metadata.format)
    if metadata is None or form is None:
        return StoredIq.malformed(row["sample_idx"], "iq_metadata")
    if not all(isinstance(path, str) for path in paths.values()):
        return StoredIq.malformed(row["sample_idx"], "iq_storage_paths")
    return StoredIq(
        sample_idx=row["sample_idx"],
        truth=truth,
        paths=paths,
        num_samples=metadata.num_samples,
        sha256=metadata.sha256,
        etag=metadata.etag,
        sidecar_sha256=metadata.sidecar_sha256,
        form=form,
        digest=None if row["digest"] is None else bytes(row["digest"]),
    )


def form_of_samples(connection: Connection, dataset_id: UUID, first: int, end: int) -> IqForm:
    """Form in which a batch stores the IQ of ``first <= sample_idx < end``.

    It is that of most of its IQ rows, else the new one: a batch is in one form, also if some samples are made later.
    """
    names = connection.execute(
        text(
            "SELECT iq_metadata ->> 'format' FROM heimdall.synthetic_iq_samples"
            " WHERE dataset_id = :id AND sample_idx >= :first AND sample_idx < :end GROUP BY 1 ORDER BY count(*) DESC"
        ),
        {"id": dataset_id, "first": first, "end": end},
    ).scalars()
    known = (IqForm.named(name) for name in names)
    return next((form for form in known if form is not None), NEW_FORM)


@contextmanager
def open_snapshot(database: Database, name: str) -> Iterator[DatasetSnapshot]:
    """Open a snapshot of a dataset's rows; later commits do not change it.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset.
    DatabaseUnavailableError
        PostgreSQL could not be reached, at the beginning or later.
    """
    with database.snapshot() as connection:
        dataset = read_dataset(connection, name)
        if dataset is None:
            raise not_found(name)
        yield DatasetSnapshot(connection, dataset)


@dataclass(frozen=True)
class Activity:
    """Whether a dataset is being written, and when a batch was last committed."""

    is_locked: bool
    last_commit: datetime | None


def activity(database: Database, dataset_id: UUID) -> Activity:
    """Read whether a dataset is being written now."""
    with database.transaction() as connection:
        return Activity(is_locked(connection, dataset_id), _last_commit(connection, dataset_id))


def _last_commit(connection: Connection, dataset_id: UUID) -> datetime | None:
    last_commit: datetime | None = connection.execute(
        text("SELECT max(committed_at) FROM heimdall.synthetic_batches WHERE dataset_id = :id"), {"id": dataset_id}
    ).scalar_one()
    return last_commit
