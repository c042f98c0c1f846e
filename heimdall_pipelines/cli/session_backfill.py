"""Extracts completed sessions without features, in sequence, each as a run of the usual job."""

import dagster as dg
import typer

from heimdall_pipelines.cli.console import errors, output
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.extraction import extract_on
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.session_revisions import SessionRevision, is_due_for_extraction
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stores import Stores

EXIT_INTERRUPTED = 130


def backfill(stores: Stores, due: list[SessionRevision]) -> None:
    """Extract sessions in order; a failure does not stop the others.

    Ctrl-C prints how to continue: extracted sessions are no longer due.

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
                if not is_due_for_extraction(stores.database, session.session_id):
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
            "To continue: heimdall session backfill"
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


def _extract(instance: dg.DagsterInstance, stores: Stores, session: SessionRevision) -> str:
    outcome = extract_on(instance, stores, get_session(stores.database, session.session_id))
    failed = [check.check_name for check in outcome.checks if not check.passed]
    return f"done, but {', '.join(failed)} failed" if failed else "done"


def _print(line: str) -> None:
    output.print(line, markup=False, soft_wrap=True)
