"""What is compared is timed in turn, in many short rounds: other work on the machine then slows both sides alike."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SMALL = bool(os.environ.get("HEIMDALL_BENCH_SMALL"))  # a run of seconds that shows that everything still works

NUM_ROUNDS = 5 if SMALL else 100


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


@dataclass(frozen=True)
class Rounds:
    """Durations of each of several calls in each round, s."""

    durations_s: Mapping[str, list[float]]

    def minimum_ms(self, name: str) -> float:
        """Least duration of a call: that of a round without other work."""
        return 1e3 * min(self.durations_s[name])

    def comparison(self, name: str, beside: str, factor: float = 1.0) -> Comparison:
        """Compare two of the calls; ``factor`` times the first."""
        return Comparison(
            tuple(factor * seconds for seconds in self.durations_s[name]), tuple(self.durations_s[beside])
        )


def in_turn(calls: Mapping[str, Callable[[], object]], num_rounds: int = NUM_ROUNDS) -> Rounds:
    """Time each of some calls once in a round, for so many rounds, after two that are not counted."""
    durations_s: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(num_rounds + 2):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if number >= 2:
                durations_s[name].append(time.perf_counter() - begun)
    return Rounds(durations_s)
