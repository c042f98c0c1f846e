"""What pydantic finds wrong with a value, field by field; each caller puts it into its own words."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True)
class FieldProblem:
    """A field that is missing or has an invalid value.

    Attributes
    ----------
    path : str
        Names of the field and of those that contain it, with dots; empty where several fields do not fit together.
    message : str
    value : object
        Not to be shown where it may be a secret.
    is_missing : bool
    """

    path: str
    message: str
    value: Any
    is_missing: bool


def field_problems(error: ValidationError) -> list[FieldProblem]:
    """List the problems of a validation."""
    return [
        FieldProblem(
            path=".".join(map(str, problem["loc"])),
            message=problem["msg"].removeprefix("Value error, "),
            value=problem["input"],
            is_missing=problem["type"] == "missing",
        )
        for problem in error.errors(include_url=False)
    ]
