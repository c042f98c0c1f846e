"""The schema's revision in the database and in this version, without Alembic, which most commands do not need."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

VERSIONS_FOLDER = Path(__file__).parent / "migrations" / "versions"


def revision_in(read: Callable[[str], Sequence[Any]]) -> str | None:
    """Read the schema's revision; None if there is no schema yet.

    Parameters
    ----------
    read : callable
        `read` of a `heimdall_pipelines.store.reading.Reading`, or the same inside a transaction.
    """
    (found,) = read("SELECT to_regclass('heimdall.schema_version') AS version_table")
    if found.version_table is None:
        return None
    rows = read("SELECT version_num FROM heimdall.schema_version")
    return str(rows[0].version_num) if rows else None


def newest_revision() -> str:
    """Return the revision that this version needs: its newest migration, by the numbers that begin the file names."""
    return max(path.name.partition("_")[0] for path in VERSIONS_FOLDER.glob("[0-9]*_*.py"))
