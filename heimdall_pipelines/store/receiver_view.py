"""The view receiver_features, made from the registry of features whenever the schema is migrated."""

from sqlalchemy import Connection, text

from heimdall_pipelines.rf.feature_registry import FEATURES, Feature

# Columns and what they are, in this order: CREATE OR REPLACE VIEW keeps the rights to a view and the views that depend
# on it, but only adds columns at the end. Features of version 1 come after the receiver, later ones at the end.
_RECEIVER = {
    "measurement_features_id": "f.id",
    "timestamp": "f.timestamp",
    "dataset_id": "f.dataset_id",
    "sample_idx": "f.sample_idx",
    "recording_session_id": "f.recording_session_id",
    "segment_idx": "f.segment_idx",
    "receiver_idx": "(element.position - 1)::integer",
    "rx_id": "receiver ->> 'rx_id'",
    "rx_lat": "(receiver ->> 'rx_lat')::double precision",
    "rx_lon": "(receiver ->> 'rx_lon')::double precision",
    "rx_alt_m": "(receiver ->> 'rx_alt_m')::double precision",
    "signal_present": "(receiver ->> 'signal_present')::boolean",
    "flags": "receiver -> 'flags'",
    "error_message": "receiver ->> 'error_message'",
}
_TRANSMITTER = {
    name: f"f.{name}" for name in ("tx_latitude", "tx_longitude", "tx_altitude_m", "tx_power_dbm", "tx_known")
}
_VERSION = {"feature_version": "f.feature_version"}


def view_columns() -> dict[str, str]:
    """Columns of the view in their order, and the SQL of each."""
    columns = dict(_RECEIVER)
    for feature in FEATURES:
        if feature.since == 1:
            columns |= _statistics(feature)
    columns |= _TRANSMITTER | _VERSION
    for feature in FEATURES:
        columns |= _statistics(feature)
    return columns


def lacks_columns(connection: Connection) -> bool:
    """Whether the existing view lacks features that this version knows."""
    present = connection.execute(
        text("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('heimdall.receiver_features')")
    ).scalars()
    return not set(view_columns()) <= set(present)


def rebuild_view(connection: Connection) -> None:
    """Replace the view by one with all columns."""
    columns = ", ".join(f"{expression} AS {name}" for name, expression in view_columns().items())
    # Not text(): it would take a colon in SQL for a parameter.
    connection.exec_driver_sql(
        f"CREATE OR REPLACE VIEW heimdall.receiver_features AS SELECT {columns} FROM heimdall.measurement_features f"
        " CROSS JOIN LATERAL jsonb_array_elements(f.receiver_features) WITH ORDINALITY AS element (receiver, position)"
    )


def _statistics(feature: Feature) -> dict[str, str]:
    return {
        f"{feature.name}{suffix}": f"(receiver #>> '{{{feature.name},{statistic}}}')::double precision"
        for suffix, statistic in (("", "mean"), ("_std", "std"))
    }
