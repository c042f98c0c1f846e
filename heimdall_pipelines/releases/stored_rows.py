"""Reads a dataset's rows from the database as the tables that an export has, in groups of samples."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from heimdall_pipelines.learning.columns import schema_of
from heimdall_pipelines.model.dataset_parameters import completed
from heimdall_pipelines.model.dataset_spec import parse_spec
from heimdall_pipelines.releases.ahead import ahead, groups_of
from heimdall_pipelines.releases.arrow_rows import BoundModel, RowTables, row_tables
from heimdall_pipelines.releases.reading import SAMPLES_AT_ONCE, SampleGroup
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.releases import TextRow, rows_as_text, stored_iq_sums


@dataclass(frozen=True)
class StoredGroup:
    """Rows of some successive samples of the database.

    Attributes
    ----------
    tables : RowTables
    iq : pyarrow.Table
        Checksums of their stored IQ.
    """

    tables: RowTables
    iq: pa.Table

    @property
    def first_idx(self) -> int:
        """The first sample."""
        return int(self.tables.samples["sample_idx"][0].as_py())

    @property
    def group(self) -> SampleGroup:
        """The same as an export has it."""
        return SampleGroup(self.tables.samples, self.tables.links, self.tables.differences, self.iq)


def stored_groups(snapshot: DatasetSnapshot, num_samples: int, size: int = SAMPLES_AT_ONCE) -> Iterator[StoredGroup]:
    """Give the rows of the first samples, `size` at a time, in their order.

    Raises
    ------
    MalformedRowsError
        Rows were edited, so that no table can hold them.
    """
    bounds = bound_model(snapshot.dataset)
    for rows, sums in ahead(_read(snapshot, num_samples, size)):
        yield StoredGroup(row_tables(rows, bounds), _iq_table(sums))


def _read(
    snapshot: DatasetSnapshot, num_samples: int, size: int
) -> Iterator[tuple[list[TextRow], list[tuple[int, Mapping[str, str]]]]]:
    """Rows of some samples, with the checksums of those whose IQ is stored."""
    connection, dataset_id = snapshot.connection, snapshot.dataset.id
    for rows in groups_of(rows_as_text(connection, dataset_id, 0, num_samples), size):
        stored = stored_iq_sums(connection, dataset_id, rows[0].sample_idx, rows[-1].sample_idx + 1)
        yield rows, [(one.sample_idx, one.sha256) for one in stored]


def _iq_table(stored: list[tuple[int, Mapping[str, str]]]) -> pa.Table:
    rows = [(index, rx_id, sha256) for index, sums in stored for rx_id, sha256 in sorted(sums.items())]
    schema = pa.schema([schema_of("iq").field(name) for name in ("sample_idx", "rx_id", "sha256")])
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[], [], []], schema=schema)


def session_tables(rows: Iterable[TextRow]) -> Iterator[RowTables]:
    """Tables of the rows of sessions, some at a time."""
    for some in ahead(groups_of(rows, SAMPLES_AT_ONCE)):
        yield row_tables(some, None)


def bound_model(dataset: Dataset) -> BoundModel:
    """What the bound of a dataset's positions needs."""
    spec = parse_spec(completed(dataset.spec_json))
    return BoundModel(
        sample_rate_hz=float(spec.sample_rate_hz),
        bandwidth_hz=float(spec.bandwidth_hz),
        duration_s=spec.duration_s,
        clock_std_s=spec.receiver_clock_ns * 1e-9,
    )
