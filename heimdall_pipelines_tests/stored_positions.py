"""Positions of a session as they are stored."""

from heimdall_pipelines.store.positions import read_position_rows


def read_positions(database, session_id):
    """The whole session's position first, then by segment."""
    with database.transaction() as connection:
        return [row.position for row in read_position_rows(connection, session_id)]
