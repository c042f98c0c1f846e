"""Time differences between the receivers of a row: elements of the column time_differences, also as JSON.

Loads no numerical module: the store reads these rows for commands that compute nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from heimdall_pipelines.model.json_numbers import is_number

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


def _is_element(element: Any) -> bool:
    if not isinstance(element, dict) or not element.keys() >= _KEYS:
        return False
    return (
        isinstance(element["rx_a"], str)
        and isinstance(element["rx_b"], str)
        and is_number(element["peak"])
        and all(element[name] is None or is_number(element[name]) for name in ("tdoa_us", "std_us", "ambiguity"))
        and isinstance(element.get("reason"), str | None)
    )
