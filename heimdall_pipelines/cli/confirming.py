"""Confirmation of deletions, of requests that cost much, and of costly work."""

import sys

import typer

from heimdall_pipelines.errors import HeimdallError


class NotConfirmedError(HeimdallError):
    """A question could not be asked, because there is no terminal."""


def confirm_deletion(what: str, consequence: str) -> None:
    """Ask for confirmation of a deletion; any answer except yes ends the command.

    Raises
    ------
    NotConfirmedError
        There is no terminal.
    typer.Abort
        The answer is no.
    """
    _confirm(
        f"Delete {what}? {consequence}",
        f"{what} was not deleted: confirmation needs a terminal; to delete it without one, give --yes",
    )


def confirm_growth(what: str, cost: str) -> None:
    """Ask for confirmation of a large expansion, showing its cost; raises as `confirm_deletion`."""
    _confirm(
        f"{what}: {cost}. Expand it?",
        f"{what} was not expanded: {cost}. Confirmation needs a terminal; to expand it without one, give --yes",
    )


def _confirm(question: str, refusal: str) -> None:
    if not sys.stdin.isatty():
        raise NotConfirmedError(refusal)
    typer.confirm(question, abort=True)


def confirm_cost(cost: str) -> None:
    """Ask whether work of some cost is meant; raises as `confirm_deletion`."""
    _confirm(f"This means {cost}. Begin?", f"this means {cost}; to begin without a terminal, give --yes")
