"""Rows of measurement_features: what those of synthetic samples and of sessions have in common, and their insertion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any

from heimdall_pipelines.model.row_metadata import SampleExtraction, SessionExtraction
from heimdall_pipelines.model.time_differences import (
    PairTimeDifference,
)
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION, names_of_version
from heimdall_pipelines.store.columns import listed, typed
from heimdall_pipelines.store.digests import new_row_digest
from heimdall_pipelines.store.receiver_elements import RECEIVER_FIELDS, are_receivers
from heimdall_pipelines.store.sql import text, time_sql

if TYPE_CHECKING:
    from sqlalchemy import Connection


ROWS_PER_INSERT = 100
FEATURE_ROW_COLUMNS = {  # of measurement_features; timestamp and tx_known are computed when a row is inserted
    "id": "uuid",
    "dataset_id": "uuid",
    "sample_idx": "integer",
    "recording_session_id": "uuid",
    "segment_idx": "integer",
    "session_revision": "integer",
    "feature_version": "smallint",
    "receiver_features": "jsonb",
    "time_differences": "jsonb",
    "tx_latitude": "float8",
    "tx_longitude": "float8",
    "tx_altitude_m": "float8",
    "tx_power_dbm": "float8",
    "truth": "jsonb",
    "extraction_metadata": "jsonb",
    "overall_confidence": "float8",
    "mean_snr_db": "float8",
    "num_receivers_detected": "integer",
    "num_receivers_in_sample": "integer",
    "gdop": "float8",
    "extraction_failed": "boolean",
    "error_message": "text",
    "digest": "bytea",
}


@dataclass(frozen=True)
class ReceiverFeatures:
    """Features of one receiver: a JSON object of receiver_features.

    ``features`` maps each feature's name to its {mean, std, min, max} over the chunks and is empty
    where ``error_message`` says why nothing was extracted.
    """

    rx_id: str
    rx_lat: float
    rx_lon: float
    rx_alt_m: float
    signal_present: bool
    features: dict[str, dict[str, float | None]]
    flags: tuple[str, ...] = ()
    error_message: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Flat object, as queries read it: ``receiver_features[0]->'snr_db'->>'mean'``."""
        base: dict[str, Any] = asdict(self)
        features: dict[str, Any] = base.pop("features")
        return base | features

    def of_version(self, feature_version: int) -> ReceiverFeatures:
        """The same without the features added after a version."""
        names = names_of_version(feature_version)
        return replace(self, features={name: value for name, value in self.features.items() if name in names})

    @classmethod
    def from_json(cls, element: dict[str, Any]) -> ReceiverFeatures:
        """Read an element of receiver_features."""
        return cls(
            rx_id=element["rx_id"],
            rx_lat=element["rx_lat"],
            rx_lon=element["rx_lon"],
            rx_alt_m=element["rx_alt_m"],
            signal_present=element["signal_present"],
            features={name: value for name, value in element.items() if name not in RECEIVER_FIELDS},
            flags=tuple(element.get("flags", ())),
            error_message=element.get("error_message"),
        )


@dataclass(frozen=True, kw_only=True)
class FeatureRow:
    """One transmission at several receivers: what all rows of measurement_features have in common.

    The position of the transmitter is None if unknown. A new row has the features of the present version;
    ``time_differences`` is None in a row of a version without them.
    """

    start_time_unix_ns: int
    receivers: tuple[ReceiverFeatures, ...]
    tx_latitude: float | None
    tx_longitude: float | None
    tx_altitude_m: float | None
    tx_power_dbm: float | None
    extraction_metadata: SampleExtraction | SessionExtraction
    overall_confidence: float | None
    mean_snr_db: float | None
    gdop: float | None
    time_differences: tuple[PairTimeDifference, ...] | None
    extraction_failed: bool = False
    error_message: str | None = None
    feature_version: int = FEATURE_VERSION

    @property
    def num_receivers_detected(self) -> int:
        """Receivers with signal_present."""
        return sum(receiver.signal_present for receiver in self.receivers)

    def columns(self) -> dict[str, Any]:
        """Values for `insert_feature_rows`, without the row's id and its dataset or session."""
        values = vars(self) | {
            "time_us": self.start_time_unix_ns // 1000,
            "receiver_features": [receiver.to_json() for receiver in self.receivers],
            "time_differences": time_differences_json(self.time_differences),
            "extraction_metadata": self.extraction_metadata.to_json(),
            "num_receivers_detected": self.num_receivers_detected,
            "num_receivers_in_sample": len(self.receivers),
        }
        del values["receivers"], values["start_time_unix_ns"]
        return values


def time_differences_json(found: Sequence[PairTimeDifference] | None) -> list[dict[str, Any]] | None:
    """What the column time_differences holds."""
    return None if found is None else [pair.to_json() for pair in found]


def insert_feature_rows(connection: Connection, rows: Sequence[str]) -> None:
    """Insert rows of measurement_features, each a JSON object with `FEATURE_ROW_COLUMNS` and time_us."""
    for array in json_arrays(rows):
        connection.execute(
            text(
                f"INSERT INTO heimdall.measurement_features (timestamp, tx_known, {listed(FEATURE_ROW_COLUMNS)})"
                f" SELECT {time_sql('r.time_us')}, r.tx_latitude IS NOT NULL, {listed(FEATURE_ROW_COLUMNS, 'r')}"
                f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (time_us bigint, {typed(FEATURE_ROW_COLUMNS)})"
            ),
            {"rows": array},
        )


def json_arrays(rows: Sequence[str]) -> Iterator[str]:
    """Rows as JSON arrays of 100, which one statement inserts."""
    for start in range(0, len(rows), ROWS_PER_INSERT):
        yield f"[{','.join(rows[start : start + ROWS_PER_INSERT])}]"


def feature_digest(values: Mapping[str, Any]) -> bytes:
    """Digest of a row of measurement_features from the values that `insert_feature_rows` takes."""
    derived = {"timestamp": values["time_us"], "tx_known": values["tx_latitude"] is not None}
    return new_row_digest("measurement_features", {**values, **derived})


def with_digest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for `insert_feature_rows` with the row's digest."""
    return {**values, "digest": bytea_json(feature_digest(values))}


def bytea_json(value: bytes) -> str:
    r"""Bytes as a column of type bytea takes them from JSON.

    >>> bytea_json(b"\x00\xff")
    '\\x00ff'
    """
    return f"\\x{value.hex()}"


def mean_of(receiver: ReceiverFeatures, feature: str) -> float | None:
    """Mean of a feature over the chunks; None if it was not observed, or the row's version does not have it."""
    statistics = receiver.features.get(feature)
    return statistics["mean"] if statistics else None


@dataclass(frozen=True)
class ReceiverAggregate:
    """Aggregates over the receivers of a row; the fields of `FeatureRow` of these names."""

    overall_confidence: float
    mean_snr_db: float | None
    gdop: float | None

    @classmethod
    def of(cls, receivers: Sequence[ReceiverFeatures], transmitter: tuple[float, float] | None) -> ReceiverAggregate:
        """Aggregate estimates; `transmitter` is its latitude and longitude, None if unknown."""
        detected = [receiver for receiver in receivers if receiver.signal_present]
        levels_db = [snr_db for receiver in detected if (snr_db := mean_of(receiver, "snr_db")) is not None]
        return cls(
            overall_confidence=fmean(mean_of(receiver, "confidence_score") or 0.0 for receiver in receivers),
            mean_snr_db=float(f"{fmean(levels_db):.6g}") if levels_db else None,
            gdop=_gdop(*transmitter, detected) if transmitter else None,
        )


def read_receivers(elements: Any) -> tuple[ReceiverFeatures, ...] | None:
    """Read what a column receiver_features holds; None where it is malformed."""
    return tuple(map(ReceiverFeatures.from_json, elements)) if are_receivers(elements) else None


def _gdop(latitude: float, longitude: float, detected: Sequence[ReceiverFeatures]) -> float | None:
    from heimdall_pipelines.rf.geodesy import gdop  # loads numpy and PROJ

    value = gdop(latitude, longitude, [x.rx_lat for x in detected], [x.rx_lon for x in detected])
    return float(f"{value:.6g}") if isfinite(value) else None
