"""Releases: the first samples of a dataset under a root hash, with their splits, never changed afterwards."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the table of releases."""
    connection = op.get_bind()
    for statement in (
        """
        CREATE TABLE heimdall.dataset_releases (
            dataset_id uuid NOT NULL REFERENCES heimdall.synthetic_datasets (id) ON DELETE CASCADE,
            version integer NOT NULL CHECK (version >= 1),
            num_samples integer NOT NULL CHECK (num_samples >= 1),
            root bytea NOT NULL CHECK (length(root) = 32),
            group_hashes bytea NOT NULL CHECK (mod(length(group_hashes), 32) = 0),
            rows_root bytea NOT NULL CHECK (length(rows_root) = 32),
            generator_version integer NOT NULL,
            feature_version smallint NOT NULL,
            licence text NOT NULL,
            splits jsonb NOT NULL CHECK (jsonb_typeof(splits) = 'object'),
            baselines jsonb CHECK (jsonb_typeof(baselines) = 'object'),
            forced_because text,
            released_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (dataset_id, version)
        )""",
        "COMMENT ON TABLE heimdall.dataset_releases IS"
        " 'Releases: the first samples of a dataset, which never change afterwards'",
    ):
        connection.exec_driver_sql(statement)
    for column, comment in {
        "version": "Version of the release, from 1",
        "num_samples": "Samples 0 to this number less 1",
        "root": "Root of the Merkle tree over parameters and samples, SHA-256",
        "group_hashes": "Hashes of groups of 256 samples, 32 bytes each, in order",
        "rows_root": "SHA-256 over the digests of the feature rows at the time of the release",
        "generator_version": "Version of the generator that made the samples",
        "feature_version": "Version of the features of all rows",
        "licence": "SPDX identifier of the licence, or its text",
        "splits": "Definition of each split, and the SHA-256 of its labels",
        "baselines": "Errors of the baselines on every split; null: not computed",
        "forced_because": "Why the release would have been refused without --force; else null",
        "released_at": "When",
    }.items():
        connection.exec_driver_sql(f"COMMENT ON COLUMN heimdall.dataset_releases.{column} IS '{comment}'")
