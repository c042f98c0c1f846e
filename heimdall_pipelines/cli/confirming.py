"""Confirmation of deletions and of costly work."""

import sys

import typer

from heimdall_pipelines.errors import HeimdallError


class NotConfirmedError(HeimdallError):
    """A deletion or costly work could not be confirmed, because there is no terminal."""


def confirm_deletion(what: str, consequence: str) -> None:
    """Ask for confirmation of a deletion; any answer except yes ends the command.

    Raises
    ------
    NotConfirmedError
        There is no terminal.
    typer.Abort
        The answer is no.
    """
    if not sys.stdin.isatty():
        raise NotConfirmedError(
            f"{what} was not deleted: confirmation needs a terminal; to delete it without one, give --yes"
        )
    typer.confirm(f"Delete {what}? {consequence}", abort=True)


def confirm_cost(cost: str) -> None:
    """Ask whether work of some cost is meant; raises as `confirm_deletion`."""
    if not sys.stdin.isatty():
        raise NotConfirmedError(f"this means {cost}; to begin without a terminal, give --yes")
    typer.confirm(f"This means {cost}. Begin?", abort=True)
