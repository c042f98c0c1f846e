"""Sessions get slugs, names for people; the mean level of a measurement is called by its unit, dBm."""

import json

from alembic import op
from sqlalchemy import Connection, text

from heimdall_pipelines.store.session_slugs import numbered, session_slug

revision = "0007"
down_revision = "0006"

_ROWS_AT_ONCE = 5000


def upgrade() -> None:
    """Add the column, fill it for the sessions that are there, and keep it as it is from then on."""
    connection = op.get_bind()
    connection.exec_driver_sql("ALTER TABLE heimdall.measurements RENAME signal_strength_db TO signal_strength_dbm")
    connection.exec_driver_sql('ALTER TABLE heimdall.recording_sessions ADD COLUMN slug text COLLATE "C"')
    _fill(connection)
    for statement in (
        "ALTER TABLE heimdall.recording_sessions ALTER COLUMN slug SET NOT NULL,"
        " ADD CONSTRAINT recording_sessions_slug_key UNIQUE (slug),"
        " ADD CONSTRAINT recording_sessions_slug_check CHECK ("
        " slug ~ '^([0-9]{8}T[0-9]{6}Z-)?[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 100"
        " AND replace(slug, '-', '') !~ '^[0-9a-f]{32}$')",
        """
        CREATE FUNCTION heimdall.keep_session_slug() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
            MESSAGE = 'the slug of session ' || OLD.slug || ' never changes: Dagster keeps its history by it';
        END $$""",
        """
        CREATE TRIGGER recording_sessions_slug BEFORE UPDATE OF slug ON heimdall.recording_sessions
        FOR EACH ROW WHEN (NEW.slug IS DISTINCT FROM OLD.slug) EXECUTE FUNCTION heimdall.keep_session_slug()""",
        "COMMENT ON COLUMN heimdall.recording_sessions.slug IS 'Unique name for people, and key of the partition in"
        " Dagster: words of a-z and 0-9 joined by hyphens, mostly start, frequency and name; never changes'",
        # Of checks that failed before: their next evaluation has the slug for partition.
        "UPDATE heimdall.alerts a SET partition = s.slug, subject = concat_ws(':', a.asset, a.check_name, s.slug),"
        " title = replace(a.title, a.partition, s.slug) FROM heimdall.recording_sessions s"
        " WHERE a.kind = 'failed_check' AND a.asset = 'recorded/measurement_features' AND a.partition = s.id::text",
    ):
        connection.exec_driver_sql(statement)


def _fill(connection: Connection) -> None:
    """Give the sessions that are there slugs, oldest row first: of equal ones it has no number."""
    # Python knows no years before 1 and after 9999.
    sessions = connection.execute(
        text(
            "SELECT s.id::text, s.frequency_hz, s.name, k.name AS known_source,"
            " CASE WHEN s.start_time BETWEEN '0001-01-02' AND '9999-12-30' THEN s.start_time ELSE s.created_at END"
            " AS start FROM heimdall.recording_sessions s LEFT JOIN heimdall.known_sources k"
            " ON k.id = s.known_source_id ORDER BY s.created_at, s.id"
        )
    ).all()
    taken: set[str] = set()
    last_numbers: dict[str, int] = {}
    filled = []
    for session in sessions:
        wanted = session_slug(session.start, session.frequency_hz, session.name, session.known_source)
        slug, last_numbers[wanted] = numbered(wanted, taken, last_numbers.get(wanted, 1))
        taken.add(slug)
        filled.append({"id": session.id, "slug": slug})
    for first in range(0, len(filled), _ROWS_AT_ONCE):
        connection.execute(
            text(
                "UPDATE heimdall.recording_sessions s SET slug = filled.slug"
                " FROM jsonb_to_recordset(CAST(:filled AS jsonb)) AS filled (id uuid, slug text) WHERE s.id = filled.id"
            ),
            {"filled": json.dumps(filled[first : first + _ROWS_AT_ONCE])},
        )
