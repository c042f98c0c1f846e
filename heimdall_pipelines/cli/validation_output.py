"""What every validation prints, and the exit code that it ends with: 0 healthy, 1 issues, 2 it could not look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from heimdall_pipelines.cli.console import errors, output, table
from heimdall_pipelines.errors import HeimdallError, UnavailableError

if TYPE_CHECKING:
    from heimdall_pipelines.checks import CheckOutcome

EXIT_HEALTHY, EXIT_ISSUES, EXIT_COULD_NOT_LOOK = range(3)


class Validation(Protocol):
    """What was found of a dataset or a session."""

    @property
    def outcomes(self) -> Sequence[CheckOutcome]:
        """Of every check."""
        ...

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        ...


_Subject = TypeVar("_Subject")
_Found = TypeVar("_Found", bound=Validation)


def validate_one_by_one(
    subjects: Iterable[_Subject],
    validate: Callable[[_Subject], _Found],
    summary: Callable[[_Found], str],
    *,
    what: str,
    names: Callable[[_Subject], dict[str, str]],
    as_json: bool,
) -> int:
    """Validate one after the other and show what was found, in full where something was; gives the exit code.

    One that cannot be looked at, such as one that is deleted meanwhile, does not stop the others.

    Parameters
    ----------
    subjects : iterable
        What is validated.
    validate : callable
        Gives what was found of one.
    summary : callable
        Says it in a line.
    what : str
        What is validated, in words.
    names : callable
        Gives how one is called in JSON.
    as_json : bool
        Show one JSON document at the end, instead of lines and tables.

    Raises
    ------
    UnavailableError
        A server is away, so nothing further can be looked at.
    """
    code = EXIT_HEALTHY
    documents: list[dict[str, Any]] = []
    for subject in subjects:
        try:
            found = validate(subject)
        except UnavailableError:
            raise
        except HeimdallError as error:
            print_error(error)
            documents.append(names(subject) | {"error": str(error)})
            code = EXIT_COULD_NOT_LOOK
            continue
        its_code = exit_code(found.outcomes)
        code = max(code, its_code)
        documents.append(found.to_json())
        if not as_json:
            print_line(summary(found))
            if its_code != EXIT_HEALTHY:
                print_outcomes(found.outcomes)
    if as_json:
        print_json(documents)
    elif not documents:
        output.print(f"there is no {what} to validate")
    return code


def print_outcomes(outcomes: Sequence[CheckOutcome]) -> None:
    """Show what each check compared, then the problems of those that failed (20 at most) and what repairs them."""
    rows = table("check", "result", "compared")
    for outcome in outcomes:
        problems = "1 problem" if outcome.num_problems == 1 else f"{outcome.num_problems} problems"
        result = "passed" if outcome.passed else f"failed ({outcome.severity}), {problems}"
        rows.add_row(outcome.name, result, ", ".join(f"{name} {number}" for name, number in outcome.numbers.items()))
    output.print(rows)
    for outcome in outcomes:
        if outcome.passed:
            continue
        print_line(f"{outcome.name}:")
        for example in outcome.examples:
            print_line(f"  - {example}")
        if outcome.num_problems > len(outcome.examples):
            print_line(f"  and {outcome.num_problems - len(outcome.examples)} more")
        if outcome.repair:
            print_line(f"  to repair: {outcome.repair}")


def print_json(document: Any) -> None:
    """Write one JSON document, and nothing else, to standard output."""
    import json

    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def print_error(error: HeimdallError) -> None:
    """Write why something could not be looked at to standard error."""
    errors.print("[bold red]Error:[/] ", end="")
    errors.print(str(error), markup=False)


def exit_code(outcomes: Iterable[CheckOutcome]) -> int:
    """0 if every check passed, 1 if one did not, whatever its severity."""
    return EXIT_HEALTHY if all(outcome.passed for outcome in outcomes) else EXIT_ISSUES


@contextmanager
def exit_2_on_outage() -> Iterator[None]:
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


def print_line(line: str) -> None:
    """Show a line as it is, however long."""
    output.print(line, markup=False, soft_wrap=True)
