"""What pydantic finds wrong with a value, field by field; each caller puts it into its own words."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True)
class FieldProblem:
    """A field that is missing or has an invalid value.

    Attributes
    ----------
    location : tuple of str
        Names of the fields that contain it and its own; empty where several fields do not fit together.
    message : str
    value : object
        Not to be shown where it may be a secret.
    is_missing : bool
    """

    location: tuple[str, ...]
    message: str
    value: Any
    is_missing: bool

    @property
    def path(self) -> str:
        """Location with dots, as people write it."""
        return ".".join(self.location)


def field_problems(error: ValidationError) -> list[FieldProblem]:
    """List the problems of a validation."""
    return [
        FieldProblem(
            location=tuple(map(str, problem["loc"])),
            message=problem["msg"].removeprefix("Value error, "),
            value=problem["input"],
            is_missing=problem["type"] == "missing",
        )
        for problem in error.errors(include_url=False)
    ]
