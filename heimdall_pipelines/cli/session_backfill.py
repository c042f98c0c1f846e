"""Extracts completed sessions without features, or with outdated ones, in sequence, each as a run of the usual job."""

from collections.abc import Callable, Sequence
from uuid import UUID

import dagster as dg
import typer

from heimdall_pipelines.cli.console import errors, output
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.extraction import extract_on
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.session_inputs import StaleSession, is_stale, stale_sessions
from heimdall_pipelines.store.session_revisions import SessionRevision, is_due_for_extraction
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stores import Stores

EXIT_INTERRUPTED = 130
_PAGE = 200


def backfill(
    stores: Stores,
    due: Sequence[SessionRevision],
    is_due: Callable[[Database, UUID], bool] = is_due_for_extraction,
    command: str = "heimdall session backfill",
) -> None:
    """Extract sessions in order; a failure does not stop the others.

    Ctrl-C prints how to continue: extracted sessions are no longer due.

    Parameters
    ----------
    stores : Stores
    due : sequence of SessionRevision
    is_due : callable, optional
        Whether a session is still due when its turn comes.
    command : str, optional
        Continues after Ctrl-C.

    Raises
    ------
    typer.Exit
        With code 1 if one failed, 130 after Ctrl-C.
    """
    num_done = num_gone = 0
    failures: dict[str, str] = {}
    is_interrupted = False
    with dagster_instance() as instance:
        for number, session in enumerate(due, start=1):
            where = f"{number} of {len(due)}: session {session.slug}"
            try:
                if not is_due(stores.database, session.session_id):
                    num_gone += 1
                    _print(f"{where}: extracted or deleted meanwhile")
                    continue
                result = _extract(instance, stores, session)
            except HeimdallError as error:
                failures[session.slug] = str(error)
                _print(f"{where}: failed")
            except KeyboardInterrupt:
                is_interrupted = True
                break
            else:
                num_done += 1
                _print(f"{where}: {result}")
    meanwhile = f", {num_gone} extracted or deleted meanwhile" if num_gone else ""
    _print(f"found: {len(due)}, done: {num_done}{meanwhile}, failed: {len(failures)}")
    for slug, reason in failures.items():
        _print(f"  - {slug}: {reason}")
    if is_interrupted:
        errors.print(
            "Interrupted: the current session is unchanged, the sessions before it are extracted.\n"
            f"To continue: {command}"
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    if failures:
        raise typer.Exit(1)


def print_due(stores: Stores, due: list[SessionRevision]) -> None:
    """Show which sessions would be extracted."""
    for session in due:
        name = get_session(stores.database, session.session_id).name
        _print(f"{session.slug}: {name}, revision {session.revision}")
    _print(f"found: {len(due)}; nothing was done")


def extract_stale(stores: Stores) -> None:
    """Extract every session whose features are outdated, as `backfill` does, and print what changed."""
    due: list[StaleSession] = []
    page = stale_sessions(stores.database, limit=_PAGE, older_features=True)
    while page:
        due += page
        page = stale_sessions(stores.database, limit=_PAGE, after=page[-1], older_features=True)
    if not due:
        _print("nothing to do: the features of every session are current")
        return
    print_stale(due)
    edited = [session for session in due if session.edited]
    for session in edited:
        _print(
            f"{session.slug} is not extracted: rows that its features are computed from were edited by hand; validate "
            f"it, and take the edit over or undo it: heimdall session validate {session.slug}"
        )
    backfill(stores, [session for session in due if not session.edited], is_stale, "heimdall session extract --stale")
    if edited:
        raise typer.Exit(1)


def print_stale(due: Sequence[StaleSession]) -> None:
    """Show sessions whose features are outdated, and what changed."""
    for session in due:
        _print(f"{session.slug}:")
        for line in (*session.changes, *session.edited):
            _print(f"  - {line}")


def _extract(instance: dg.DagsterInstance, stores: Stores, session: SessionRevision) -> str:
    outcome = extract_on(instance, stores, get_session(stores.database, session.session_id))
    failed = [check.check_name for check in outcome.checks if not check.passed]
    return f"done, but {', '.join(failed)} failed" if failed else "done"


def _print(line: str) -> None:
    output.print(line, markup=False, soft_wrap=True)
