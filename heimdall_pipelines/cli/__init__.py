"""The command line `heimdall`: thin commands over the same code that Dagster runs."""

import logging
import sys

import typer
from rich.markup import escape

from heimdall_pipelines.cli import (
    alerts,
    database,
    dataset,
    demo,
    dev,
    env,
    metrics,
    session,
    station,
    status,
    worker,
)
from heimdall_pipelines.cli.console import errors
from heimdall_pipelines.errors import HeimdallError

app = typer.Typer(
    name="heimdall",
    help="Makes, keeps and guards the data from which radio transmitters are located.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command("dev")(dev.dev)
app.command("stop")(dev.stop)
app.command("env")(env.env)
app.command("demo")(demo.demo)
app.command("status")(status.status)
app.command("metrics")(metrics.metrics)
app.command("worker")(worker.worker)
app.add_typer(database.app, name="db")
app.add_typer(station.app, name="station")
app.add_typer(session.app, name="session")
app.add_typer(dataset.app, name="dataset")
app.add_typer(alerts.app, name="alerts")


def main() -> None:
    """Run the command line: an error meant for people becomes one message and exit code 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except HeimdallError as error:
        errors.print(f"[bold red]Error:[/] {escape(str(error))}", markup=True, highlight=False)
        sys.exit(1)
