"""How many bytes rows take in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection


def row_bytes(connection: Connection, owner_columns: Mapping[str, str], owner_id: UUID) -> int:
    """Size of the rows of a dataset or session, in all tables that have some.

    Parameters
    ----------
    connection : Connection
    owner_columns : mapping of str to str
        By table, the column with the owner's id.
    owner_id : UUID
    """
    sizes = " UNION ALL ".join(
        f"SELECT sum(pg_column_size(r.*)) AS size FROM heimdall.{table} r WHERE r.{column} = :id"
        for table, column in owner_columns.items()
    )
    total = connection.execute(text(f"SELECT coalesce(sum(size), 0) FROM ({sizes}) AS s"), {"id": owner_id})
    return int(total.scalar_one())
