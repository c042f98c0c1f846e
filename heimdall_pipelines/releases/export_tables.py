"""Writes the tables of an export from a stream of rows, in bounded memory."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from heimdall_pipelines.learning.columns import schema_of, split_column
from heimdall_pipelines.learning.splits import SplitDefinition, labels_of
from heimdall_pipelines.releases.arrow_rows import RowTables
from heimdall_pipelines.releases.folder_writing import HashedFile, NewFolder
from heimdall_pipelines.releases.splitting import Places, days_of, link_labels

_COPIED_AT_ONCE = 16_384  # rows of samples
_UNSPLIT = "samples-without-splits.parquet"


@dataclass(frozen=True)
class WrittenTables:
    """What was written of a stream of rows; the table ``samples`` waits for its splits.

    Attributes
    ----------
    places : Places
    num_samples, num_links, num_differences : int
    feature_versions : frozenset of int
    """

    places: Places
    num_samples: int
    num_links: int
    num_differences: int
    feature_versions: frozenset[int]

    def num_rows(self, num_iq: int) -> dict[str, int]:
        """Rows of every table of the export, with those of the table ``iq``."""
        return {
            "samples": self.num_samples,
            "links": self.num_links,
            "time_differences": self.num_differences,
            "iq": num_iq,
        }


def table_file(table: str) -> str:
    """Name of a table's file."""
    return f"{table}.parquet"


def write_rows(
    folder: NewFolder,
    tables_of_groups: Iterable[RowTables],
    definitions: Sequence[SplitDefinition],
    progress: Callable[[int], None],
) -> WrittenTables:
    """Write the tables ``links`` and ``time_differences``, and ``samples`` without its splits.

    Parameters
    ----------
    folder : NewFolder
    tables_of_groups : iterable of RowTables
        Of successive samples.
    definitions : sequence of SplitDefinition
    progress : callable
        Called with the number of samples so far.
    """
    kinds = [one.kind for one in definitions]
    of_receivers = next((one for one in definitions if one.kind == "receivers"), None)
    places, versions = Places(), set[int]()
    num_samples = num_links = num_differences = 0
    with ExitStack() as stack:
        samples = _writer(stack, stack.enter_context(folder.file(_UNSPLIT, is_part=False)), schema_of("samples"))
        links = _writer(stack, stack.enter_context(folder.file(table_file("links"))), schema_of("links", kinds))
        pairs = _writer(
            stack, stack.enter_context(folder.file(table_file("time_differences"))), schema_of("time_differences")
        )
        for tables in tables_of_groups:
            gather_places(places, tables, needs_receivers=of_receivers is not None)
            versions |= set(tables.samples["feature_version"].unique().to_pylist())
            samples.write_table(tables.samples)
            links.write_table(_with_link_labels(tables.links, of_receivers))
            if len(tables.differences):
                pairs.write_table(tables.differences)
            num_samples += len(tables.samples)
            num_links += len(tables.links)
            num_differences += len(tables.differences)
            progress(num_samples)
    return WrittenTables(places, num_samples, num_links, num_differences, frozenset(versions))


def write_samples(folder: NewFolder, codes: dict[str, NDArray[np.int8]]) -> None:
    """Write the table ``samples`` with the labels of the splits, after `write_rows`.

    Parameters
    ----------
    folder : NewFolder
    codes : dict of str to ndarray of int8, shape (num_samples,)
        As `splitting.split_codes` gives them.
    """
    source = folder.path / _UNSPLIT
    schema = schema_of("samples", list(codes))
    with ExitStack() as stack:
        writer = _writer(stack, stack.enter_context(folder.file(table_file("samples"))), schema)
        start = 0
        for batch in pq.ParquetFile(source).iter_batches(batch_size=_COPIED_AT_ONCE):
            table = pa.Table.from_batches([batch])
            for kind, found in codes.items():
                labels = pa.array(labels_of(found[start : start + len(table)]).tolist(), pa.string())
                table = table.append_column(split_column(kind).name, labels)
            writer.write_table(table.cast(schema))
            start += len(table)
    source.unlink()


def write_table(folder: NewFolder, table: str, batches: Iterable[pa.Table]) -> int:
    """Write a table from parts with its schema; returns the number of rows.

    Parameters
    ----------
    folder : NewFolder
    table : str
        One of `learning.columns.TABLES`.
    batches : iterable of pyarrow.Table
    """
    num = 0
    with ExitStack() as stack:
        writer = _writer(stack, stack.enter_context(folder.file(table_file(table))), schema_of(table))
        for part in batches:
            writer.write_table(part)
            num += len(part)
    return num


def _writer(stack: ExitStack, file: HashedFile, schema: pa.Schema) -> pq.ParquetWriter:
    texts = [one.name for one in schema if pa.types.is_string(one.type)]
    return stack.enter_context(
        pq.ParquetWriter(
            pa.PythonFile(file, mode="w"),
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=texts,
            write_statistics=True,
        )
    )


def gather_places(places: Places, tables: RowTables, *, needs_receivers: bool) -> None:
    """Add the positions of some rows to those that splits are made from."""
    places.sample_idx.append(tables.samples["sample_idx"].to_numpy().astype(np.int64))
    places.tx_lats_deg.append(_filled(tables.samples["tx_latitude"]))
    places.tx_lons_deg.append(_filled(tables.samples["tx_longitude"]))
    places.days.append(days_of(tables.samples["start_time_unix_us"].to_numpy()))
    if needs_receivers:
        places.counts.append(tables.counts)
        places.rx_lats_deg.append(tables.links["rx_latitude"].to_numpy())
        places.rx_lons_deg.append(tables.links["rx_longitude"].to_numpy())
        places.detected.append(tables.links["signal_present"].to_numpy())


def _with_link_labels(links: pa.Table, definition: SplitDefinition | None) -> pa.Table:
    if definition is None:
        return links
    labels = link_labels(
        definition,
        links["sample_idx"].to_numpy().astype(np.int64),
        links["rx_latitude"].to_numpy(),
        links["rx_longitude"].to_numpy(),
    )
    column = split_column(definition.kind).name
    with_labels = links.append_column(column, pa.array(labels.tolist(), pa.string()))
    return with_labels.cast(schema_of("links", [definition.kind]))


def _filled(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values


def merkle_text(groups: Sequence[bytes], group_size: int) -> str:
    """Content of merkle.json."""
    return json.dumps({"group_size": group_size, "groups": [group.hex() for group in groups]}, indent=0) + "\n"
