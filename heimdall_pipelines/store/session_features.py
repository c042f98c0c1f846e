"""Feature rows of sessions: one for each segment; written by extractions, read by checks and reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from heimdall_pipelines.model.row_metadata import SessionExtraction, readable_session_extraction
from heimdall_pipelines.model.time_differences import PairTimeDifference, are_time_differences, read_time_differences
from heimdall_pipelines.store.digest_rows import digested_columns, resealing
from heimdall_pipelines.store.digests import Edit, datetime_of, edit_of
from heimdall_pipelines.store.features import (
    FeatureRow,
    ReceiverFeatures,
    insert_feature_rows,
    read_receivers,
    with_digest,
)
from heimdall_pipelines.store.session_inputs import record_extraction
from heimdall_pipelines.store.session_results import replacing_rows
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.model.feature_inputs import FeatureInputs
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading
    from heimdall_pipelines.store.session_revisions import SessionRevision


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


class SessionFeatureWriter:
    """Adds the rows of one session inside the transaction of ``replace_session_features``."""

    def __init__(self, connection: Connection, target: SessionRevision) -> None:
        self._connection = connection
        self._target = target

    def add(self, rows: Sequence[SessionFeatureRow]) -> None:
        """Insert some segments."""
        values = (with_digest(row.columns() | self._identity(row.segment_idx)) for row in rows)
        insert_feature_rows(self._connection, [json.dumps(one, allow_nan=False) for one in values])

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
    """Replace all feature rows of a session in one transaction; raises as `replacing_rows`."""
    with replacing_rows(
        database, target, "measurement_features", doing="extracted", change="its features were extracted again"
    ) as connection:
        yield SessionFeatureWriter(connection, target)


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
    metadata = readable_session_extraction(read["extraction_metadata"])
    if metadata is None:
        unreadable = "extraction_metadata"
    return StoredSessionRow(
        receivers=receivers or (),
        time_differences=read_time_differences(pairs),
        extraction_metadata=metadata or SessionExtraction(),
        timestamp=datetime_of(read["timestamp"]),
        edit=edit_of("measurement_features", read, read["digest"]),
        unreadable=unreadable,
        **values,
    )


def stations_in_session(database: Reading, session_id: UUID) -> list[StationInSession]:
    """Summarise the feature rows of a session by station."""
    rows = database.read(
        "SELECT rx_id, count(*) FILTER (WHERE error_message IS NULL) AS num_segments,"
        " count(*) FILTER (WHERE signal_present) AS num_present,"
        " avg(snr_db) FILTER (WHERE signal_present) AS snr_db,"
        " avg(cn0_dbhz) FILTER (WHERE signal_present) AS cn0_dbhz,"
        " avg(rssi_dbm) FILTER (WHERE signal_present) AS signal_strength_dbm,"
        " avg(frequency_offset_hz) FILTER (WHERE signal_present) AS frequency_offset_hz,"
        " max(error_message) AS error_message, jsonb_agg(DISTINCT flags) AS flags"
        " FROM heimdall.receiver_features WHERE recording_session_id = %(id)s GROUP BY rx_id ORDER BY rx_id",
        {"id": session_id},
    )
    return [
        StationInSession(**row._asdict() | {"flags": tuple(sorted({flag for flags in row.flags for flag in flags}))})
        for row in rows
    ]
