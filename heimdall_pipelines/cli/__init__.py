"""The command line `heimdall`: thin commands over the same code that Dagster runs.

A command's module is loaded when it is called, and loads in the command's body what only its work needs: help answers
at once (docs/architecture.md).
"""

import sys

import typer

from heimdall_pipelines.cli.console import errors, escape
from heimdall_pipelines.cli.lazy_commands import LazyGroup, Place
from heimdall_pipelines.errors import HeimdallError

_HERE = "heimdall_pipelines.cli"


class _Commands(LazyGroup):
    places = {  # noqa: RUF012
        "dev": Place(
            f"{_HERE}.dev", "dev", "Start the stack, the Dagster UI and its daemon on this machine, until Ctrl-C."
        ),
        "stop": Place(
            f"{_HERE}.dev", "stop", "End what a killed `heimdall dev` left running in this folder; data stay."
        ),
        "env": Place(
            f"{_HERE}.env",
            "env",
            'Print the environment in which `dg` and `dagster` work on the running stack: eval "$(heimdall env)".',
        ),
        "demo": Place(
            f"{_HERE}.demo",
            "demo",
            "Import a session, extract and check its features; record one from simulated receivers, and do the same.",
        ),
        "status": Place(
            f"{_HERE}.status",
            "status",
            "Show servers, runs, datasets, sessions, failing checks and storage; starts and changes nothing.",
        ),
        "metrics": Place(
            f"{_HERE}.metrics",
            "metrics",
            "Give the numbers of `heimdall status` to Prometheus: --textfile PATH or --serve [HOST:]PORT.",
        ),
        "worker": Place(
            f"{_HERE}.worker",
            "worker",
            "Execute runs until SIGTERM or Ctrl-C: those it has may end, it takes no more.",
        ),
        "db": Place(f"{_HERE}.database", "app", "The database's schema and the buckets."),
        "station": Place(f"{_HERE}.station", "app", "The receiver network."),
        "session": Place(f"{_HERE}.session", "app", "Recording sessions."),
        "dataset": Place(f"{_HERE}.dataset", "app", "Synthetic datasets: transmissions whose truth is known."),
        "alerts": Place(f"{_HERE}.alerts", "app", "Alerts of failed checks and runs."),
    }


app = typer.Typer(
    name="heimdall",
    cls=_Commands,
    help="Generates, stores and validates training data for locating radio transmitters.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)


@app.callback()
def _before_every_command() -> None:
    pass


def main() -> None:
    """Run the command line: an error meant for people becomes one message and exit code 1."""
    try:
        app()
    except HeimdallError as error:
        errors.print(f"[bold red]Error:[/] {escape(str(error))}", markup=True, highlight=False)
        sys.exit(1)
