"""Time differences between the receivers of a row: elements of the column time_differences, also as JSON.

Loads no numerical module: the store reads these rows for commands that compute nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from heimdall_pipelines.rf.tdoa import TimeDifference

_DECIMALS_US = 3  # 1 ns: a third of the least standard deviation seen
_SIGNIFICANT_DIGITS = 3  # of a standard deviation
_DECIMALS = 3  # of shares
_KEYS = frozenset({"rx_a", "rx_b", "tdoa_us", "std_us", "peak", "ambiguity"})


@dataclass(frozen=True)
class PairTimeDifference:
    """Time difference of a pair of receivers that both detected.

    Attributes
    ----------
    rx_a, rx_b : str
    tdoa_us : float or None
        Time of arrival at b less that at a, by the receivers' clocks; None where it cannot be said, see ``reason``.
    std_us : float or None
        Standard deviation by noise and fading; echoes delay by more. None with ``tdoa_us``.
    peak : float
        Normalised correlation, 0 to 1.
    ambiguity : float or None
        Second peak of the correlation over the first; None where nothing was correlated.
    reason : str or None
        Why ``tdoa_us`` is None.
    """

    rx_a: str
    rx_b: str
    tdoa_us: float | None
    std_us: float | None
    peak: float
    ambiguity: float | None
    reason: str | None = None

    @classmethod
    def of(cls, rx_ids: Sequence[str], found: "TimeDifference") -> Self:
        """A measured time difference, rounded to what it is stored with: at this place alone."""
        return cls(
            rx_ids[found.a],
            rx_ids[found.b],
            None if found.tdoa_us is None else round(found.tdoa_us, _DECIMALS_US) + 0.0,
            None
            if found.std_us is None
            else max(float(f"{found.std_us:.{_SIGNIFICANT_DIGITS}g}"), 10.0**-_DECIMALS_US),
            round(found.peak, _DECIMALS) + 0.0,
            None if found.ambiguity is None else round(found.ambiguity, _DECIMALS) + 0.0,
            found.reason,
        )

    @classmethod
    def unknown(cls, rx_a: str, rx_b: str, reason: str) -> Self:
        """A pair that nothing was correlated for."""
        return cls(rx_a, rx_b, None, None, 0.0, None, reason)

    def to_json(self) -> dict[str, Any]:
        """As the column holds it; the reason only where there is one."""
        values = dict(vars(self))
        if self.reason is None:
            del values["reason"]
        return values

    @classmethod
    def from_json(cls, element: Mapping[str, Any]) -> Self:
        """Read an element that `are_time_differences` accepts; names that this version does not know are left out."""
        return cls(**{name: element[name] for name in _KEYS}, reason=element.get("reason"))


def are_time_differences(elements: Any) -> bool:
    """Whether what a column time_differences holds can be read; None can: the row is of an older feature version."""
    return elements is None or (isinstance(elements, list) and all(map(_is_element, elements)))


def read_time_differences(elements: Any) -> tuple[PairTimeDifference, ...] | None:
    """Read what `are_time_differences` accepts; None where the row has none.

    >>> read_time_differences([{"rx_a": "x", "rx_b": "y", "tdoa_us": 1.5, "std_us": 0.1, "peak": 0.9, "ambiguity": 0}])
    (PairTimeDifference(rx_a='x', rx_b='y', tdoa_us=1.5, std_us=0.1, peak=0.9, ambiguity=0, reason=None),)
    """
    return None if elements is None else tuple(map(PairTimeDifference.from_json, elements))


def malformed_pairs(
    found: Sequence[PairTimeDifference], detected: Sequence[str], max_delay_us: Mapping[tuple[str, str], float]
) -> Iterator[str]:
    """Describe pairs that are not those of the receivers that detected, and numbers that are impossible.

    Parameters
    ----------
    found : sequence of PairTimeDifference
    detected : sequence of str
        Receivers with a signal present, in the order of the row.
    max_delay_us : mapping of (str, str) to float
        Largest time difference of each pair that geometry and clocks allow.

    Yields
    ------
    str
        Such as ``genova-torino tdoa_us = 1e+09 is outside -560..560``.
    """
    expected = list(combinations(detected, 2))
    if [(pair.rx_a, pair.rx_b) for pair in found] != expected:
        yield f"time_differences are of {len(found)} pairs, not the {len(expected)} of the receivers that detected"
        return
    for pair in found:
        name = f"{pair.rx_a}-{pair.rx_b}"
        if not 0 <= pair.peak <= 1:
            yield f"{name} peak = {pair.peak} is outside 0..1"
        if pair.ambiguity is not None and not 0 <= pair.ambiguity <= 1:
            yield f"{name} ambiguity = {pair.ambiguity} is outside 0..1"
        if pair.tdoa_us is None:
            if pair.std_us is not None or not pair.reason:
                yield f"{name} has no tdoa_us and no reason, or a std_us without it"
            continue
        if pair.reason is not None:
            yield f"{name} has a tdoa_us and a reason against it"
        limit_us = max_delay_us[pair.rx_a, pair.rx_b]
        if not abs(pair.tdoa_us) <= limit_us:
            yield f"{name} tdoa_us = {pair.tdoa_us} is outside -{limit_us:.0f}..{limit_us:.0f}"
        if pair.std_us is None or not (pair.std_us > 0 and math.isfinite(pair.std_us)):
            yield f"{name} std_us = {pair.std_us} is not positive"


@dataclass(frozen=True)
class Triangle:
    """Time differences around three receivers: their sum is 0 but for errors, whatever the clocks do.

    Attributes
    ----------
    rx_ids : tuple of str
    closure_us : float
    std_us : float
        Of the sum, if the three were independent.
    """

    rx_ids: tuple[str, str, str]
    closure_us: float
    std_us: float


def triangles(found: Sequence[PairTimeDifference]) -> Iterator[Triangle]:
    """Every three receivers of which all time differences are known."""
    known = {(pair.rx_a, pair.rx_b): pair for pair in found if pair.tdoa_us is not None}
    rx_ids = list(dict.fromkeys(rx_id for pair in known for rx_id in pair))
    order = {rx_id: number for number, rx_id in enumerate(dict.fromkeys(x for p in found for x in (p.rx_a, p.rx_b)))}
    for a, b, c in combinations(sorted(rx_ids, key=order.__getitem__), 3):
        if (a, b) in known and (b, c) in known and (a, c) in known:
            sides = known[a, b], known[b, c], known[a, c]
            first, second, third = (side.tdoa_us or 0.0 for side in sides)
            std_us = math.sqrt(sum((side.std_us or 0.0) ** 2 for side in sides))
            yield Triangle((a, b, c), first + second - third, std_us)


def _is_element(element: Any) -> bool:
    if not isinstance(element, dict) or not element.keys() >= _KEYS:
        return False
    return (
        isinstance(element["rx_a"], str)
        and isinstance(element["rx_b"], str)
        and _is_number(element["peak"])
        and all(element[name] is None or _is_number(element[name]) for name in ("tdoa_us", "std_us", "ambiguity"))
        and isinstance(element.get("reason"), str | None)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
