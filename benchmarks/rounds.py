"""Times what is compared in turn, in many short rounds: other work on the machine then slows all of a round alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

NUM_ROUNDS = 100


@dataclass(frozen=True)
class Rounds:
    """Durations of each call in each round, s."""

    durations_s: Mapping[str, list[float]]

    def minimum_ms(self, name: str) -> float:
        """Least duration of a call: that of a round without other work."""
        return 1e3 * min(self.durations_s[name])

    def ratio(self, name: str, over: str, factor: float = 1.0) -> tuple[float, float, float]:
        """Ratio of the least durations, and the quartiles of the rounds' ratios; ``factor`` times the one."""
        ratios = [
            factor * one / other for one, other in zip(self.durations_s[name], self.durations_s[over], strict=True)
        ]
        lower, _, upper = statistics.quantiles(ratios, n=4)
        return factor * min(self.durations_s[name]) / min(self.durations_s[over]), lower, upper


def in_turn(calls: Mapping[str, Callable[[], object]], num_rounds: int = NUM_ROUNDS) -> Rounds:
    """Time each of some calls once in a round, for so many rounds, after two that are not counted."""
    durations_s: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(num_rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= 2:
                durations_s[name].append(time.perf_counter() - start)
    return Rounds(durations_s)


def ratio_rows(
    what: str, rounds: Rounds, name: str, over: str, unit: str, factor: float = 1.0
) -> list[tuple[str, float, str]]:
    """Rows of a ratio: of the minima, and the quartiles of the rounds' ratios."""
    of_minima, lower, upper = rounds.ratio(name, over, factor)
    return [
        (what, of_minima, f"{unit}, of the minima"),
        (what, lower, f"{unit}, lower quartile of the rounds"),
        (what, upper, f"{unit}, upper quartile of the rounds"),
    ]
