"""What is compared is timed in turn, in many short rounds: other work on the machine then slows both sides alike."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

SMALL = bool(os.environ.get("HEIMDALL_BENCH_SMALL"))  # a run of seconds that shows that everything still works


@dataclass(frozen=True)
class Comparison:
    """Seconds that two things took in the same rounds.

    Attributes
    ----------
    seconds : tuple of float
        Of what was measured, one for each round.
    beside : tuple of float
        Of what it was compared with, in the same rounds.
    """

    seconds: tuple[float, ...]
    beside: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Ratio of the minima: each side as undisturbed as it was seen."""
        return min(self.seconds) / min(self.beside)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the rounds' ratios."""
        ratios = [seconds / beside for seconds, beside in zip(self.seconds, self.beside, strict=True)]
        if len(ratios) == 1:
            return ratios[0], ratios[0], ratios[0]
        lower, median, upper = statistics.quantiles(ratios, method="inclusive")
        return lower, median, upper

    def row(self, what: str, unit: str = "times") -> tuple[str, float, str]:
        """Row of a benchmark's table: the ratio of the minima, with the quartiles behind the unit."""
        quartiles = ", ".join(f"{quartile:.2f}" for quartile in self.quartiles)
        return what, self.ratio, f"{unit} (quartiles of {len(self.seconds)} rounds: {quartiles})"


def compare(measured: Callable[[], float], beside: Callable[[], float], num_rounds: int) -> Comparison:
    """Time two things in turn; which of them is first changes from round to round.

    Parameters
    ----------
    measured, beside : callable
        Do their work once and return the seconds that it took; `timed` makes such a function of any other.
    num_rounds : int
        Many short rounds are better than a few long ones.

    Examples
    --------
    >>> compare(timed(lambda: sorted(range(20))), timed(lambda: list(range(10))), 5).ratio > 0
    True
    """
    seconds: list[float] = []
    beside_seconds: list[float] = []
    for round_no in range(num_rounds):
        if round_no % 2:
            beside_seconds.append(beside())
            seconds.append(measured())
        else:
            seconds.append(measured())
            beside_seconds.append(beside())
    return Comparison(tuple(seconds), tuple(beside_seconds))


def timed(work: Callable[[], object], repetitions: int = 1, warm: int = 1) -> Callable[[], float]:
    """Make a function for `compare`: the mean seconds of some repetitions, after warm ones at its first call."""
    left_warm = warm

    def seconds() -> float:
        nonlocal left_warm
        while left_warm:
            work()
            left_warm -= 1
        begun = time.perf_counter()
        for _ in range(repetitions):
            work()
        return (time.perf_counter() - begun) / repetitions

    return seconds
