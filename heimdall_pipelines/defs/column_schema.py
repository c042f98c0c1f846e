"""Column schemas of assets as the UI shows them; those of features are made from their registry."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from heimdall_pipelines.rf.feature_registry import FEATURES, Feature

_RECEIVER = {
    "rx_id": ("text", "the receiver"),
    "rx_lat": ("double precision", "WGS84, degrees north"),
    "rx_lon": ("double precision", "WGS84, degrees east"),
    "rx_alt_m": ("double precision", "antenna height above sea level, m"),
    "signal_present": ("boolean", "whether the chunks together hold a signal in the channel"),
    "flags": ("jsonb", "array: what limits the values, in words"),
    "error_message": ("text", "why there are no features; else null"),
}


def receiver_feature_schema() -> dg.TableSchema:
    """Columns of what one receiver has in a row of measurement_features: those of the view receiver_features."""
    receiver = [dg.TableColumn(name, kind, description) for name, (kind, description) in _RECEIVER.items()]
    return dg.TableSchema([*receiver, *map(_column, FEATURES)])


def _column(feature: Feature) -> dg.TableColumn:
    low, high = feature.range
    unit = f", {feature.unit}" if feature.unit else ""
    return dg.TableColumn(
        feature.name,
        "double precision",
        f"mean over the chunks{unit}: {feature.definition}",
        dg.TableColumnConstraints(other=[f"{low:g} to {high:g}"]),
        tags={"since_feature_version": str(feature.since)},
    )


FEATURE_SCHEMA: Mapping[str, Any] = {"dagster/column_schema": receiver_feature_schema()}
