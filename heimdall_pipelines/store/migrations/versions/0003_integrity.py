"""What guards the data: health of datasets and sessions, deletions that can be finished, times of commits."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what validation, repair and deletion keep."""
    for statement in (
        "ALTER TABLE heimdall.synthetic_datasets ADD COLUMN deletion_began_at timestamptz",
        "ALTER TABLE heimdall.synthetic_batches ADD COLUMN committed_at timestamptz NOT NULL DEFAULT now()",
        "ALTER TABLE heimdall.recording_sessions ADD COLUMN deletion_began_at timestamptz,"
        " ADD COLUMN health_status text NOT NULL DEFAULT 'unknown'"
        " CHECK (health_status IN ('unknown', 'healthy', 'warning', 'critical')),"
        " ADD COLUMN validation_issues jsonb NOT NULL DEFAULT '[]',"
        " ADD COLUMN last_validated_at timestamptz,"
        " ADD COLUMN storage_size_bytes bigint CHECK (storage_size_bytes >= 0)",
    ):
        op.get_bind().exec_driver_sql(statement)
    deleting = (
        "Set: it is being deleted, and is not written any more; the same command finishes an interrupted deletion"
    )
    health = "Result of the last validation: healthy, warning, critical (a twentieth or more), or unknown"
    issues = "What the last validation found: per failed check its name, severity, numbers, examples, and the repair"
    size = "Bytes of its objects and rows at the last validation"
    for column, comment in {
        "synthetic_datasets.deletion_began_at": deleting,
        "synthetic_datasets.health_status": health,
        "synthetic_datasets.validation_issues": issues,
        "synthetic_batches.committed_at": "When samples of it were last committed",
        "recording_sessions.deletion_began_at": deleting,
        "recording_sessions.health_status": health,
        "recording_sessions.validation_issues": issues,
        "recording_sessions.last_validated_at": "When it was validated",
        "recording_sessions.storage_size_bytes": size,
    }.items():
        op.get_bind().exec_driver_sql(f"COMMENT ON COLUMN heimdall.{column} IS '{comment}'")
