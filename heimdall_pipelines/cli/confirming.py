"""Asks before something is deleted."""

import sys

import typer

from heimdall_pipelines.errors import HeimdallError


class NotConfirmedError(HeimdallError):
    """A deletion that nobody can be asked about."""


def confirm_deletion(what: str, consequence: str) -> None:
    """Ask whether to delete something; anything but yes ends the command.

    Raises
    ------
    NotConfirmedError
        There is no terminal to ask on.
    typer.Abort
        The answer is no.
    """
    if not sys.stdin.isatty():
        raise NotConfirmedError(f"{what} was not deleted: nobody can be asked here; to delete it, give --yes")
    typer.confirm(f"Delete {what}? {consequence}", abort=True)
