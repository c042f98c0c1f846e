"""`heimdall db`: the schema."""

from typing import Annotated, Any, Literal

import typer

from heimdall_pipelines.cli.arguments import Limit
from heimdall_pipelines.cli.console import output, show_progress, table, time_text
from heimdall_pipelines.cli.environment import prepare, reader, reclaim_space, servers, stores
from heimdall_pipelines.errors import HeimdallError

app = typer.Typer(help="The database's schema, the buckets, and edits made by hand.", no_args_is_help=True)

EditedKind = Literal["dataset", "session", "station", "source"]

_LONGEST_SHOWN = 40


@app.command("migrate")
def migrate_database() -> None:
    """Migrate the schema to this version, create the buckets, set Dagster's limits; safe at any time.

    If TimescaleDB is installed, measurements becomes a hypertable with the policies of HEIMDALL_TIMESCALE_*.
    """
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.stores import open_stores
    from heimdall_pipelines.store.timescale import HypertablePolicy, apply_policy

    with servers():
        settings = load_settings()
        policy = HypertablePolicy(settings.timescale_chunk_days, settings.timescale_compress_after_days)
        with open_stores(settings) as opened:
            before, after = prepare(opened)
            changes = apply_policy(opened.database, policy)
        _prepare_dagster()
    if before == after:
        output.print(f"the schema is already at revision {after}")
    else:
        output.print(f"schema migrated from {before or 'nothing'} to revision {after}")
    for change in changes:
        output.print(change)


def _prepare_dagster() -> None:
    """Create Dagster's tables before its processes do so in parallel, and set the limits of its pools."""
    from heimdall_pipelines.cli.dagster_instance import open_instance  # takes a second to load
    from heimdall_pipelines.cluster.pools import begin_event_cursors, set_pool_limits
    from heimdall_pipelines.settings import load_settings

    with open_instance() as instance:
        set_pool_limits(instance, load_settings())
        begin_event_cursors(instance)


@app.command("sweep")
def sweep(
    apply: Annotated[bool, typer.Option("--apply", help="Remove the orphans; default: only list them")] = False,
) -> None:
    """Find orphans: objects of deleted datasets and sessions. Objects younger than an hour are kept."""
    from heimdall_pipelines.store.orphans import find_orphans, remove_orphan

    num_found = num_removed = 0
    with stores() as opened:
        for orphan in find_orphans(opened):
            num_found += 1
            size = f"{orphan.num_objects} objects, {orphan.num_bytes / 1e6:.1f} MB"
            what = f"{orphan.bucket}/{orphan.prefix}: {size}"
            if orphan.is_young:
                output.print(f"kept, younger than an hour: {what}")
            elif apply:
                remove_orphan(opened, orphan)
                num_removed += 1
                output.print(f"removed: {what}")
            else:
                output.print(f"orphan: {what}")
        space = reclaim_space() if num_removed else ""
    if space:
        output.print(f"orphans removed: {num_removed}{space}")
    if not num_found:
        output.print("no orphans: every object belongs to a dataset or a session")
    elif not apply:
        output.print("Nothing was changed. To remove them: heimdall db sweep --apply")


@app.command("accept")
def accept(
    kind: Annotated[EditedKind, typer.Argument(help="What was edited")],
    name: Annotated[str, typer.Argument(help="Name of the dataset or source, slug of the session or station")],
    reason: Annotated[str | None, typer.Option(help="Why it was edited; stored in the table changes")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Take the edits over; default: only list them")] = False,
) -> None:
    """List the edits that were made by hand, and take them over, so that validation trusts them from then on.

    Checksums of sidecars that rows of an older version lack are added, too. Every edit is noted in the table changes.
    """
    from heimdall_pipelines.cli.accepting import accept as accept_edits

    if apply and not (reason or "").strip():
        raise typer.BadParameter("--apply needs --reason: why the data were edited")
    with stores() as opened:
        num = accept_edits(opened, kind, name, reason.strip() if apply and reason else None)
    if not num:
        output.print(f"{kind} {name}: every row is as it was committed")
    elif apply:
        output.print(f"{num} edits taken over; validation trusts them from now on")
    else:
        output.print(f"Nothing was changed. To take over {num} edits: add --reason REASON --apply")


@app.command("changes")
def changes(limit: Limit = 20) -> None:
    """Show changes of data that was committed before: by whom, what, and why."""
    from heimdall_pipelines.store.changes import list_changes

    with reader() as database:
        found = list_changes(database, limit)
    rows = table("time, UTC", "who", "what", "before", "after", "reason")
    for change in found:
        key = ", ".join(f"{name} {value}" for name, value in change.row_key.items())
        rows.add_row(
            time_text(change.changed_at),
            change.who,
            f"{change.table_name}: {key}" if key else change.table_name,
            _values(change.before),
            _values(change.after),
            change.reason,
        )
    output.print(rows)


def _values(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in (values or {}).items())


def _short(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


@app.command("expire")
def expire(
    apply: Annotated[bool, typer.Option("--apply", help="Delete the sessions; default: only list them")] = False,
) -> None:
    """Delete sessions completed more than HEIMDALL_SESSION_RETENTION_DAYS ago, with rows and objects.

    The schedule daily_expiry does the same. Recordings cannot be regenerated.
    """
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
    from heimdall_pipelines.sessions.deleting import delete_session
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.session_deletion import expired_sessions

    with stores() as opened, dagster_instance() as instance:
        days = load_settings().session_retention_days
        if days is None:
            raise HeimdallError("HEIMDALL_SESSION_RETENTION_DAYS is not set: sessions are kept forever")
        expired = expired_sessions(opened.database, days)
        for session in expired:
            if apply:
                delete_session(
                    opened,
                    session.id,
                    lambda key: instance.delete_dynamic_partition(RECORDING_SESSIONS, key),
                    show_progress,
                )
            output.print(f"{'deleted' if apply else 'expired'}: session {session.slug}")
        space = reclaim_space() if apply and expired else ""
    if space:
        output.print(f"sessions deleted: {len(expired)}{space}")
    if not expired:
        output.print(f"no session was completed more than {days} days ago")
    elif not apply:
        output.print("Nothing was changed. To delete them: heimdall db expire --apply")
