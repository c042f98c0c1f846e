"""Exit codes of commands."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from heimdall_pipelines.cli.console import print_error
from heimdall_pipelines.errors import HeimdallError

# Of validations and of `heimdall status`.
EXIT_HEALTHY, EXIT_ISSUES, EXIT_NOT_POSSIBLE = range(3)
EXIT_INTERRUPTED = 130  # by Ctrl-C, as shells have it


@contextmanager
def exit_2_on_outage() -> Iterator[None]:
    """End the command with exit code 2 at an error, to distinguish it from failed checks.

    Raises
    ------
    typer.Exit
        After the message of a HeimdallError.
    """
    try:
        yield
    except HeimdallError as error:
        print_error(error)
        raise typer.Exit(EXIT_NOT_POSSIBLE) from error
