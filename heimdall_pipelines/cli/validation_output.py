"""What every validation prints, and the exit code that it ends with: 0 healthy, 1 issues, 2 it could not look."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from heimdall_pipelines.checks import CheckOutcome
from heimdall_pipelines.cli.console import errors, output, table
from heimdall_pipelines.errors import HeimdallError

EXIT_HEALTHY, EXIT_ISSUES, EXIT_COULD_NOT_LOOK = range(3)


def print_outcomes(outcomes: Sequence[CheckOutcome]) -> None:
    """Show what each check compared, then the problems of those that failed (20 at most) and what mends them."""
    rows = table("check", "result", "compared")
    for outcome in outcomes:
        problems = "1 problem" if outcome.num_problems == 1 else f"{outcome.num_problems} problems"
        result = "passed" if outcome.passed else f"failed ({outcome.severity}), {problems}"
        rows.add_row(outcome.name, result, ", ".join(f"{name} {number}" for name, number in outcome.numbers.items()))
    output.print(rows)
    for outcome in outcomes:
        if outcome.passed:
            continue
        _print(f"{outcome.name}:")
        for example in outcome.examples:
            _print(f"  - {example}")
        if outcome.num_problems > len(outcome.examples):
            _print(f"  and {outcome.num_problems - len(outcome.examples)} more")
        if outcome.mend:
            _print(f"  to mend: {outcome.mend}")


def print_json(document: Any) -> None:
    """Write one JSON document, and nothing else, to standard output."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def print_error(error: HeimdallError) -> None:
    """Write why something could not be looked at to standard error."""
    errors.print("[bold red]Error:[/] ", end="")
    errors.print(str(error), markup=False)


def exit_code(outcomes: Iterable[CheckOutcome]) -> int:
    """0 if every check passed, 1 if one did not, whatever its severity."""
    return EXIT_HEALTHY if all(outcome.passed for outcome in outcomes) else EXIT_ISSUES


@contextmanager
def exits_2_if_it_cannot_look() -> Iterator[None]:
    """Tell "could not look" from "something is wrong": an error ends the command with exit code 2.

    Raises
    ------
    typer.Exit
        After the message of a HeimdallError.
    """
    try:
        yield
    except HeimdallError as error:
        print_error(error)
        raise typer.Exit(EXIT_COULD_NOT_LOOK) from error


def _print(line: str) -> None:
    output.print(line, markup=False, soft_wrap=True)
