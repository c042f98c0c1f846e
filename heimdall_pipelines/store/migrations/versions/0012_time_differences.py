"""Feature rows get time differences between receivers, from feature version 3 on; existing rows have none.

A column that is NULL adds nothing to a row's digest: the digests of existing rows stay valid.
"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column, and the view with a row for each pair of receivers."""
    for statement in (
        "ALTER TABLE heimdall.measurement_features ADD COLUMN time_differences jsonb"
        " CHECK (jsonb_typeof(time_differences) = 'array')",
        "COMMENT ON COLUMN heimdall.measurement_features.time_differences IS"
        " 'Array: for each pair of receivers that both detected the difference of their times of arrival, or why it"
        " is not known; null before feature version 3'",
        """
        CREATE VIEW heimdall.measurement_time_differences AS
        SELECT f.id AS measurement_features_id, f.timestamp, f.dataset_id, f.sample_idx, f.recording_session_id,
            f.segment_idx, f.feature_version, (element.position - 1)::integer AS pair_idx,
            pair ->> 'rx_a' AS rx_a, pair ->> 'rx_b' AS rx_b,
            (pair ->> 'tdoa_us')::double precision AS tdoa_us, (pair ->> 'std_us')::double precision AS std_us,
            (pair ->> 'peak')::double precision AS peak, (pair ->> 'ambiguity')::double precision AS ambiguity,
            pair ->> 'reason' AS reason
        FROM heimdall.measurement_features f
        CROSS JOIN LATERAL jsonb_array_elements(f.time_differences) WITH ORDINALITY AS element (pair, position)""",
        "COMMENT ON VIEW heimdall.measurement_time_differences IS 'One row per pair of receivers of"
        " measurement_features; columns of its time_differences'",
    ):
        op.get_bind().exec_driver_sql(statement)
