"""Extracts completed sessions without features, or with outdated ones, in sequence, each as a run of the usual job."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

import dagster as dg
import typer

from heimdall_pipelines.cli.console import errors, output
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.exits import EXIT_INTERRUPTED, EXIT_ISSUES
from heimdall_pipelines.cli.extraction import extract_on
from heimdall_pipelines.defs.recorded import extract_recorded_session, locate_recorded_session
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.session_inputs import StaleSession, is_stale, stale_sessions
from heimdall_pipelines.store.session_revisions import SessionRevision, is_due_for_extraction
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stale_positions import StalePosition, is_position_stale, stale_positions
from heimdall_pipelines.store.stores import Stores

_PAGE = 200

_Stale = TypeVar("_Stale", StaleSession, StalePosition)


def backfill(stores: Stores, due: Sequence[SessionRevision]) -> None:
    """Extract sessions in order; a failure does not stop the others.

    Raises
    ------
    typer.Exit
        With code 1 if one failed, 130 after Ctrl-C.
    """
    command = "heimdall session backfill"
    if not _run_each(stores, due, is_due_for_extraction, extract_recorded_session.name, command):
        raise typer.Exit(EXIT_ISSUES)


def print_due(stores: Stores, due: list[SessionRevision]) -> None:
    """Show which sessions would be extracted."""
    for session in due:
        name = get_session(stores.database, session.session_id).name
        output.print(f"{session.slug}: {name}, revision {session.revision}")
    output.print(f"found: {len(due)}; nothing was done")


def extract_stale(stores: Stores) -> None:
    """Extract every session whose features are outdated, then locate those whose positions are; print what changed.

    Raises
    ------
    typer.Exit
        As of `backfill`; with code 1 also if rows of a session were edited by hand.
    """
    due = _all(partial(stale_sessions, stores.database, older_features=True))
    unlocated = _all(partial(stale_positions, stores.database, older_methods=True))
    extracted = {session.session_id for session in due}
    unlocated = [session for session in unlocated if session.session_id not in extracted]
    if not due and not unlocated:
        output.print("nothing to do: the features and positions of every session are current")
        return
    outdated: tuple[StaleSession | StalePosition, ...] = (*due, *unlocated)
    _print_stale(outdated)
    for session in outdated:
        if session.edited:
            done = "extracted" if session.session_id in extracted else "located"
            output.print(
                f"{session.slug} is not {done}: rows that its features are computed from were edited by hand; "
                f"validate it, and take the edit over or undo it: heimdall session validate {session.slug}"
            )
    command = "heimdall session extract --stale"
    all_done = not any(session.edited for session in outdated)
    if due:
        to_extract = [session for session in due if not session.edited]
        all_done &= _run_each(stores, to_extract, is_stale, extract_recorded_session.name, command)
    if unlocated:
        to_locate = [session for session in unlocated if not session.edited]
        all_done &= _run_each(stores, to_locate, is_position_stale, locate_recorded_session.name, command)
    if not all_done:
        raise typer.Exit(EXIT_ISSUES)


def _run_each(
    stores: Stores,
    due: Sequence[SessionRevision],
    is_due: Callable[[Database, UUID], bool],
    job_name: str,
    command: str,
) -> bool:
    """Run a job for each session that is still due at its turn; a failure does not stop the others.

    Ctrl-C prints the command that continues: sessions that are done are no longer due. False if one failed.
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
                    output.print(f"{where}: extracted or deleted meanwhile")
                    continue
                result = _extract(instance, stores, session, job_name)
            except HeimdallError as error:
                failures[session.slug] = str(error)
                output.print(f"{where}: failed")
            except KeyboardInterrupt:
                is_interrupted = True
                break
            else:
                num_done += 1
                output.print(f"{where}: {result}")
    meanwhile = f", {num_gone} extracted or deleted meanwhile" if num_gone else ""
    output.print(f"found: {len(due)}, done: {num_done}{meanwhile}, failed: {len(failures)}")
    for slug, reason in failures.items():
        output.print(f"  - {slug}: {reason}")
    if is_interrupted:
        errors.print(
            "Interrupted: the current session is unchanged, the sessions before it are extracted.\n"
            f"To continue: {command}"
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    return not failures


def _all(read: Callable[..., list[_Stale]]) -> list[_Stale]:
    """All pages of outdated sessions."""
    found: list[_Stale] = []
    page = read(limit=_PAGE)
    while page:
        found += page
        page = read(limit=_PAGE, after=page[-1])
    return found


def _print_stale(due: Sequence[StaleSession | StalePosition]) -> None:
    """Show sessions whose features or positions are outdated, and what changed."""
    for session in due:
        output.print(f"{session.slug}:")
        for line in (*session.changes, *session.edited):
            output.print(f"  - {line}")


def _extract(instance: dg.DagsterInstance, stores: Stores, session: SessionRevision, job_name: str) -> str:
    outcome = extract_on(instance, stores, get_session(stores.database, session.session_id), job_name)
    failed = [check.check_name for check in outcome.checks if not check.passed]
    return f"done, but {', '.join(failed)} failed" if failed else "done"
