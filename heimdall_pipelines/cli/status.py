"""`heimdall status`: the state of everything on one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.console import output, time_text
from heimdall_pipelines.cli.environment import running_servers
from heimdall_pipelines.cli.exits import exit_2_on_outage

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from heimdall_pipelines.status.dagster_ui import DagsterStatus
    from heimdall_pipelines.status.report import (
        ChecksStatus,
        Daemon,
        DatasetStatus,
        Runs,
        Server,
        SessionsStatus,
        Status,
        StorageStatus,
        Workers,
    )

MAX_NAMED = 10
_LABEL_WIDTH = 16
_NAME_WIDTH = 24  # of a dataset; longer ones, up to 63 characters, are folded


def status(
    json_: Annotated[
        bool, typer.Option("--json", help="As JSON, for programs; docs/operations.md has the names")
    ] = False,
) -> None:
    """Show servers, runs, datasets, sessions, failing checks and storage; changes nothing.

    Exit code 0: no problem, 1: something needs attention (see the last lines), 2: something could not be read.
    """
    from heimdall_pipelines.status.report import as_json

    with exit_2_on_outage():
        found = look_around()
    if json_:
        output.print_json(as_json(found))
    else:
        _print(found)
    raise typer.Exit(found.exit_code)


def look_around() -> Status:
    """Read the status of the servers of a deployment, or of the embedded ones, which are not started.

    Raises
    ------
    SettingsError
        A variable is missing or malformed.
    """
    from heimdall_pipelines.cli.dev import running_ui
    from heimdall_pipelines.settings import load_local_settings, load_settings
    from heimdall_pipelines.status.collecting import collect_status

    if not running_servers():
        return _stopped()
    local = load_local_settings()
    ui_url = local.ui_url or running_ui(local.home.resolve())
    return collect_status(load_settings(ui_url=ui_url), _load_dagster)


def _load_dagster() -> Callable[[datetime], DagsterStatus]:
    from heimdall_pipelines.cli.dagster_status import dagster_status  # takes seconds

    return dagster_status


def _stopped() -> Status:
    from heimdall_pipelines.settings import load_local_settings
    from heimdall_pipelines.status.report import Server, Status
    from heimdall_pipelines.status.servers import POSTGRES, S3

    local = load_local_settings()
    why = f"the servers of {local.home.resolve()} are not running; start them: heimdall dev"
    servers = tuple(Server(name, "", is_up=False, detail="not running") for name in (POSTGRES, S3))
    return Status(datetime.now(UTC), local.run_launcher, servers, not_read=(why,))


def _print(found: Status) -> None:
    if all(server.detail == "not running" for server in found.servers):
        output.print(f"{found.not_read[0][0].upper()}{found.not_read[0][1:]}")
        output.print("These commands show data without a daemon: heimdall dataset list, heimdall session list")
        return
    output.print(f"[bold]heimdall[/]  {time_text(found.observed_at)} UTC, run launcher: {found.launcher}", markup=True)
    _section("Servers", _servers(found.servers, found.daemons, found.workers))
    if found.runs is not None:
        _section("Runs", _lines(_runs(found.runs)))
    if found.datasets is not None:
        _section("Datasets", _datasets(found.datasets))
    if found.sessions is not None:
        _section("Sessions", _lines(_sessions(found.sessions)))
    if found.checks is not None:
        _section("Checks", _lines(_checks(found.checks)))
    if found.storage is not None:
        _section("Storage", _storage(found.storage, found.disk_free_bytes))
    output.print()
    for line in found.not_read:
        output.print_labelled("Not read:", "bold red", line)
    for line in found.attention:
        output.print_labelled("Attention:", "bold yellow", line)
    if found.exit_code == 0:
        output.print("No problems.", style="bold green")


def _section(title: str, content: Table) -> None:
    output.print(f"\n{title}", style="bold")
    output.print(content)


def _table(*columns: str) -> Table:
    """A table without lines; ! before a column's name: not wrapped, > after it: right-aligned."""
    from rich.table import Table

    made = Table(box=None, show_header=False, padding=(0, 2, 0, 2), pad_edge=True)
    for number, column in enumerate(columns):
        to_right = column.endswith(">")
        width = _LABEL_WIDTH if number == 0 else None
        made.add_column(justify="right" if to_right else "left", no_wrap=column.startswith("!"), min_width=width)
    return made


def _lines(rows: Iterator[tuple[str, str]]) -> Table:
    made = _table("!label", "words")
    for label, words in rows:
        made.add_row(label, words)
    return made


def _servers(servers: tuple[Server, ...], daemons: tuple[Daemon, ...] | None, workers: Workers | None) -> Table:
    made = _table("!name", "state", "words")
    for server in servers:
        where = (
            f"{server.address}, {server.response_s * 1e3:.0f} ms" if server.response_s is not None else server.address
        )
        words = ", ".join(filter(None, (where, server.detail)))
        made.add_row(server.name, _up(server.is_up), words)
    if daemons is not None:
        alive = [daemon for daemon in daemons if daemon.is_alive]
        made.add_row("Dagster daemon", _up(bool(daemons) and len(alive) == len(daemons)), _daemons(daemons))
    for worker in workers.workers if workers is not None else ():
        made.add_row("worker", _up(True), f"{worker.name}, executes {worker.num_runs}")
    if workers is not None:
        made.add_row("", "", f"{len(workers.workers)} workers answer, {workers.num_waiting} runs wait in Redis")
    return made


def _daemons(daemons: tuple[Daemon, ...]) -> str:
    if all(daemon.heartbeat_age_s is None for daemon in daemons):
        return "never ran; start it: heimdall dev"
    ages = [f"{d.name.lower()} {'never' if d.heartbeat_age_s is None else _age(d.heartbeat_age_s)}" for d in daemons]
    return f"last heartbeat: {', '.join(ages)}"


def _runs(runs: Runs) -> Iterator[tuple[str, str]]:
    now = ", ".join(f"{number} {status}" for status, number in runs.unfinished.items())
    waiting = (
        "" if runs.oldest_queued_age_s is None else f"; the oldest has waited for {_age(runs.oldest_queued_age_s)}"
    )
    yield "now", now + waiting
    yield "last 24 h", ", ".join(f"{number} {status}" for status, number in runs.ended_last_24_h.items())
    for in_progress in runs.in_progress[:MAX_NAMED]:
        yield "in progress", f"{in_progress}, since {_age(in_progress.age_s)}"
    for run in runs.failed[:MAX_NAMED]:
        what = f"{run.job} {run.partition}" if run.partition else run.job
        yield "failed", f"{what}, {_age(run.age_s)} ago, run {run.run_id}"
    if len(runs.failed) > MAX_NAMED:
        yield "", f"and {len(runs.failed) - MAX_NAMED} more: heimdall alerts list"


def _datasets(datasets: tuple[DatasetStatus, ...]) -> Table:
    from rich.text import Text

    made = _table("name", "!samples>", "!share>", "!health", "!validated")
    made.columns[0].overflow, made.columns[0].max_width = "fold", _NAME_WIDTH
    shown = sorted(datasets, key=_urgency)[:MAX_NAMED]
    for dataset in shown:
        health = Text(dataset.health, style="yellow" if dataset.health in ("warning", "critical") else "")
        made.add_row(
            dataset.name,
            f"{dataset.num_samples}/{dataset.target_num_samples}",
            f"{dataset.num_samples / dataset.target_num_samples:.0%}",
            "being deleted" if dataset.is_being_deleted else health,
            "not validated" if dataset.validation_age_s is None else f"{_age(dataset.validation_age_s)} ago",
        )
    if not datasets:
        made.add_row("none", "", "", "", "")
    elif len(shown) < len(datasets):
        made.add_row(f"{len(datasets)} in all", "", "", "", "heimdall dataset list")
    return made


def _urgency(dataset: DatasetStatus) -> tuple[bool, bool, float]:
    """Sort key: unhealthy, then unfinished, then the oldest validation."""
    is_unhealthy = dataset.is_being_deleted or dataset.health in ("warning", "critical")
    is_complete = dataset.num_samples >= dataset.target_num_samples
    age_s = float("inf") if dataset.validation_age_s is None else dataset.validation_age_s
    return not is_unhealthy, is_complete, -age_s


def _sessions(sessions: SessionsStatus) -> Iterator[tuple[str, str]]:
    yield "by status", _counts(sessions.by_status)
    yield "completed", f"{sessions.due_for_extraction} due for extraction; health: {_counts(sessions.by_health)}"
    if sessions.abandoned:
        named = ", ".join(sessions.abandoned[:MAX_NAMED])
        more = len(sessions.abandoned) - MAX_NAMED
        yield "abandoned", named + (f" and {more} more" if more > 0 else "")


def _checks(checks: ChecksStatus) -> Iterator[tuple[str, str]]:
    if not checks.by_severity:
        yield "failing", "none"
        return
    oldest = "" if checks.oldest_age_s is None else f"; the oldest since {_age(checks.oldest_age_s)}"
    yield "failing", _counts(checks.by_severity) + oldest
    for check in checks.newest:
        yield f"  {check.severity}", f"{check}, since {_age(check.age_s)}"


def _storage(storage: StorageStatus, disk_free_bytes: int | None) -> Table:
    made = _table("!what", "bytes>", "words")
    for bucket in storage.buckets:
        made.add_row(bucket.bucket, _bytes(bucket.iq_bytes), f"of IQ in {bucket.num_objects} objects, by the rows")
    for database, size in storage.database_bytes.items():
        made.add_row(database, _bytes(size), "database")
    if disk_free_bytes is not None:
        made.add_row("disk", _bytes(disk_free_bytes), "free")
    return made


def _up(is_up: bool) -> Text:
    from rich.text import Text

    return Text("up", style="green") if is_up else Text("DOWN", style="bold red")


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in numbers.items()) or "none"


def _age(seconds: float) -> str:
    """Format a duration in a suitable unit.

    >>> _age(12.3), _age(300), _age(7200), _age(400_000)
    ('12 s', '5 min', '2 h', '5 days')
    """
    for unit, length_s, until_s in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < until_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def _bytes(number: float) -> str:
    """Format bytes in decimal units.

    >>> _bytes(0), _bytes(1_120_000_000)
    ('0.0 MB', '1.1 GB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e6:.1f} MB"
