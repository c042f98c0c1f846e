"""Rows of features as Arrow tables: the database's JSON is text that Arrow parses, without objects of Python."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.learning.bounds import arrival_std_s, position_bounds
from heimdall_pipelines.learning.columns import (
    COLUMNS,
    LINK_TRUTH,
    TRUTH_PREFIX,
    arrow_type,
    feature_column,
    schema_of,
)
from heimdall_pipelines.rf.feature_registry import FEATURES, STATISTICS
from heimdall_pipelines.store.releases import TextRow

_DIFFERENCE_FIELDS = [(one.name, arrow_type(one.kind)) for one in COLUMNS["time_differences"][1:]]
_TRUTH_OF_SAMPLE = (  # field of the truth, column
    ("tx_antenna_height_m", "tx_antenna_height_m"),
    ("tx_antenna_gain_dbi", "tx_antenna_gain_dbi"),
    ("tx_kind", "tx_kind"),
    ("audio", "audio"),
    ("gdop", "truth_gdop"),
    ("mean_snr_db", "truth_mean_snr_db"),
)
BOUND_FIELDS = ("semi_major_m", "semi_minor_m", "azimuth_deg")
_EXTRACTION = ("bandwidth_hz", "segment_ms", "chunk_ms", "num_chunks", "attempts")
_TWICE = ("tx_latitude", "tx_longitude", "tx_altitude_m", "tx_power_dbm")  # in the truth, and columns of the row
_SEE = "see: heimdall dataset validate"
_OF_SESSIONS = ("num_segments", "start_time_unix_ns", "notes", "inputs_sha256")  # in extraction_metadata


class MalformedRowsError(HeimdallError):
    """Rows of the dataset cannot be exported, because their JSON is malformed."""


@dataclass(frozen=True)
class BoundModel:
    """What the bound of a position needs beside the truth; None of sessions, which have no truth of their links."""

    sample_rate_hz: float
    bandwidth_hz: float
    duration_s: float
    clock_std_s: float


@dataclass(frozen=True)
class RowTables:
    """Tables of some successive samples.

    Attributes
    ----------
    samples : pyarrow.Table
        Without the columns of splits.
    links, differences : pyarrow.Table
    counts : ndarray of int, shape (num_samples,)
        Links of each sample.
    """

    samples: pa.Table
    links: pa.Table
    differences: pa.Table
    counts: NDArray[np.int64]


def row_tables(rows: Sequence[TextRow], bounds: BoundModel | None) -> RowTables:
    """Make tables of rows.

    Parameters
    ----------
    rows : sequence of TextRow
        One or more.
    bounds : BoundModel or None

    Raises
    ------
    MalformedRowsError
        The message has the first and last sample, and what Arrow found.
    """
    where = f"samples {rows[0].sample_idx} to {rows[-1].sample_idx}"
    parsed = _parse(rows, where)
    receivers = parsed["receivers"]
    counts = np.diff(receivers.offsets.to_numpy())
    elements = _fields(receivers.flatten())
    truth, extraction = _fields(parsed["truth"]), _fields(parsed["extraction"])
    of_links = _link_truth(truth["receivers"], counts, where)
    if bounds is not None:
        _require_as_generated(rows, truth, extraction)
        if not of_links["rx_id"].equals(elements["rx_id"]):
            raise MalformedRowsError(f"{where} cannot be exported: a truth has other receivers than its row; {_SEE}")
    links = _links(elements, of_links, rows, counts)
    samples = _samples(rows, truth, extraction)
    samples |= _bounds(samples, links, counts, bounds, truth["position_bound"])
    schema = schema_of("samples")
    return RowTables(
        pa.table([samples[name] for name in schema.names], schema.names).cast(schema),
        links,
        _differences(parsed["differences"], rows),
        counts,
    )


def _require_as_generated(rows: Sequence[TextRow], truth: dict[str, Any], extraction: dict[str, Any]) -> None:
    """Refuse edits that no exported column would show, where generation writes a value twice or never."""
    odd = np.zeros(len(rows), bool)
    for name in _OF_SESSIONS:
        odd |= extraction[name].is_valid().to_numpy(zero_copy_only=False)
    for name in _TWICE:
        odd |= _numbers(truth[name]) != np.array([getattr(row, name) for row in rows], np.float64)
    if odd.any():
        raise MalformedRowsError(
            f"sample {rows[int(odd.argmax())].sample_idx} cannot be exported: truth or extraction_metadata was "
            f"edited; {_SEE}"
        )


def _parse(rows: Sequence[TextRow], where: str) -> dict[str, Any]:
    lines = "".join(
        f'{{"receivers":{row.receivers},"truth":{row.truth or "null"},"extraction":{row.extraction},'
        f'"differences":{row.differences or "null"}}}\n'
        for row in rows
    ).encode()
    try:
        table = pyarrow.json.read_json(
            io.BytesIO(lines),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_json_schema(), unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid as error:
        raise MalformedRowsError(f"{where} cannot be exported: {error}; {_SEE}") from error
    return {name: table[name].combine_chunks() for name in table.column_names}


@cache
def _json_schema() -> pa.Schema:
    number, texts = pa.float64(), pa.list_(pa.string())
    statistics = pa.struct([(name, number) for name in STATISTICS])
    receiver = [
        *(("rx_id", pa.string()), ("rx_lat", number), ("rx_lon", number), ("rx_alt_m", number)),
        *(("signal_present", pa.bool_()), ("flags", texts), ("error_message", pa.string())),
        *((one.name, statistics) for one in FEATURES),
    ]
    kinds = {one.name: arrow_type(one.kind) for one in COLUMNS["links"]}
    link = pa.struct([("rx_id", pa.string()), *((name, kinds[TRUTH_PREFIX + name]) for name in LINK_TRUTH)])
    truth = [
        *((name, number) for name in _TWICE),
        *((name, pa.string() if name in ("tx_kind", "audio") else number) for name, _ in _TRUTH_OF_SAMPLE),
        ("receivers", pa.list_(link)),
        ("position_bound", pa.struct([(name, number) for name in BOUND_FIELDS] + [("reason", pa.string())])),
    ]
    extraction = [
        *(("bandwidth_hz", number), ("segment_ms", pa.int32()), ("chunk_ms", pa.int32()), ("num_chunks", pa.int32())),
        *(("attempts", pa.int32()), ("num_segments", pa.int32()), ("start_time_unix_ns", pa.int64())),
        *(("notes", texts), ("inputs_sha256", pa.string())),
    ]
    return pa.schema(
        [
            ("receivers", pa.list_(pa.struct(receiver))),
            ("truth", pa.struct(truth)),
            ("extraction", pa.struct(extraction)),
            ("differences", pa.list_(pa.struct(_DIFFERENCE_FIELDS))),
        ]
    )


def _fields(array: pa.StructArray) -> dict[str, Any]:
    """Fields of an array of objects; null where the object is."""
    return dict(zip([one.name for one in array.type], array.flatten(), strict=True))


def _links(
    elements: dict[str, Any], truths: dict[str, Any], rows: Sequence[TextRow], counts: NDArray[np.int64]
) -> pa.Table:
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    columns = {
        "sample_idx": np.repeat(np.array([row.sample_idx for row in rows], np.int32), counts),
        "receiver_idx": (np.arange(counts.sum()) - starts).astype(np.int16),
        "rx_id": elements["rx_id"],
        "rx_latitude": elements["rx_lat"],
        "rx_longitude": elements["rx_lon"],
        "rx_altitude_m": elements["rx_alt_m"],
        "signal_present": elements["signal_present"],
        "flags": elements["flags"],
        "error_message": elements["error_message"],
    }
    for one in FEATURES:
        statistics = _fields(elements[one.name])
        columns |= {feature_column(one.name, name): statistics[name] for name in STATISTICS}
    columns |= {TRUTH_PREFIX + name: truths[name] for name in LINK_TRUTH}
    schema = schema_of("links")
    return pa.table([columns[name] for name in schema.names], schema.names).cast(schema)


def _link_truth(receivers: pa.ListArray, counts: NDArray[np.int64], where: str) -> dict[str, Any]:
    """Fields of the links' truth, one value for each receiver of the rows."""
    if receivers.null_count == len(receivers):
        kinds = {one.name: one.type for one in receivers.type.value_type}
        return {name: pa.nulls(int(counts.sum()), kinds[name]) for name in ("rx_id", *LINK_TRUTH)}
    if not np.array_equal(pc.list_value_length(receivers).fill_null(-1).to_numpy(), counts):
        raise MalformedRowsError(
            f"{where} cannot be exported: a truth has another number of receivers than its row; {_SEE}"
        )
    return _fields(receivers.flatten())


def _samples(rows: Sequence[TextRow], truth: dict[str, Any], extraction: dict[str, Any]) -> dict[str, Any]:
    kinds = {one.name: arrow_type(one.kind) for one in COLUMNS["samples"]}
    own = [name for name in kinds if name in TextRow.__dataclass_fields__]
    columns: dict[str, Any] = {name: pa.array([getattr(row, name) for row in rows], kinds[name]) for name in own}
    columns |= {column: truth[name] for name, column in _TRUTH_OF_SAMPLE}
    return columns | {name: extraction[name] for name in _EXTRACTION}


def _bounds(
    samples: dict[str, Any], links: pa.Table, counts: NDArray[np.int64], bounds: BoundModel | None, stored: Any
) -> dict[str, Any]:
    """Columns of the bound: as stored with the truth, or computed for samples of before."""
    is_stored = stored.is_valid().to_numpy(zero_copy_only=False)
    ellipses = np.stack([_numbers(column) for column in stored.flatten()[: len(BOUND_FIELDS)]], axis=-1)
    if bounds is not None and not is_stored.all():
        detected = links["truth_detected"].fill_null(False).to_numpy()
        snr_db = _numbers(links["truth_snr_db"])
        computed = position_bounds(
            _numbers(samples["tx_latitude"]),
            _numbers(samples["tx_longitude"]),
            np.repeat(np.arange(len(counts)), counts),
            _numbers(links["rx_latitude"]),
            _numbers(links["rx_longitude"]),
            arrival_std_s(np.where(detected, snr_db, np.nan), **vars(bounds)),
        )
        ellipses = np.where(is_stored[:, None], ellipses, computed)
    rounded = np.round(ellipses, 3)  # mm: a libm's last digits do not show
    return {f"bound_{name}": pa.array(rounded[:, at], from_pandas=True) for at, name in enumerate(BOUND_FIELDS)}


def _numbers(column: Any) -> NDArray[np.float64]:
    values: NDArray[np.float64] = (
        column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    )
    return values.astype(np.float64, copy=False)


def _differences(lists: pa.ListArray, rows: Sequence[TextRow]) -> pa.Table:
    schema = schema_of("time_differences")
    counts = pc.list_value_length(lists).fill_null(0).to_numpy()
    values = _fields(lists.flatten())
    columns = [np.repeat(np.array([row.sample_idx for row in rows], np.int32), counts)]
    return pa.table([*columns, *(values[name] for name, _ in _DIFFERENCE_FIELDS)], schema.names).cast(schema)
