"""The command line `heimdall`: thin commands over the same code that Dagster runs.

A command's module is loaded when the command is called, and its imports are in the command's body, so that help is fast
(docs/architecture.md).
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
            f"{_HERE}.dev",
            "stop",
            "End processes that a killed `heimdall dev` left running in this folder; data are kept.",
        ),
        "env": Place(
            f"{_HERE}.env",
            "env",
            'Print the variables for `dg` and `dagster` to use the running servers: eval "$(heimdall env)".',
        ),
        "demo": Place(
            f"{_HERE}.demo",
            "demo",
            "Demonstrate everything: import and record sessions, check features, generate and repair a dataset.",
        ),
        "status": Place(
            f"{_HERE}.status",
            "status",
            "Show servers, runs, datasets, sessions, failing checks and storage; changes nothing.",
        ),
        "metrics": Place(
            f"{_HERE}.metrics",
            "metrics",
            "Export the numbers of `heimdall status` to Prometheus: --textfile PATH or --serve [HOST:]PORT.",
        ),
        "worker": Place(
            f"{_HERE}.worker",
            "worker",
            "Execute runs until SIGTERM or Ctrl-C, which lets running runs end.",
        ),
        "db": Place(f"{_HERE}.database", "app", "The database's schema and the buckets."),
        "terrain": Place(f"{_HERE}.terrain", "app", "Terrain: heights of the ground that scenes stand on."),
        "station": Place(f"{_HERE}.station", "app", "The receiver network."),
        "session": Place(f"{_HERE}.session", "app", "Recording sessions."),
        "dataset": Place(f"{_HERE}.dataset", "app", "Synthetic datasets: simulated transmissions with known truth."),
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
    """Run the command line: a HeimdallError becomes one message and exit code 1."""
    try:
        app()
    except HeimdallError as error:
        errors.print(f"[bold red]Error:[/] {escape(str(error))}", markup=True, highlight=False)
        sys.exit(1)
