"""SQL statements for SQLAlchemy, which is imported with the first statement, since the lists do not need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg2
    from sqlalchemy import TextClause

    from heimdall_pipelines.errors import HeimdallError


def text(statement: str) -> TextClause:
    """Make a statement whose parameters are ``:name``."""
    from sqlalchemy import text as made_by_sqlalchemy

    return made_by_sqlalchemy(statement)


def time_sql(microseconds: str) -> str:
    """SQL for the time of whole microseconds after the epoch; to_timestamp takes a float, which is too imprecise."""
    return f"TIMESTAMPTZ 'epoch' + ({microseconds}) * INTERVAL '1 microsecond'"


@contextmanager
def raised_for(violation: type[psycopg2.IntegrityError], error: HeimdallError) -> Iterator[None]:
    """Raise an error instead of the violation of a constraint; around the transaction, which may fail at its end."""
    from sqlalchemy.exc import IntegrityError

    try:
        yield
    except IntegrityError as violated:
        if isinstance(violated.orig, violation):
            raise error from violated
        raise
