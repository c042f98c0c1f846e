"""Truth beside the features of every synthetic sample, and the generator that a dataset was made by."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what synthetic datasets need; the tables were empty of them until this revision."""
    for statement in (
        "ALTER TABLE heimdall.synthetic_datasets"
        " ADD COLUMN generator_version integer NOT NULL DEFAULT 1 CHECK (generator_version >= 1)",
        "ALTER TABLE heimdall.synthetic_datasets ALTER COLUMN generator_version DROP DEFAULT",
        "ALTER TABLE heimdall.synthetic_batches"
        " ALTER COLUMN generator_version TYPE integer USING generator_version::integer",
        "ALTER TABLE heimdall.measurement_features ADD COLUMN truth jsonb",
        "COMMENT ON COLUMN heimdall.synthetic_datasets.generator_version IS"
        " 'Version of the generator that makes all of its samples'",
        "COMMENT ON COLUMN heimdall.synthetic_datasets.target_num_samples IS"
        " 'Samples wanted in all; raised by an expansion, never lowered'",
        "COMMENT ON TABLE heimdall.synthetic_batches IS"
        " 'A range of sample_idx on a fixed grid: how far it is committed, or why it stopped'",
        "COMMENT ON COLUMN heimdall.synthetic_batches.num_samples IS"
        " 'Samples committed; fewer than the range at first'",
        "COMMENT ON COLUMN heimdall.measurement_features.truth IS"
        " 'Ground truth of a synthetic sample, the same as in synthetic_iq_samples: transmitter, and the link to each"
        " receiver in the order of receiver_features; null for recordings'",
    ):
        op.get_bind().exec_driver_sql(statement)
