"""`heimdall session`: recording sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli import (
    reporting,
    session_calibrating,
    session_correcting,
    session_importing,
    session_inspecting,
    session_locating,
    session_recording,
)
from heimdall_pipelines.cli.arguments import AsJson, DeleteAtOnce, Limit, OptionalSession, Session
from heimdall_pipelines.cli.confirming import confirm_deletion
from heimdall_pipelines.cli.console import number_text, output, show_progress, table, time_text
from heimdall_pipelines.cli.environment import reader, reclaim_space, stores
from heimdall_pipelines.cli.exits import exit_2_on_outage

if TYPE_CHECKING:
    from heimdall_pipelines.sessions.deleting import SessionContents
    from heimdall_pipelines.store.sessions import RecordingSession

app = typer.Typer(help="Recording sessions.", no_args_is_help=True)

app.command("record")(session_recording.record)
app.command("import")(session_importing.import_)
app.command("inspect")(session_inspecting.inspect)
app.command("correct")(session_correcting.correct)
app.command("export")(session_correcting.export)


@app.command("list")
def list_(limit: Limit = 50) -> None:
    """Show sessions and their state."""
    from heimdall_pipelines.store.sessions import list_sessions

    with reader() as database:
        sessions = list_sessions(database, limit)
    rows = table(
        *("session", "name", "status", "revision", "stations", "seconds", "segments", "features"),
        *("health", "validated, UTC"),
    )
    for session in sessions:
        if session.status != "completed" or session.deletion_began_at:
            state = ""
        elif session.num_segments == 0:
            state = "due"
        else:
            state = "failed" if session.num_failed_segments == session.num_segments else "extracted"
        rows.add_row(
            session.slug,
            session.name,
            "being deleted" if session.deletion_began_at else session.status,
            str(session.revision),
            str(session.num_stations),
            number_text(session.duration_s, 1),
            str(session.num_segments),
            state,
            session.health_status,
            time_text(session.last_validated_at),
        )
    output.print(rows)


@app.command("extract")
def extract(
    session: OptionalSession = None,
    stale: Annotated[
        bool,
        typer.Option(
            "--stale",
            help="Extract every session whose measurements, clocks, stations' positions or known source have changed "
            "since its extraction, or whose features are of an older version; locate those that have no position, or "
            "one of other delays than those that calibrations give now",
        ),
    ] = False,
) -> None:
    """Extract a session's features in this process, and check them; replaces existing features."""
    if (session is None) != stale:
        raise typer.BadParameter("either a session or --stale is expected")
    from heimdall_pipelines.cli.extraction import extract_now, print_checks  # Dagster takes a second to load
    from heimdall_pipelines.cli.session_tables import print_stations
    from heimdall_pipelines.store.sessions import get_session

    with stores() as opened:
        if session is None:
            from heimdall_pipelines.cli.session_backfill import extract_stale

            extract_stale(opened)
            return
        found = get_session(opened.database, session)
        outcome = extract_now(opened, found)
        print_stations(opened, found.id)
    print_checks(outcome)
    if not outcome.passed:
        raise typer.Exit(1)


app.command("locate")(session_locating.locate)
app.command("calibrate")(session_calibrating.calibrate)
app.command("report")(reporting.session_report)


@app.command("show")
def show(session: Session) -> None:
    """Show a session and its extracted features."""
    from heimdall_pipelines.cli.session_tables import print_stations
    from heimdall_pipelines.store.sessions import get_session

    with stores() as opened:
        found = get_session(opened.database, session)
        output.print(f"session {found.slug}, id {found.id}")
        output.print(
            f"{found.name}: {found.status}, revision {found.revision}, {found.frequency_hz:.10g} Hz, "
            f"channel {found.bandwidth_hz:g} Hz, "
            f"known source {found.known_source.name if found.known_source else 'none'}"
        )
        output.print(_health(found))
        if found.error_message:
            output.print(found.error_message)
        print_stations(opened, found.id)


@app.command("validate")
def validate(
    session: OptionalSession = None,
    all_: Annotated[bool, typer.Option("--all", help="Validate every completed session")] = False,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Read every object again and compare its SHA-256")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a session's rows, measurements and objects, and store its health.

    Exit code 0: healthy, 1: there are issues, 2: it could not be validated.
    """
    from heimdall_pipelines.store.sessions import completed_sessions

    if (session is None) != all_:
        raise typer.BadParameter("either a session or --all is expected")
    with exit_2_on_outage():
        from heimdall_pipelines.cli.session_validating import validate_many, validate_one  # Dagster takes a second

        with stores() as opened:
            if session is None:
                sessions = completed_sessions(opened.database)
                code = validate_many(opened, sessions, checksums=checksums, as_json=as_json)
            else:
                code = validate_one(opened, session, checksums=checksums, as_json=as_json)
    raise typer.Exit(code)


@app.command("backfill")
def backfill(
    limit: Annotated[int, typer.Option(help="Maximum number, oldest first", min=1)] = 100,
    after: Annotated[
        str | None, typer.Option(help="Begin after this session, such as the last of several that always fail")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which sessions would be extracted")] = False,
) -> None:
    """Extract completed sessions without features, regardless of earlier runs; may be stopped and repeated."""
    from heimdall_pipelines.cli.session_backfill import backfill, print_due  # Dagster takes a second to load
    from heimdall_pipelines.store.session_revisions import SessionRevision, due_for_extraction
    from heimdall_pipelines.store.sessions import get_session

    with stores() as opened:
        last = get_session(opened.database, after) if after else None
        due = due_for_extraction(
            opened.database, limit=limit, after=SessionRevision(last.id, last.slug, last.revision) if last else None
        )
        if dry_run:
            print_due(opened, due)
        else:
            backfill(opened, due)


@app.command("delete")
def delete(
    session: Session,
    yes: DeleteAtOnce = False,
) -> None:
    """Delete a session: its rows, its IQ objects and its partition in Dagster. Recordings cannot be regenerated.

    To complete an interrupted deletion, run the command again.
    """
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
    from heimdall_pipelines.sessions.deleting import delete_session, session_contents
    from heimdall_pipelines.store.session_slugs import as_uuid
    from heimdall_pipelines.store.sessions import SessionNotFoundError

    with stores() as opened, dagster_instance() as instance:

        def remove_partition(key: str) -> None:
            instance.delete_dynamic_partition(RECORDING_SESSIONS, key)

        key = str(as_uuid(session) or session)
        has_partition = instance.has_dynamic_partition(RECORDING_SESSIONS, key)
        try:
            contents = session_contents(opened, session)
        except SessionNotFoundError:  # a slug without a row: objects are keyed by id
            if not has_partition:
                raise
            remove_partition(key)
            output.print(f"deleted: the partition of session {session}, whose rows are gone already")
            return
        if contents.is_empty and not has_partition:
            raise SessionNotFoundError(f"no session {session}, and no data of one; see: heimdall session list")
        if not yes:
            confirm_deletion(_deletion_summary(contents), "Recordings CANNOT be regenerated.")
        delete_session(opened, contents.session_id, remove_partition, show_progress)
        space = reclaim_space() if contents.num_objects else ""
    output.print(f"deleted: {_deletion_summary(contents)}{space}")


def _health(session: RecordingSession) -> str:
    if session.deletion_began_at is not None:
        return f"being deleted; to complete the deletion: heimdall session delete {session.slug}"
    if session.last_validated_at is None:
        return f"health {session.health_status}; to validate: heimdall session validate {session.slug}"
    size = "" if session.storage_size_bytes is None else f", {session.storage_size_bytes / 1e6:.1f} MB"
    return f"health {session.health_status}, validated {time_text(session.last_validated_at)} UTC{size}"


def _deletion_summary(contents: SessionContents) -> str:
    name = f" ({contents.name})" if contents.name else ", whose rows are gone already,"
    return (
        f"session {contents.slug or contents.session_id}{name} with {contents.num_stations} stations, "
        f"{contents.num_segments} feature rows and {contents.num_objects} objects of {contents.size_bytes / 1e6:.1f} MB"
    )
