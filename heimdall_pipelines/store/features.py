"""Rows of measurement_features."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from math import isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from psycopg2.errors import ForeignKeyViolation

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.row_metadata import SampleExtraction, SessionExtraction
from heimdall_pipelines.model.time_differences import (
    PairTimeDifference,
    are_time_differences,
    read_time_differences,
)
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION, names_of_version
from heimdall_pipelines.store.changes import note_row
from heimdall_pipelines.store.columns import listed, typed
from heimdall_pipelines.store.digest_rows import digested_columns, resealing
from heimdall_pipelines.store.digests import Edit, datetime_of, edit_of, new_row_digest
from heimdall_pipelines.store.receiver_elements import RECEIVER_FIELDS, are_receivers
from heimdall_pipelines.store.session_digests import sealing_session
from heimdall_pipelines.store.sessions import SessionNotFoundError, lock_session
from heimdall_pipelines.store.sql import text, time_sql

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.model.feature_inputs import FeatureInputs
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.session_revisions import SessionRevision

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


class SupersededError(HeimdallError):
    """The session was completed again during its extraction; the newer revision gets its own run."""


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


@dataclass(frozen=True, kw_only=True)
class SessionFeatureRow(FeatureRow):
    """One segment of a recording session at its stations."""

    segment_idx: int


@dataclass(frozen=True)
class StoredSessionRow:
    """One segment as stored, for checks.

    ``edit`` is None where the row is as it was committed. ``unreadable`` names the column whose JSON is malformed; its
    receivers are then empty.
    """

    segment_idx: int
    timestamp: datetime
    session_revision: int
    feature_version: int
    receivers: tuple[ReceiverFeatures, ...]
    time_differences: tuple[PairTimeDifference, ...] | None
    extraction_metadata: SessionExtraction
    num_receivers_in_sample: int
    num_receivers_detected: int
    overall_confidence: float | None
    mean_snr_db: float | None
    gdop: float | None
    extraction_failed: bool
    error_message: str | None
    edit: Edit | None = None
    unreadable: str | None = None


@dataclass(frozen=True)
class StationMetrics:
    """Means over a session that are stored with a station's measurement; None if nothing was detected."""

    snr_db: float | None
    signal_strength_dbm: float | None
    frequency_offset_hz: float | None


@dataclass(frozen=True)
class StationInSession:
    """Summary of a station's rows of a session; means are over segments with the signal present."""

    rx_id: str
    num_segments: int
    num_present: int
    snr_db: float | None
    cn0_dbhz: float | None
    signal_strength_dbm: float | None
    frequency_offset_hz: float | None
    error_message: str | None
    flags: tuple[str, ...]


_STORED_FIELDS = [
    field.name
    for field in fields(StoredSessionRow)
    if field.name not in ("receivers", "time_differences", "extraction_metadata", "timestamp", "edit", "unreadable")
]


def time_differences_json(found: Sequence[PairTimeDifference] | None) -> list[dict[str, Any]] | None:
    """What the column time_differences holds."""
    return None if found is None else [pair.to_json() for pair in found]


def insert_feature_rows(connection: Connection, rows: str) -> None:
    """Insert rows of measurement_features, given as a JSON array of objects with `FEATURE_ROW_COLUMNS` and time_us."""
    connection.execute(
        text(
            f"INSERT INTO heimdall.measurement_features (timestamp, tx_known, {listed(FEATURE_ROW_COLUMNS)})"
            f" SELECT {time_sql('r.time_us')}, r.tx_latitude IS NOT NULL, {listed(FEATURE_ROW_COLUMNS, 'r')}"
            f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (time_us bigint, {typed(FEATURE_ROW_COLUMNS)})"
        ),
        {"rows": rows},
    )


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


class SessionFeatureWriter:
    """Adds the rows of one session inside the transaction of ``replace_session_features``."""

    def __init__(self, connection: Connection, target: SessionRevision) -> None:
        self._connection = connection
        self._target = target

    def add(self, rows: Sequence[SessionFeatureRow]) -> None:
        """Insert some segments."""
        if rows:
            values = [with_digest(row.columns() | self._identity(row.segment_idx)) for row in rows]
            insert_feature_rows(self._connection, json.dumps(values, allow_nan=False))

    def set_station_metrics(self, metrics: dict[str, StationMetrics]) -> None:
        """Store each station's means over the session with its measurement."""
        of_session = {"session_id": self._target.session_id}
        with resealing(self._connection, "measurements", "recording_session_id = :session_id", of_session):
            for rx_id, values in metrics.items():
                self._connection.execute(
                    text(
                        "UPDATE heimdall.measurements m SET snr_db = :snr_db,"
                        " signal_strength_dbm = :signal_strength_dbm, frequency_offset_hz = :frequency_offset_hz"
                        " FROM heimdall.websdr_stations w WHERE w.id = m.websdr_station_id AND w.rx_id = :rx_id"
                        " AND m.recording_session_id = :session_id"
                    ),
                    vars(values) | {"rx_id": rx_id} | of_session,
                )

    def set_inputs(self, inputs: FeatureInputs) -> None:
        """Record what the rows were computed from."""
        from heimdall_pipelines.store.session_inputs import record_extraction

        record_extraction(self._connection, self._target, inputs)

    def _identity(self, segment_idx: int) -> dict[str, Any]:
        return {
            # A repeated run makes the same rows, ids included.
            "id": str(uuid5(NAMESPACE_URL, f"heimdall:session:{self._target.run_key}:{segment_idx}")),
            "recording_session_id": str(self._target.session_id),
            "session_revision": self._target.revision,
        }


@contextmanager
def replace_session_features(database: Database, target: SessionRevision) -> Iterator[SessionFeatureWriter]:
    """Replace all feature rows of a session in one transaction.

    Runs of the same session are serialised by an advisory lock; on any error the previous rows stay.

    Raises
    ------
    SupersededError
        The session is not, or no longer, completed at this revision.
    SessionNotFoundError, SessionBeingDeletedError
        The session was deleted in the meantime, or its deletion has begun.
    """
    from sqlalchemy.exc import IntegrityError

    deleted = f"session {target.slug} was deleted while it was being extracted"
    try:
        with database.transaction() as connection:
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": str(target.session_id)}
            )
            replaced = connection.execute(
                text("DELETE FROM heimdall.measurement_features WHERE recording_session_id = :id"),
                {"id": target.session_id},
            )
            yield SessionFeatureWriter(connection, target)
            state = lock_session(connection, target.session_id, target.slug, "extracted")
            if state.status != "completed" or state.revision != target.revision:
                raise SupersededError(
                    f"session {target.slug} changed while revision {target.revision} was being extracted "
                    f"(now {state.status}, revision {state.revision}); the run of that revision makes its features"
                )
            with sealing_session(connection, target.session_id) as sealed:
                pass
            if replaced.rowcount:
                for row in sealed.rows:
                    note_row(connection, "recording_sessions", row, reason="its features were extracted again")
    except IntegrityError as error:
        if isinstance(error.orig, ForeignKeyViolation):
            raise SessionNotFoundError(deleted) from error
        raise


def read_session_rows(connection: Connection, session_id: UUID) -> Iterator[StoredSessionRow]:
    """The feature rows of a session in the order of segments, fetched in small groups."""
    rows = connection.execute(
        text(
            f"SELECT {digested_columns('measurement_features')}, digest FROM heimdall.measurement_features"
            " WHERE recording_session_id = :id ORDER BY segment_idx"
        ),
        {"id": session_id},
        execution_options={"yield_per": 100},
    )
    for row in rows:
        yield _stored_session_row(dict(row._mapping))


def _stored_session_row(read: Mapping[str, Any]) -> StoredSessionRow:
    values = {name: read[name] for name in _STORED_FIELDS}
    receivers = read_receivers(read["receiver_features"])
    unreadable = "receiver_features" if receivers is None else None
    pairs = read["time_differences"]
    if not are_time_differences(pairs):
        pairs, unreadable = None, "time_differences"
    metadata = read["extraction_metadata"]
    if not (isinstance(metadata, dict) and isinstance(metadata.get("num_segments", 0), int)):
        metadata, unreadable = {}, "extraction_metadata"
    return StoredSessionRow(
        receivers=receivers or (),
        time_differences=read_time_differences(pairs),
        extraction_metadata=SessionExtraction.from_json(metadata),
        timestamp=datetime_of(read["timestamp"]),
        edit=edit_of("measurement_features", read, read["digest"]),
        unreadable=unreadable,
        **values,
    )


def read_receivers(elements: Any) -> tuple[ReceiverFeatures, ...] | None:
    """Read what a column receiver_features holds; None where it is malformed."""
    return tuple(map(ReceiverFeatures.from_json, elements)) if are_receivers(elements) else None


def stations_in_session(database: Database, session_id: UUID) -> list[StationInSession]:
    """Summarise the feature rows of a session by station."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT rx_id, count(*) FILTER (WHERE error_message IS NULL) AS num_segments,"
                " count(*) FILTER (WHERE signal_present) AS num_present,"
                " avg(snr_db) FILTER (WHERE signal_present) AS snr_db,"
                " avg(cn0_dbhz) FILTER (WHERE signal_present) AS cn0_dbhz,"
                " avg(rssi_dbm) FILTER (WHERE signal_present) AS signal_strength_dbm,"
                " avg(frequency_offset_hz) FILTER (WHERE signal_present) AS frequency_offset_hz,"
                " max(error_message) AS error_message, jsonb_agg(DISTINCT flags) AS flags"
                " FROM heimdall.receiver_features WHERE recording_session_id = :id GROUP BY rx_id ORDER BY rx_id"
            ),
            {"id": session_id},
        )
        return [
            StationInSession(
                **dict(row._mapping) | {"flags": tuple(sorted({flag for flags in row.flags for flag in flags}))}
            )
            for row in rows
        ]


def _gdop(latitude: float, longitude: float, detected: Sequence[ReceiverFeatures]) -> float | None:
    from heimdall_pipelines.rf.geodesy import gdop  # loads numpy and PROJ

    value = gdop(latitude, longitude, [x.rx_lat for x in detected], [x.rx_lon for x in detected])
    return float(f"{value:.6g}") if isfinite(value) else None
