"""Recording from live receivers: when a recording should have ended, what limits it, and how stations fared."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what recording keeps, and the history of checks of stations."""
    for statement in (
        "ALTER TABLE heimdall.recording_sessions ADD COLUMN recording_deadline_at timestamptz,"
        " ADD COLUMN recorder_seen_at timestamptz",
        """CREATE INDEX recording_sessions_recording ON heimdall.recording_sessions (recording_deadline_at)
        WHERE recording_deadline_at IS NOT NULL""",
        "ALTER TABLE heimdall.measurements ADD COLUMN note text",
        "ALTER TABLE heimdall.measurements ALTER COLUMN sample_rate_hz DROP NOT NULL",
        "ALTER TABLE heimdall.measurements DROP CONSTRAINT measurements_time_source_check",
        "ALTER TABLE heimdall.measurements ADD CONSTRAINT measurements_time_source_check"
        " CHECK (time_source IN ('gnss', 'file', 'given', 'arrival'))",
        """
        CREATE TABLE heimdall.station_checks (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            websdr_station_id uuid NOT NULL REFERENCES heimdall.websdr_stations (id) ON DELETE CASCADE,
            checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            is_up boolean NOT NULL,
            latency_ms double precision CHECK (latency_ms >= 0),
            gnss_fix_age_s double precision CHECK (gnss_fix_age_s >= 0),
            num_users integer CHECK (num_users >= 0),
            max_users integer CHECK (max_users >= 0),
            software text,
            reason text,
            CHECK (is_up OR reason IS NOT NULL)
        )""",
        "CREATE INDEX station_checks_station ON heimdall.station_checks (websdr_station_id, checked_at)",
        "COMMENT ON TABLE heimdall.station_checks IS 'One look at a station: the history of its uptime'",
    ):
        op.get_bind().exec_driver_sql(statement)
    for column, comment in _COLUMNS.items():
        op.get_bind().exec_driver_sql(f"COMMENT ON COLUMN heimdall.{column} IS '{comment}'")


_COLUMNS = {
    "recording_sessions.recording_deadline_at": "When a recording under way should have ended at the latest; "
    "null: it has ended and nothing of it is left to remove, or the session was imported",
    "recording_sessions.recorder_seen_at": "Last heartbeat of the process that records it",
    "measurements.sample_rate_hz": "True sample rate; null: nothing was recorded, error_message says why",
    "measurements.time_source": "gnss: fitted to time stamps of a satellite clock; file: from the file; given: by a "
    "person; arrival: this machine''s clock when the samples came, less the least delay seen",
    "measurements.note": "What limits the recording: samples lost on the way, an overdriven converter",
    "station_checks.websdr_station_id": "The station",
    "station_checks.checked_at": "When it was asked",
    "station_checks.is_up": "Whether it answered as its protocol wants",
    "station_checks.latency_ms": "Time to its answer",
    "station_checks.gnss_fix_age_s": "Age of its latest GNSS fix; null: it does not say",
    "station_checks.num_users": "Listeners at that time; null: it does not say",
    "station_checks.max_users": "Listeners that it takes; null: it does not say",
    "station_checks.software": "What it runs",
    "station_checks.reason": "Why it is down, or what is wrong with it",
}
