"""What the UI shows of an asset: owner, table with its columns, address of its objects, place in the code.

Columns of tables come from store/table_columns.py, those of a receiver's features from their registry.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import dagster as dg

from heimdall_pipelines.rf.feature_registry import FEATURES, Feature
from heimdall_pipelines.store.table_columns import TableColumn, table_columns

OWNERS = ["team:heimdall"]

# Elements of the array receiver_features: (type, description).
_RECEIVER = {
    "rx_id": ("text", "the receiver"),
    "rx_lat": ("double precision", "WGS84, degrees north"),
    "rx_lon": ("double precision", "WGS84, degrees east"),
    "rx_alt_m": ("double precision", "antenna height above sea level, m"),
    "signal_present": ("boolean", "whether the chunks together hold a signal in the channel"),
    "flags": ("jsonb", "array: what limits the values, in words"),
    "error_message": ("text", "why there are no features; else null"),
}
_ELEMENT = "receiver_features[]."
# Elements of the array time_differences.
_PAIR = {
    "rx_a": ("text", "first receiver"),
    "rx_b": ("text", "second receiver"),
    "tdoa_us": ("double precision", "arrival at rx_b less that at rx_a by their clocks, us; null: see reason"),
    "std_us": ("double precision", "standard deviation by noise and fading, us; echoes delay by more"),
    "peak": ("double precision", "normalised correlation, 0 to 1"),
    "ambiguity": ("double precision", "second peak of the correlation over the first, 0 to 1"),
    "reason": ("text", "why there is no tdoa_us; absent where there is one"),
}
_UNITS = {unit.lower(): unit for unit in ("Hz", "dB", "dBm", "m", "s", "ms", "ns", "bytes")} | {"seconds": "s"}


def stored_in_table(table: str) -> dict[str, Any]:
    """Metadata of an asset whose rows are in a table of the schema heimdall: its name and its columns."""
    columns = [_column(column) for column in table_columns(table)]
    if table == "measurement_features":
        columns += _receiver_columns()
        columns += [dg.TableColumn(f"time_differences[].{name}", kind, text) for name, (kind, text) in _PAIR.items()]
    return {
        "dagster/table_name": f"heimdall.{table}",
        "dagster/column_schema": dg.TableSchema(columns),
    }


def stored_in_bucket(bucket: str, prefix: str) -> dict[str, Any]:
    """Metadata of an asset whose objects are in the S3 store: the address that their keys begin with."""
    return {"dagster/uri": f"s3://{bucket}/{prefix}"}


def code_reference(function: Callable[..., Any]) -> dict[str, Any]:
    """Metadata of an asset that no function of its own makes: the place of the function that reports it."""
    path, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    if path is None:
        return {}
    reference = dg.LocalFileCodeReference(file_path=path, line_number=line, label="reported by")
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def _column(column: TableColumn) -> dg.TableColumn:
    return dg.TableColumn(
        column.name,
        column.type,
        with_unit(column.name, column.description),
        dg.TableColumnConstraints(nullable=column.is_nullable),
    )


def with_unit(name: str, description: str) -> str:
    """Add the unit that a column's name ends with, unless the description has it.

    >>> with_unit("latency_ms", "Time to its answer")
    'Time to its answer (ms)'
    >>> with_unit("frequency_hz", "Carrier frequency, Hz")
    'Carrier frequency, Hz'
    """
    unit = _UNITS.get(name.rpartition("_")[2])
    if unit is None or "_" not in name or re.search(rf"\b{unit}\b", description):
        return description
    return f"{description} ({unit})"


def _receiver_columns() -> list[dg.TableColumn]:
    """What each receiver has in a row; the view receiver_features has it as columns."""
    receiver = [dg.TableColumn(_ELEMENT + name, kind, description) for name, (kind, description) in _RECEIVER.items()]
    return [*receiver, *map(_feature_column, FEATURES)]


def _feature_column(feature: Feature) -> dg.TableColumn:
    low, high = feature.range
    unit = f", {feature.unit}" if feature.unit else ""
    return dg.TableColumn(
        _ELEMENT + feature.name,
        "double precision",
        f"mean over the chunks{unit}: {feature.definition}",
        dg.TableColumnConstraints(other=[f"{low:g} to {high:g}"]),
        tags={"since_feature_version": str(feature.since)},
    )
