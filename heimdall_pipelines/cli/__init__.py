"""The command line `heimdall`: thin commands over the same code that Dagster runs.

A command's module is loaded when the command is called, and its imports are in the command's body, so that help is fast
(docs/architecture.md).
"""

import errno
import io
import sys

import typer

from heimdall_pipelines.cli.console import print_error
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
            "Demonstrate everything: import, locate and record sessions; generate and repair a dataset.",
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
        "db": Place(f"{_HERE}.database", "app", "The database's schema, the buckets, and edits made by hand."),
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


# Reasons of the system that have nothing to do with the program; others are defects, and keep their traceback.
_OF_THE_FILE_SYSTEM = {
    errno.EACCES: "access is denied",
    errno.EPERM: "it is not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no room is left on the device",
    errno.EDQUOT: "the disk quota is exhausted",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.ENAMETOOLONG: "the name is too long",
}


def main() -> None:
    """Run the command line: a HeimdallError, and a file that cannot be used, become one message and exit code 1."""
    _print_in_every_encoding()
    try:
        app()
    except HeimdallError as error:
        print_error(error)
        sys.exit(1)
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_FILE_SYSTEM:
            raise
        print_error(f"{error.filename}: {_OF_THE_FILE_SYSTEM[error.errno]}")
        sys.exit(1)


def _print_in_every_encoding() -> None:
    r"""Write characters that the output's encoding lacks as \x.. instead of failing, such as with LANG=C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in tests, which replace it
            stream.reconfigure(errors="backslashreplace")
