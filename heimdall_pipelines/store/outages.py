"""Classifies PostgreSQL's errors: an outage that may end, or a mistake in the settings or rights."""

import psycopg2
from psycopg2 import errors as psycopg2_errors

from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.settings import Settings

# By the server's message (lc_messages C or English), since libpq has no SQLSTATE for a refused connection.
_REFUSALS = {
    "authentication failed": "see HEIMDALL_PG_USER and HEIMDALL_PG_PASSWORD",
    "no password supplied": "see HEIMDALL_PG_PASSWORD",
    "not permitted to log in": "see HEIMDALL_PG_USER",
    "no pg_hba.conf entry": "see HEIMDALL_PG_USER and HEIMDALL_PG_DATABASE, and pg_hba.conf on the server",
    "permission denied for database": "see HEIMDALL_PG_DATABASE and HEIMDALL_PG_USER",
    'FATAL:  role "': "see HEIMDALL_PG_USER",
    'FATAL:  database "': "see HEIMDALL_PG_DATABASE",
}


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL could not be reached, closed the connection or has none free; the transaction was rolled back."""


class DatabaseRefusedError(HeimdallError):
    """PostgreSQL refuses the role, its password or the database, or the role lacks a right: retrying does not help."""


class LackingRightError(DatabaseRefusedError):
    """The role lacks the right for this statement."""


def address(settings: Settings) -> str:
    """Name the database in messages."""
    return f"PostgreSQL at {settings.pg_host}:{settings.pg_port}/{settings.pg_database}"


def meaning_of(error: BaseException, settings: Settings, *, is_broken_off: bool) -> HeimdallError | None:
    """Return the error to raise instead of psycopg2's; None if that passes as it is.

    Parameters
    ----------
    error : BaseException
        Of psycopg2.
    settings : Settings
        Those of the connection.
    is_broken_off : bool
        The connection was closed and cannot be used again.
    """
    what = f"{address(settings)}: {_first_line(error)}"
    if isinstance(error, psycopg2.OperationalError):
        for words, what_to_do in _REFUSALS.items():
            if words in str(error):
                return DatabaseRefusedError(f"{what}: {what_to_do}")
        return DatabaseUnavailableError(what)
    if is_broken_off:
        return DatabaseUnavailableError(what)
    if isinstance(error, psycopg2_errors.InsufficientPrivilege):
        return LackingRightError(
            f"{what}: the role {settings.pg_user} (HEIMDALL_PG_USER) lacks a right, see deploy/postgresql/roles.sql"
        )
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
