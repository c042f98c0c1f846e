"""What the features of each session were computed from, and the sessions in which that has changed since."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.model.feature_inputs import CLOCKS_KEY, FEATURE_VERSION_KEY, FeatureInputs
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.store.session_digests import session_edits
from heimdall_pipelines.store.session_revisions import IS_COMPLETED_SQL, PAGE_SQL, SessionRevision, page_values
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database

# Of the session s: what `sessions.extraction` reads. The object is named by its content, so that moving it to another
# store changes nothing.
INPUTS_SQL = """jsonb_build_object(
    'bandwidth_hz', s.bandwidth_hz,
    'known_source', (
        SELECT jsonb_build_object('name', k.name, 'latitude', k.latitude, 'longitude', k.longitude,
                                  'altitude_m', k.altitude_m, 'power_dbm', k.power_dbm)
        FROM heimdall.known_sources k WHERE k.id = s.known_source_id),
    'stations', (
        SELECT coalesce(jsonb_object_agg(w.rx_id, jsonb_build_object(
            'latitude', w.latitude, 'longitude', w.longitude, 'altitude_m', w.altitude_m,
            'start_time_unix_ns', m.start_time_unix_ns, 'sample_rate_hz', m.sample_rate_hz,
            'samples_count', m.samples_count, 'object', coalesce(m.sha256, m.iq_data_location),
            'iq_data_format', m.iq_data_format, 'full_scale_dbm', m.full_scale_dbm, 'is_calibrated', m.is_calibrated,
            'quantisation_step', m.quantisation_step, 'passband_hz', m.passband_hz, 'note', m.note,
            'error_message', m.error_message) ORDER BY m.timestamp, m.id), '{}')
        FROM heimdall.measurements m JOIN heimdall.websdr_stations w ON w.id = m.websdr_station_id
        WHERE m.recording_session_id = s.id),
    'clocks', (
        SELECT coalesce(jsonb_object_agg(w.rx_id, jsonb_build_object(
            'time_source', m.time_source, 'time_uncertainty_ns', m.time_uncertainty_ns) ORDER BY m.timestamp, m.id),
            '{}')
        FROM heimdall.measurements m JOIN heimdall.websdr_stations w ON w.id = m.websdr_station_id
        WHERE m.recording_session_id = s.id))"""


@dataclass(frozen=True)
class StoredExtraction:
    """The record of a session's last extraction.

    ``extracted_at`` is None if a migration recorded the inputs of features that existed.
    """

    session_revision: int
    inputs: FeatureInputs
    inputs_sha256: str
    extracted_at: datetime | None


@dataclass(frozen=True)
class StaleSession(SessionRevision):
    """A session whose features were computed from other inputs than the present ones.

    Its run key names the present inputs: Dagster runs the extraction once for each change.

    Attributes
    ----------
    inputs_sha256 : str
        Of the present inputs.
    changes : tuple of str
        What changed, in words.
    edited : tuple of str
        Rows of its inputs that were edited by hand: features must not be extracted from these.
    """

    inputs_sha256: str
    changes: tuple[str, ...]
    edited: tuple[str, ...]

    @property
    def run_key(self) -> str:
        """Key by which Dagster runs the extraction from these inputs once."""
        return f"{super().run_key}:{self.inputs_sha256[:16]}"


def read_inputs(connection: Connection, session_id: UUID) -> FeatureInputs:
    """Read what an extraction by this version would compute the features of a session from, within a snapshot."""
    values = connection.execute(
        text(f"SELECT {INPUTS_SQL} FROM heimdall.recording_sessions s WHERE s.id = :id"), {"id": session_id}
    ).scalar_one()
    return _present(values)


def read_extraction(connection: Connection, session_id: UUID) -> StoredExtraction | None:
    """Read the record of a session's last extraction, None if there is none."""
    row = connection.execute(
        text(
            "SELECT session_revision, inputs, inputs_sha256, extracted_at FROM heimdall.session_extractions"
            " WHERE recording_session_id = :id"
        ),
        {"id": session_id},
    ).first()
    if row is None:
        return None
    return StoredExtraction(row.session_revision, FeatureInputs(row.inputs), row.inputs_sha256, row.extracted_at)


def record_extraction(connection: Connection, target: SessionRevision, inputs: FeatureInputs) -> None:
    """Record what the features of a session were computed from, in the transaction that writes them."""
    connection.execute(
        text(
            "INSERT INTO heimdall.session_extractions"
            " (recording_session_id, session_revision, inputs, inputs_sha256, extracted_at)"
            " VALUES (:id, :revision, CAST(:inputs AS jsonb), :sha256, now())"
            " ON CONFLICT (recording_session_id) DO UPDATE SET session_revision = excluded.session_revision,"
            " inputs = excluded.inputs, inputs_sha256 = excluded.inputs_sha256, extracted_at = excluded.extracted_at"
        ),
        {
            "id": target.session_id,
            "revision": target.revision,
            "inputs": json.dumps(inputs.values, allow_nan=False),
            "sha256": inputs.sha256,
        },
    )


def stale_sessions(
    database: Database, *, limit: int, after: SessionRevision | None = None, older_features: bool = False
) -> list[StaleSession]:
    """Extracted sessions whose inputs have changed since, oldest completion first.

    Parameters
    ----------
    database : Database
    limit : int
        Greatest number of sessions.
    after : SessionRevision, optional
        Continue after this one, the last of the previous page.
    older_features : bool
        Also sessions whose features are of an older version.
    """
    is_older = (
        "e.inputs -> CAST(:version_key AS text) < to_jsonb(CAST(:version AS integer))" if older_features else "false"
    )
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT s.id, s.slug, s.revision, e.inputs, present.inputs AS present"
                " FROM heimdall.session_extractions e JOIN heimdall.recording_sessions s"
                " ON s.id = e.recording_session_id AND s.revision = e.session_revision"
                f" CROSS JOIN LATERAL (SELECT {INPUTS_SQL} AS inputs) AS present"
                f" WHERE {IS_COMPLETED_SQL}"
                # Extractions of before recorded no clocks: what these were then is not known.
                " AND (e.inputs - CAST(:version_key AS text) <> CASE WHEN e.inputs ? CAST(:clocks_key AS text)"
                f"      THEN present.inputs ELSE present.inputs - CAST(:clocks_key AS text) END OR {is_older})"
                f" AND {PAGE_SQL}"
            ),
            {
                "version_key": FEATURE_VERSION_KEY,
                "clocks_key": CLOCKS_KEY,
                "version": FEATURE_VERSION,
                **page_values(limit, after),
            },
        )
        return [_stale(connection, *row) for row in rows.all()]


def is_stale(database: Database, session_id: UUID) -> bool:
    """Whether the features of a session were computed from other inputs, or are of an older version."""
    with database.transaction() as connection:
        stored = read_extraction(connection, session_id)
        return stored is not None and bool(stored.inputs.changes(read_inputs(connection, session_id)))


def _stale(
    connection: Connection, session_id: UUID, slug: str, revision: int, before: Any, present: Any
) -> StaleSession:
    now = _present(present)
    changes = tuple(FeatureInputs(before).changes(now))
    edited = tuple(session_edits(connection, session_id).problems())
    return StaleSession(session_id, slug, revision, now.sha256, changes, edited)


def _present(values: dict[str, Any]) -> FeatureInputs:
    return FeatureInputs(values | {FEATURE_VERSION_KEY: FEATURE_VERSION})
