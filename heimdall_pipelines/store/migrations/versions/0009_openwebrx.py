"""Stations can be recorded by OpenWebRX's protocol; the kind http_iq, which no server speaks, is retired."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Admit the new kind; stations of the default network keep theirs, and the sync reports the difference.

    Stations of the retired kind are kept, with their recordings, as stations without a client.
    """
    for statement in (
        "UPDATE heimdall.websdr_stations SET api_type = 'none' WHERE api_type = 'http_iq'",
        "ALTER TABLE heimdall.websdr_stations DROP CONSTRAINT websdr_stations_api_type_check,"
        " ADD CONSTRAINT websdr_stations_api_type_check"
        " CHECK (api_type IN ('kiwisdr', 'openwebrx', 'none'))",
    ):
        op.get_bind().exec_driver_sql(statement)
