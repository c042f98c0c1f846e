"""Outcome of a check: what was compared, and the problems. Detection only; repairs are in datasets/repair.py."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["WARN", "ERROR"]
HealthStatus = Literal["healthy", "warning", "critical"]

MAX_EXAMPLES = 20
CRITICAL_SHARE = 0.05  # of the samples or segments affected, from which health is critical


@dataclass
class CheckOutcome:
    """Result of one check.

    Attributes
    ----------
    name : str
    severity : {"WARN", "ERROR"}
        Of a failure.
    numbers : dict of str to int
        What was counted and compared.
    num_problems : int
        What disagrees; 0 is a passed check.
    examples : list of str
        The first 20 problems in words, each naming its key.
    repair : str
        Command that would repair it.
    note : str
        What limits the result, whether it passed or failed.
    """

    name: str
    severity: Severity
    numbers: dict[str, int] = field(default_factory=dict)
    num_problems: int = 0
    examples: list[str] = field(default_factory=list)
    repair: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing disagrees."""
        return self.num_problems == 0

    def count(self, number: str, by: int = 1) -> None:
        """Add to one of the compared numbers."""
        self.numbers[number] = self.numbers.get(number, 0) + by

    def problem(self, example: str) -> None:
        """Add a problem; the first 20 are kept as examples."""
        self.problems(1, [example])

    def problems(self, number: int, examples: Iterable[str]) -> None:
        """Add several at once, of which only some have an example."""
        self.num_problems += number
        for example in examples:
            if len(self.examples) < MAX_EXAMPLES:
                self.examples.append(example)

    def merge(self, later: "CheckOutcome") -> None:
        """Add what the same check counted and found afterwards."""
        for number, by in later.numbers.items():
            self.count(number, by)
        self.problems(later.num_problems, later.examples)

    def to_json(self) -> dict[str, Any]:
        """As ``validation_issues`` and ``--json`` have it."""
        return {"check": self.name, "passed": self.passed} | {
            name: value for name, value in vars(self).items() if name != "name"
        }


def health_status(outcomes: Iterable[CheckOutcome], *, num_affected: int, num_all: int) -> HealthStatus:
    """Sum up: healthy if nothing disagrees, critical from 5 % of samples or segments affected, else warning.

    Parameters
    ----------
    outcomes : iterable of CheckOutcome
    num_affected : int
        Samples or segments with a problem, each counted once.
    num_all : int
        How many there are or should be; where there should be none, any problem is critical.
    """
    if all(outcome.passed for outcome in outcomes):
        return "healthy"
    return "critical" if num_affected >= CRITICAL_SHARE * num_all else "warning"
