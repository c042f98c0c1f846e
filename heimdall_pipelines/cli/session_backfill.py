"""Extracts completed sessions without features, or with outdated ones, in sequence, each as a run of the usual job."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

import dagster as dg
import typer

from heimdall_pipelines.cli.console import errors, output
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.exits import EXIT_INTERRUPTED
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


def backfill(
    stores: Stores,
    due: Sequence[SessionRevision],
    is_due: Callable[[Database, UUID], bool] = is_due_for_extraction,
    command: str = "heimdall session backfill",
    job_name: str = extract_recorded_session.name,
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
    job_name : str, optional
        Of the job that is run for each session.

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
    if failures:
        raise typer.Exit(1)


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
    print_stale((*due, *unlocated))
    for sessions, done in ((due, "extracted"), (unlocated, "located")):
        for session in sessions:
            if session.edited:
                output.print(
                    f"{session.slug} is not {done}: rows that its features are computed from were edited by hand; "
                    "validate it, and take the edit over or undo it: "
                    f"heimdall session validate {session.slug}"
                )
    command = "heimdall session extract --stale"
    has_failed = False
    work: tuple[tuple[Sequence[StaleSession | StalePosition], Callable[[Database, UUID], bool], str], ...] = (
        (due, is_stale, extract_recorded_session.name),
        (unlocated, is_position_stale, locate_recorded_session.name),
    )
    for outdated, is_due, job_name in work:
        trusted = [session for session in outdated if not session.edited]
        try:
            if outdated:
                backfill(stores, trusted, is_due, command, job_name)
        except typer.Exit as end:
            if end.exit_code == EXIT_INTERRUPTED:
                raise
            has_failed = True
    if has_failed or any(session.edited for session in due) or any(session.edited for session in unlocated):
        raise typer.Exit(1)


def _all(read: Callable[..., list[_Stale]]) -> list[_Stale]:
    """All pages of outdated sessions."""
    found: list[_Stale] = []
    page = read(limit=_PAGE)
    while page:
        found += page
        page = read(limit=_PAGE, after=page[-1])
    return found


def print_stale(due: Sequence[StaleSession | StalePosition]) -> None:
    """Show sessions whose features or positions are outdated, and what changed."""
    for session in due:
        output.print(f"{session.slug}:")
        for line in (*session.changes, *session.edited):
            output.print(f"  - {line}")


def _extract(instance: dg.DagsterInstance, stores: Stores, session: SessionRevision, job_name: str) -> str:
    outcome = extract_on(instance, stores, get_session(stores.database, session.session_id), job_name)
    failed = [check.check_name for check in outcome.checks if not check.passed]
    return f"done, but {', '.join(failed)} failed" if failed else "done"
