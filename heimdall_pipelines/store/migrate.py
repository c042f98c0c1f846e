"""Migrates the database's schema to the version that this code needs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database, read_rows
from heimdall_pipelines.store.outages import LackingRightError
from heimdall_pipelines.store.receiver_view import lacks_columns, rebuild_view
from heimdall_pipelines.store.revision import VERSIONS_FOLDER, newest_revision, revision_in

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

# Any constant works, if every version of this project uses the same one.
SCHEMA_LOCK = 0x4845494D  # "HEIM"
# Default privileges let the application's role write new tables; this one it may only read.
_ONLY_OWNER_WRITES_REVISION = """
DO $$
DECLARE
    grantee regrole;
BEGIN
    FOR grantee IN
        SELECT DISTINCT entry.grantee FROM pg_class, aclexplode(relacl) AS entry
        WHERE pg_class.oid = 'heimdall.schema_version'::regclass AND entry.grantee NOT IN (0, relowner)
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON heimdall.schema_version FROM %s', grantee);
    END LOOP;
END $$
"""


class SchemaTooNewError(HeimdallError):
    """The database was migrated by a newer version of heimdall-pipelines."""


class SchemaTooOldError(HeimdallError):
    """The database must be migrated, and this role may not do it."""


def migrate(database: Database) -> tuple[str | None, str]:
    """Migrate to the newest schema; only reads if the schema is current.

    A new feature in the registry needs no revision: its columns are added to the view `receiver_features` here.

    Concurrent processes are safe: an advisory lock serialises them, and everything happens in one
    transaction, so that a crash leaves the old schema.

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
    SchemaTooOldError
        The schema is old or missing, and the role may not change it.
    DatabaseUnavailableError
        PostgreSQL could not be reached.
    DatabaseRefusedError
        PostgreSQL refuses the role, or the role may not read the revision.
    """
    head = newest_revision()
    with database.transaction() as connection:
        before = revision_in(partial(read_rows, connection))
        is_current = before == head and not lacks_columns(connection)
    if is_current:
        return before, head
    try:
        return _upgrade(database), head
    except LackingRightError as error:
        found = f"the schema is at revision {before}, older than this version" if before else "there is no schema yet"
        raise SchemaTooOldError(
            f"{database!r}: {found}, and the role {database.role} may not bring it to {head}: run "
            "`heimdall db migrate` as the schema's owner (HEIMDALL_PG_USER, HEIMDALL_PG_PASSWORD)"
        ) from error


def _upgrade(database: Database) -> str | None:
    from alembic import command  # takes longer to load than most commands to run, and is seldom needed

    config, script, head = _migrations()
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
        if connection.execute(text("SELECT to_regnamespace('heimdall')")).scalar() is None:
            connection.execute(text("CREATE SCHEMA heimdall"))
        before = revision_in(partial(read_rows, connection))
        if before is not None and before not in {revision.revision for revision in script.walk_revisions()}:
            raise SchemaTooNewError(
                f"{database!r} has schema revision {before}, newer than the {head} of this version: "
                "update heimdall-pipelines (git pull && make install)"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if lacks_columns(connection):
            rebuild_view(connection)
        connection.execute(text(_ONLY_OWNER_WRITES_REVISION))
    return before


def _migrations() -> tuple[Config, ScriptDirectory, str]:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(VERSIONS_FOLDER.parent).replace("%", "%%"))  # % would interpolate
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    assert head is not None
    return config, script, head
