"""Output and exit code of every validation: 0 healthy, 1 issues, 2 validation was not possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import typer

from heimdall_pipelines.cli.console import output, print_error, table
from heimdall_pipelines.cli.exits import EXIT_HEALTHY, EXIT_ISSUES, EXIT_NOT_POSSIBLE
from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.model.checks import CheckOutcome


class Validation(Protocol):
    """The validation of a dataset or a session."""

    @property
    def outcomes(self) -> Sequence[CheckOutcome]:
        """Outcomes of all checks."""
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
    """Validate in sequence and print a summary each, with all checks if there are issues; returns the exit code.

    A subject that cannot be validated, such as one deleted in the meantime, does not stop the others.

    Parameters
    ----------
    subjects : iterable
        Datasets or sessions.
    validate : callable
        Returns the validation of a subject.
    summary : callable
        Returns its summary line.
    what : str
        Kind of the subjects, for messages.
    names : callable
        Returns the names of a subject in JSON.
    as_json : bool
        Print one JSON document at the end, instead of lines and tables.

    Raises
    ------
    UnavailableError
        A server is down, so no further subject can be validated.
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
            code = EXIT_NOT_POSSIBLE
            continue
        its_code = exit_code(found.outcomes)
        code = max(code, its_code)
        documents.append(found.to_json())
        if not as_json:
            output.print(summary(found))
            if its_code != EXIT_HEALTHY:
                print_outcomes(found.outcomes)
    if as_json:
        print_json(documents)
    elif not documents:
        output.print(f"no {what} to validate")
    return code


def print_outcomes(outcomes: Sequence[CheckOutcome]) -> None:
    """Print what each check compared, then problems of failed checks (at most 20) and the repair command."""
    rows = table("check", "result", "compared")
    for outcome in outcomes:
        problems = "1 problem" if outcome.num_problems == 1 else f"{outcome.num_problems} problems"
        result = "passed" if outcome.passed else f"failed ({outcome.severity}), {problems}"
        rows.add_row(outcome.name, result, ", ".join(f"{name} {number}" for name, number in outcome.numbers.items()))
    output.print(rows)
    for outcome in outcomes:
        if outcome.note:
            output.print(f"{outcome.name}: {outcome.note}")
        if outcome.passed:
            continue
        output.print(f"{outcome.name}:")
        for example in outcome.examples:
            output.print(f"  - {example}")
        if outcome.num_problems > len(outcome.examples):
            output.print(f"  and {outcome.num_problems - len(outcome.examples)} more")
        if outcome.repair:
            output.print(f"  to repair: {outcome.repair}")


def print_json(document: Any) -> None:
    """Write one JSON document to standard output."""
    import json

    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def exit_code(outcomes: Iterable[CheckOutcome]) -> int:
    """Return 0 if every check passed, 1 if any failed, of any severity."""
    return EXIT_HEALTHY if all(outcome.passed for outcome in outcomes) else EXIT_ISSUES
