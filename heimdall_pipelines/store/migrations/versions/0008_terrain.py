"""Terrain: tiles of heights, those on which a dataset's scenes stand, and the height of stations' antennas."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the table and the columns; datasets of before have no tiles, their Earth is smooth."""
    for statement in (
        "ALTER TABLE heimdall.websdr_stations ADD COLUMN antenna_height_m double precision NOT NULL DEFAULT 10"
        " CHECK (antenna_height_m > 0 AND antenna_height_m <= 500)",
        "ALTER TABLE heimdall.synthetic_datasets ADD COLUMN terrain_tiles jsonb NOT NULL DEFAULT '[]'"
        " CHECK (jsonb_typeof(terrain_tiles) = 'array')",
        """
        CREATE TABLE heimdall.terrain_tiles (
            sha256 text COLLATE "C" PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
            north_deg double precision NOT NULL CHECK (north_deg BETWEEN -90.001 AND 90.001),
            west_deg double precision NOT NULL CHECK (west_deg >= -180 AND west_deg < 180),
            latitude_step_deg double precision NOT NULL CHECK (latitude_step_deg > 0),
            longitude_step_deg double precision NOT NULL CHECK (longitude_step_deg > 0),
            num_rows integer NOT NULL CHECK (num_rows >= 2),
            num_columns integer NOT NULL CHECK (num_columns >= 2),
            source text NOT NULL,
            licence text NOT NULL,
            file_name text NOT NULL,
            file_sha256 text COLLATE "C" NOT NULL UNIQUE CHECK (file_sha256 ~ '^[0-9a-f]{64}$'),
            size_bytes bigint NOT NULL CHECK (size_bytes > 0),
            added_at timestamptz NOT NULL DEFAULT now()
        )""",
    ):
        op.get_bind().exec_driver_sql(statement)
    op.get_bind().exec_driver_sql(
        "COMMENT ON TABLE heimdall.terrain_tiles IS 'Tiles of heights in the S3 store, under terrain/{sha256}.tile'"
    )
    comments = {
        "websdr_stations.antenna_height_m": "Antenna above the ground, m; scenes over terrain use it, not altitude_m",
        "synthetic_datasets.terrain_tiles": "SHA-256 of the terrain tiles on which its scenes stand, the first wins;"
        " empty: a smooth Earth",
        "terrain_tiles.sha256": "Of the tile in the S3 store; its identity",
        "terrain_tiles.north_deg": "Latitude of the first row of heights",
        "terrain_tiles.west_deg": "Longitude of the first column of heights",
        "terrain_tiles.latitude_step_deg": "Distance of two rows, degrees",
        "terrain_tiles.longitude_step_deg": "Distance of two columns, degrees",
        "terrain_tiles.num_rows": "Rows of heights",
        "terrain_tiles.num_columns": "Columns of heights",
        "terrain_tiles.source": "Where the heights come from",
        "terrain_tiles.licence": "What may be done with them",
        "terrain_tiles.file_name": "File from which the tile was made",
        "terrain_tiles.file_sha256": "Of that file",
        "terrain_tiles.size_bytes": "Size of the tile in the S3 store",
        "terrain_tiles.added_at": "When it was added; of equally fine tiles the newest wins",
    }
    for column, comment in comments.items():
        op.get_bind().exec_driver_sql(f"COMMENT ON COLUMN heimdall.{column} IS '{comment}'")
