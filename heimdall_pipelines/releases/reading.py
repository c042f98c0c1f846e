"""Reads the tables of an export in groups of samples, and computes their leaves."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from heimdall_pipelines.learning.description import NotAnExportError
from heimdall_pipelines.releases.leaves import leaves_of_tables, truth_leaves_of_tables
from heimdall_pipelines.releases.merkle import GROUP_SIZE
from heimdall_pipelines.releases.table_rows import values_of_tables

SAMPLES_AT_ONCE = 2 * GROUP_SIZE  # also a group of rows in each exported file
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class SampleGroup:
    """Rows of some successive samples.

    Attributes
    ----------
    samples, links : pyarrow.Table
    differences : pyarrow.Table or None
    iq : pyarrow.Table
        Of the IQ whose checksums belong to the release.
    """

    samples: pa.Table
    links: pa.Table
    differences: pa.Table | None
    iq: pa.Table

    def leaves(self) -> list[bytes]:
        """Leaves of the samples; raises LeafError."""
        return leaves_of_tables(self.samples, self.links, self.differences, self.iq)

    def truth_leaves(self) -> list[bytes]:
        """Leaves of what is true of the samples."""
        return truth_leaves_of_tables(self.samples, self.links)

    def chosen(self, indices: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Columns of measurement_features of some of the samples."""
        wanted = pa.array(sorted(indices), pa.int32())
        if not len(wanted):
            return
        samples, links, differences = (
            None if table is None else table.filter(pc.is_in(table["sample_idx"], wanted))
            for table in (self.samples, self.links, self.differences)
        )
        yield from values_of_tables(samples, links, differences)


def groups_of_export(folder: Path, *, has_differences: bool, size: int = SAMPLES_AT_ONCE) -> Iterator[SampleGroup]:
    """Give the rows of `size` samples at a time, in their order.

    Raises
    ------
    NotAnExportError
        A file is no Parquet file, lacks a column, or its rows are not in the order of the samples.
    """
    try:
        links, iq = _Rows(folder / "links.parquet"), _Rows(folder / "iq.parquet")
        differences = _Rows(folder / "time_differences.parquet") if has_differences else None
        samples = _Rows(folder / "samples.parquet")
        while len(group := samples.take(size)):
            end = group["sample_idx"][-1].as_py() + 1
            sums = iq.below(end)
            yield SampleGroup(
                group,
                links.below(end),
                None if differences is None else differences.below(end),
                sums.filter(sums["in_release"]),
            )
    except (pa.ArrowException, OSError, KeyError) as error:
        raise NotAnExportError(f"{folder}: a table cannot be read: {error}") from error


def released_iq(folder: Path) -> Iterator[pa.Table]:
    """Rows of the table iq whose checksums are part of the release."""
    for batch in pq.ParquetFile(folder / "iq.parquet").iter_batches():
        table = pa.Table.from_batches([batch])
        yield table.filter(table["in_release"])


def iq_sums(iq: pa.Table) -> dict[int, dict[str, str]]:
    """SHA-256 by sample_idx and rx_id."""
    sums: dict[int, dict[str, str]] = {}
    for row in iq.select(["sample_idx", "rx_id", "sha256"]).to_pylist():
        sums.setdefault(row["sample_idx"], {})[row["rx_id"]] = row["sha256"]
    return sums


class _Rows:
    """Rows of a table sorted by sample_idx, taken from the front."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = pq.ParquetFile(path)
        self._batches = file.iter_batches(batch_size=_ROWS_AT_ONCE)
        self._rows = file.schema_arrow.empty_table()
        self._last = -1

    def take(self, num: int) -> pa.Table:
        """The next `num` rows, fewer at the end."""
        while len(self._rows) < num and self._more():
            pass
        return self._cut(num)

    def below(self, end: int) -> pa.Table:
        """The next rows, whose sample_idx is below `end`."""
        while (not len(self._rows) or self._rows["sample_idx"][-1].as_py() < end) and self._more():
            pass
        return self._cut(int(np.searchsorted(self._rows["sample_idx"].to_numpy(), end)))

    def _cut(self, num: int) -> pa.Table:
        taken, self._rows = self._rows.slice(0, num), self._rows.slice(num)
        return taken

    def _more(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        if batch.num_rows:
            indices = batch["sample_idx"].to_numpy()
            if indices[0] < self._last or (np.diff(indices) < 0).any():
                raise NotAnExportError(f"{self._path}: the rows are not sorted by sample_idx")
            self._last = int(indices[-1])
        self._rows = pa.concat_tables([self._rows, pa.Table.from_batches([batch])])
        return True
