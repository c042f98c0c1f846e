"""SQL statements for SQLAlchemy, which is imported with the first statement, since the lists do not need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import TextClause


def text(statement: str) -> TextClause:
    """Make a statement whose parameters are ``:name``."""
    from sqlalchemy import text as made_by_sqlalchemy

    return made_by_sqlalchemy(statement)


def time_sql(microseconds: str) -> str:
    """SQL for the time of whole microseconds after the epoch; to_timestamp takes a float, which is too imprecise."""
    return f"TIMESTAMPTZ 'epoch' + ({microseconds}) * INTERVAL '1 microsecond'"
