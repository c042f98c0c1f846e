"""What time differences of a row can be checked for without any truth: the same for datasets and sessions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.rf.feature_registry import TIME_DIFFERENCES_SINCE
from heimdall_pipelines.rf.segment_tdoa import largest_delays_s

_STDS = 8.0  # of a triangle's sum
# Below this correlation noise may take another peak: of 635,643 triangles over terrain 20, in 6 of 20,000 samples, were
# open by more than eight deviations, all of them with such a pair; with clear pairs only none by more than five.
_CLEAR_PEAK = 0.3


class ReceiverPlace(Protocol):
    """What of a receiver decides its time differences."""

    @property
    def rx_id(self) -> str:
        """Its name."""

    @property
    def rx_lat(self) -> float:
        """Degrees north."""

    @property
    def rx_lon(self) -> float:
        """Degrees east."""

    @property
    def rx_alt_m(self) -> float:
        """Height above sea level."""

    @property
    def signal_present(self) -> bool:
        """Whether it detected."""


def wrong_time_differences(
    found: Sequence[PairTimeDifference] | None, receivers: Sequence[ReceiverPlace], feature_version: int
) -> Iterator[str]:
    """Describe what is impossible in a row's time differences.

    Parameters
    ----------
    found : sequence of PairTimeDifference, optional
        As stored; None where the row has none.
    receivers : sequence of ReceiverPlace
        Of the row.
    feature_version : int
        Of the row.

    Yields
    ------
    str
        Such as ``genova-torino tdoa_us = 1e+09 is outside -560..560``.
    """
    if feature_version < TIME_DIFFERENCES_SINCE:
        if found is not None:
            yield f"has time_differences, which feature version {feature_version} does not have"
        return
    if found is None:
        yield "lacks time_differences"
        return
    detected = [receiver for receiver in receivers if receiver.signal_present]
    limits_us = 1e6 * largest_delays_s(
        [receiver.rx_lat for receiver in detected],
        [receiver.rx_lon for receiver in detected],
        [receiver.rx_alt_m for receiver in detected],
    )
    pairs = list(combinations(range(len(detected)), 2))
    limit_us = {(detected[a].rx_id, detected[b].rx_id): float(limits_us[a, b]) for a, b in pairs}
    yield from _malformed_pairs(found, limit_us)


def _malformed_pairs(
    found: Sequence[PairTimeDifference], max_delay_us: Mapping[tuple[str, str], float]
) -> Iterator[str]:
    if [(pair.rx_a, pair.rx_b) for pair in found] != list(max_delay_us):
        yield f"time_differences are of {len(found)} pairs, not the {len(max_delay_us)} of the receivers that detected"
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
    peak : float
        Least correlation of the three.
    """

    rx_ids: tuple[str, str, str]
    closure_us: float
    std_us: float
    peak: float


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
            yield Triangle((a, b, c), first + second - third, std_us, min(side.peak for side in sides))


def open_triangles(found: Sequence[PairTimeDifference], tolerance_us: float) -> Iterator[str]:
    """Describe the triangles of clear pairs whose sum is above a tolerance and eight times its standard deviation."""
    for triangle in triangles(found):
        if (what := what_is_open(triangle, tolerance_us)) is not None:
            yield what


def what_is_open(triangle: Triangle, tolerance_us: float) -> str | None:
    """Describe a triangle whose sum is above a tolerance and eight times its standard deviation; None of others.

    One with a correlation below 0.3 is not described: noise may have taken another peak for the first.
    """
    limit_us = tolerance_us + _STDS * triangle.std_us
    if abs(triangle.closure_us) <= limit_us or triangle.peak < _CLEAR_PEAK:
        return None
    around = " to ".join((*triangle.rx_ids, triangle.rx_ids[0]))
    return f"{around}: {triangle.closure_us:+.1f} us, limit {limit_us:.1f} us"
