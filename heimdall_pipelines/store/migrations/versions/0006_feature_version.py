"""Each feature row gets the version of its set of features; existing rows get version 1."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the version; the view is rebuilt with it after the last revision, see `store.receiver_view`."""
    for statement in (
        "ALTER TABLE heimdall.measurement_features"
        " ADD COLUMN feature_version smallint NOT NULL DEFAULT 1 CHECK (feature_version >= 1)",
        "ALTER TABLE heimdall.measurement_features ALTER COLUMN feature_version DROP DEFAULT",
        "COMMENT ON COLUMN heimdall.measurement_features.feature_version IS"
        " 'Version of the set of features that receiver_features holds; checks expect that set'",
    ):
        op.get_bind().exec_driver_sql(statement)
