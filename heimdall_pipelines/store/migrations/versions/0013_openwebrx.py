"""Stations can be recorded by OpenWebRX's protocol."""

from alembic import op

revision = "0013"
down_revision = "0007"


def upgrade() -> None:
    """Admit the new kind; stations of the default network keep theirs, and the sync reports the difference."""
    for statement in (
        "ALTER TABLE heimdall.websdr_stations DROP CONSTRAINT websdr_stations_api_type_check,"
        " ADD CONSTRAINT websdr_stations_api_type_check"
        " CHECK (api_type IN ('kiwisdr', 'openwebrx', 'http_iq', 'none'))",
    ):
        op.get_bind().exec_driver_sql(statement)
