"""Brings the database's schema to the version that this code needs."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database

# Any constant serves, as long as every version of this project takes the same one.
_ADVISORY_LOCK = 0x4845494D  # "HEIM"


class SchemaTooNewError(HeimdallError):
    """The database was migrated by a newer version of heimdall-pipelines."""


def migrate(database: Database) -> tuple[str | None, str]:
    """Migrate to the newest schema; does nothing if it is there already.

    Two processes at once are safe: an advisory lock lets one after the other, and everything
    happens in one transaction, so that a crash leaves the old schema.

    Parameters
    ----------
    database : Database
        An empty database, or one with any earlier schema.

    Returns
    -------
    before, after : str or None, str
        The schema's revision before (None on an empty database) and after.

    Raises
    ------
    SchemaTooNewError
        The database has a revision that this code does not know.
    DatabaseUnavailableError
        PostgreSQL could not be reached.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    assert head is not None
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS heimdall"))
        if connection.execute(text("SELECT to_regclass('heimdall.schema_version')")).scalar() is None:
            before = None
        else:
            before = connection.execute(text("SELECT version_num FROM heimdall.schema_version")).scalar()
        if before is not None and before not in {revision.revision for revision in script.walk_revisions()}:
            raise SchemaTooNewError(
                f"{database!r} has schema revision {before}, newer than the {head} of this version: "
                "update heimdall-pipelines (git pull && make install)"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, head
