"""Columns of measurement_features from the rows of exported tables: the way back from an export to what was stored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa

from heimdall_pipelines.learning.columns import LINK_TRUTH, TRUTH_PREFIX, feature_column
from heimdall_pipelines.model.truth import SampleTruth
from heimdall_pipelines.rf.feature_registry import FEATURES, STATISTICS
from heimdall_pipelines.store.digests import as_stored

_SAME = (
    "error_message",
    "extraction_failed",
    "feature_version",
    "gdop",
    "mean_snr_db",
    "num_receivers_detected",
    "num_receivers_in_sample",
    "overall_confidence",
    "sample_idx",
    "tx_altitude_m",
    "tx_latitude",
    "tx_longitude",
    "tx_power_dbm",
)
_LARGE = 1e16  # floats from here on are integers in the database's JSON


def values_of_tables(samples: pa.Table, links: pa.Table, differences: pa.Table | None) -> Iterator[dict[str, Any]]:
    """Columns of measurement_features of successive samples of an export.

    Parameters
    ----------
    samples, links : pyarrow.Table
        The same samples, in order.
    differences : pyarrow.Table or None
        Their time differences, in order; None where the release has none.
    """
    elements = _receivers(links, samples["feature_version"][0].as_py() if len(samples) else 0)
    truths = _link_truths(links)
    pairs = _differences(differences)
    start = 0
    for row in samples.to_pylist():
        end = start + row["num_receivers_in_sample"]
        values = _values(row, elements[start:end], truths[start:end])
        values["time_differences"] = pairs.get(row["sample_idx"], [])
        yield values
        start = end


def _values(
    row: Mapping[str, Any], receivers: Sequence[Mapping[str, Any]], links: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Columns of measurement_features from a row of samples."""
    truth = {name: row[column] for name, column in _truth_columns()} | {"receivers": list(links)}
    extraction = {
        "bandwidth_hz": int(row["bandwidth_hz"]),
        "segment_ms": row["segment_ms"],
        "chunk_ms": row["chunk_ms"],
        "num_chunks": row["num_chunks"],
        "attempts": row["attempts"],
        "rejections": json.loads(row["rejections"]),
    }
    return {
        **{name: row[name] for name in _SAME},
        "timestamp": row["start_time_unix_us"],
        "receiver_features": list(receivers),
        "tx_known": True,
        "truth": {name: _stored(truth[name]) for name in _in_jsonb_order(tuple(truth))},
        "extraction_metadata": as_stored(extraction),
    }


@cache
def _truth_columns() -> tuple[tuple[str, str], ...]:
    """Fields of the truth with their columns in samples."""
    renamed = {"gdop": "truth_gdop", "mean_snr_db": "truth_mean_snr_db"}
    names = [name for name in SampleTruth.__dataclass_fields__ if name not in ("receivers", "position_bound")]
    return tuple((name, renamed.get(name, name)) for name in names)


def _receivers(links: pa.Table, feature_version: int) -> list[dict[str, Any]]:
    """Elements of receiver_features, with keys in the order of jsonb."""
    columns: dict[str, list[Any]] = {
        "rx_id": links["rx_id"].to_pylist(),
        "rx_lat": links["rx_latitude"].to_pylist(),
        "rx_lon": links["rx_longitude"].to_pylist(),
        "rx_alt_m": links["rx_altitude_m"].to_pylist(),
        "signal_present": links["signal_present"].to_pylist(),
        "flags": links["flags"].to_pylist(),
        "error_message": links["error_message"].to_pylist(),
    }
    features = [one.name for one in FEATURES if one.since <= feature_version]
    statistics = _in_jsonb_order(STATISTICS)
    for name in features:
        values = [_plain(links[feature_column(name, statistic)]) for statistic in statistics]
        columns[name] = [dict(zip(statistics, four, strict=True)) for four in zip(*values, strict=True)]
    order = _in_jsonb_order(tuple(columns))
    rows = [dict(zip(order, row, strict=True)) for row in zip(*(columns[name] for name in order), strict=True)]
    for row in rows:
        if row["error_message"] is not None:
            for name in features:
                del row[name]
    return rows


def _link_truths(links: pa.Table) -> list[dict[str, Any]]:
    names = _in_jsonb_order(("rx_id", *LINK_TRUTH))
    columns = [_plain(links[name if name == "rx_id" else TRUTH_PREFIX + name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _differences(table: pa.Table | None) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in table.to_pylist() if table is not None else ():
        if row["reason"] is None:
            del row["reason"]
        found.setdefault(row.pop("sample_idx"), []).append(as_stored(row))
    return found


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Values as the database's JSON gives them back."""
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type) and any(
        value is not None and (value == 0 or abs(value) >= _LARGE) for value in values
    ):
        return [_stored(value) for value in values]
    return values


def _stored(value: Any) -> Any:
    return as_stored(value) if isinstance(value, float) else value


@cache
def _in_jsonb_order(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(as_stored(dict.fromkeys(names)))
