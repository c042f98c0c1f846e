"""What features and summaries were computed from is recorded, so that a later change of it can be found.

Of features that exist the present inputs are recorded: what changed before this revision cannot be known from them.
"""

import json

from alembic import op
from sqlalchemy import Connection, text

from heimdall_pipelines.model.feature_inputs import FeatureInputs

revision = "0011"
down_revision = "0010"

_ROWS_AT_ONCE = 1000

# Frozen here on purpose: later versions may compute features from more.
_INPUTS = """jsonb_build_object(
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
    'feature_version', (
        SELECT min(f.feature_version) FROM heimdall.measurement_features f WHERE f.recording_session_id = s.id))"""


def upgrade() -> None:
    """Create both tables, and fill that of extractions."""
    connection = op.get_bind()
    for statement in (
        """
        CREATE TABLE heimdall.session_extractions (
            recording_session_id uuid PRIMARY KEY REFERENCES heimdall.recording_sessions (id) ON DELETE CASCADE,
            session_revision integer NOT NULL CHECK (session_revision >= 1),
            inputs jsonb NOT NULL CHECK (jsonb_typeof(inputs) = 'object'),
            inputs_sha256 text NOT NULL CHECK (inputs_sha256 ~ '^[0-9a-f]{64}$'),
            extracted_at timestamptz
        )""",
        """
        CREATE TABLE heimdall.dataset_summaries (
            dataset_id uuid PRIMARY KEY REFERENCES heimdall.synthetic_datasets (id) ON DELETE CASCADE,
            num_samples integer NOT NULL CHECK (num_samples >= 0),
            content_sha256 text NOT NULL CHECK (content_sha256 ~ '^[0-9a-f]{64}$'),
            summarised_at timestamptz NOT NULL DEFAULT now()
        )""",
        "COMMENT ON TABLE heimdall.session_extractions IS 'What the features of a session were computed from'",
        "COMMENT ON TABLE heimdall.dataset_summaries IS 'What the last summary of a dataset was computed from'",
    ):
        connection.exec_driver_sql(statement)
    for column, comment in {
        "session_extractions.session_revision": "Revision of the session whose features were extracted",
        "session_extractions.inputs": "Channel, known source, feature version and, by rx_id, position and measurement",
        "session_extractions.inputs_sha256": "SHA-256 of inputs; extraction_metadata of each row has the same",
        "session_extractions.extracted_at": "When; null: recorded by a migration for features that existed",
        "dataset_summaries.num_samples": "Samples that were summarised",
        "dataset_summaries.content_sha256": "Root digest of the dataset that was summarised",
        "dataset_summaries.summarised_at": "When",
    }.items():
        connection.exec_driver_sql(f"COMMENT ON COLUMN heimdall.{column} IS '{comment}'")
    _fill(connection)


def _fill(connection: Connection) -> None:
    """Record the present inputs of sessions that have features of their current revision."""
    found = connection.execute(
        text(
            f"SELECT s.id::text, s.revision, {_INPUTS} AS inputs FROM heimdall.recording_sessions s"
            " WHERE EXISTS (SELECT FROM heimdall.measurement_features f"
            " WHERE f.recording_session_id = s.id AND f.session_revision = s.revision)"
        )
    )
    for rows in found.partitions(_ROWS_AT_ONCE):
        connection.execute(
            text(
                "INSERT INTO heimdall.session_extractions (recording_session_id, session_revision, inputs,"
                " inputs_sha256) VALUES (CAST(:id AS uuid), :revision, CAST(:inputs AS jsonb), :sha256)"
            ),
            [
                {
                    "id": row.id,
                    "revision": row.revision,
                    "inputs": json.dumps(row.inputs),
                    "sha256": FeatureInputs(row.inputs).sha256,
                }
                for row in rows
            ],
        )
