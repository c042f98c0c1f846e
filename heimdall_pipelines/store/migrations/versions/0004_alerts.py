"""Alerts: failed checks and runs as incidents, and their deliveries to each destination."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the outbox; the database itself refuses a second row of an incident."""
    _execute("""
        CREATE TABLE heimdall.alerts (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            kind text NOT NULL CHECK (kind IN ('failed_check', 'failed_run')),
            subject text NOT NULL,
            severity text NOT NULL CHECK (severity IN ('WARN', 'ERROR')),
            asset text,
            check_name text,
            partition text,
            run_id text,
            title text NOT NULL,
            body text NOT NULL,
            numbers jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(numbers) = 'object'),
            event_log text NOT NULL,
            event_id bigint NOT NULL,
            raised_at timestamptz NOT NULL,
            recovered_at timestamptz,
            closed_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            CHECK (CASE kind WHEN 'failed_check' THEN asset IS NOT NULL AND check_name IS NOT NULL
                             ELSE run_id IS NOT NULL AND recovered_at IS NULL AND closed_at IS NULL END),
            CHECK (recovered_at IS NULL OR closed_at IS NULL)
        )""")
    _execute("""
        CREATE UNIQUE INDEX alerts_open_check ON heimdall.alerts (subject)
        WHERE recovered_at IS NULL AND closed_at IS NULL AND kind = 'failed_check'""")
    _execute("CREATE UNIQUE INDEX alerts_failed_run ON heimdall.alerts (subject) WHERE kind = 'failed_run'")
    _execute("CREATE INDEX alerts_subject ON heimdall.alerts (subject, id)")
    _execute("CREATE INDEX alerts_raised_at ON heimdall.alerts (raised_at)")
    _execute("CREATE INDEX alerts_recovered_at ON heimdall.alerts (recovered_at)")
    _execute("""
        CREATE TABLE heimdall.alert_deliveries (
            alert_id bigint NOT NULL REFERENCES heimdall.alerts (id) ON DELETE CASCADE,
            message text NOT NULL CHECK (message IN ('raised', 'recovered')),
            destination text NOT NULL,
            severity text NOT NULL CHECK (severity IN ('WARN', 'ERROR')),
            attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
            last_error text,
            delivered_at timestamptz,
            PRIMARY KEY (alert_id, message, destination)
        )""")
    for table, (comment, columns) in _TABLES.items():
        _execute(f"COMMENT ON TABLE heimdall.{table} IS '{comment}'")
        for column, words in columns.items():
            _execute(f"COMMENT ON COLUMN heimdall.{table}.{column} IS '{words}'")


def _execute(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)  # op.execute would take ":word" for a parameter


_TABLES = {
    "alerts": (
        "An incident, from the first failure of a check to its next pass or its deletion, or a failed run; the outbox",
        {
            "kind": "failed_check or failed_run",
            "subject": "What is alerted about: asset, check and partition, or the run; one open incident each",
            "severity": "WARN or ERROR, of the last failure",
            "asset": "Key of the checked asset, parts joined by a slash",
            "check_name": "The check that failed",
            "partition": "Partition key of the check or run; null: none",
            "run_id": "Dagster run that failed, or whose check failed last; null: checked without a run",
            "title": "The message in one line",
            "body": "The message: numbers, examples, the repair, link",
            "numbers": "What the check counted at its last failure, by name",
            "event_log": "Dagster instance whose events event_id counts",
            "event_id": "The last Dagster event that changed this row; earlier ones of its subject are ignored",
            "raised_at": "First failure",
            "recovered_at": "When the check passed again; null: it has not, or it is a run",
            "closed_at": "When it was closed because what was checked is deleted, without a message; null: it was not",
        },
    ),
    "alert_deliveries": (
        "Delivery of an alert to one destination, or why it is not delivered yet",
        {
            "alert_id": "The alert",
            "message": "raised or recovered",
            "destination": "Digest of the Apprise URL, which holds secrets and is kept nowhere",
            "severity": "Severity that was sent; a rise from WARN to ERROR is sent again",
            "attempts": "How often it was tried",
            "last_error": "Why the last attempt failed; null: it did not",
            "delivered_at": "When the destination took it; null: not yet",
        },
    ),
}
