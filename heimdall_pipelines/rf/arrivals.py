"""Arrival times of a transmission at receivers, from the time differences of their pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.philox import compiled
from heimdall_pipelines.rf.tdoa import TimeDifference

MIN_RECEIVERS = 3
_LEAST_STD_US = 1e-3
_ROUNDS = 200  # of fitting the receivers' own variances
_LEAST_SHARE = 1e-3  # of a pair's variance that each of its receivers has
_LEAST_LEAD = 0.05  # of the first peak over the second: five deviations of the noise of 1 s of a 12.5 kHz channel
_DOUBTFUL = "its time differences may be those of the second peak of the correlation"


class PositionError(HeimdallError):
    """No position can be computed from these time differences."""


@dataclass(frozen=True)
class Receiver:
    """Position of a receiver, WGS84: degrees and m."""

    rx_id: str
    latitude: float
    longitude: float
    altitude_m: float = 0.0


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Arrival times of the receivers that are used, relative to an unknown instant.

    Attributes
    ----------
    receivers : list of Receiver
    times_s, own_std_s, std_s : ndarray of float64, shape (num_receivers,)
        Times, their standard deviation as measured, and the same with what is not measured.
    """

    receivers: list[Receiver]
    times_s: NDArray[np.float64]
    own_std_s: NDArray[np.float64]
    std_s: NDArray[np.float64]


def arrival_times(
    receivers: Sequence[Receiver], differences: Sequence[TimeDifference], systematic_s: float
) -> tuple[Arrivals, dict[str, str]]:
    """Arrival times of the largest group of receivers that time differences connect.

    Parameters
    ----------
    receivers, differences
        As of `locate`.
    systematic_s : float
        Standard deviation that is added to each receiver's.

    Returns
    -------
    arrivals : Arrivals
    left_out : dict of str to str
        The other receivers, with the reason.

    Raises
    ------
    PositionError
        Fewer than three receivers.

    Notes
    -----
    A difference whose correlation has a second peak almost as high as the first is wrong by the time between the two
    where noise decides. One such pair must not connect two groups of receivers: those are used that the others connect,
    unless they are fewer than three. The times are the weighted least squares of the differences. A pair's variance is
    the sum of its receivers' own unless both are weak, so that the own ones follow from all pairs, again by least
    squares.
    """
    known = [difference for difference in differences if difference.tdoa_us is not None]
    clear = [difference for difference in known if not _is_doubtful(difference)]
    used = _largest_group(len(receivers), clear)
    if len(used) >= MIN_RECEIVERS:
        known = clear
    else:
        used = _largest_group(len(receivers), known)
    left_out = {}
    for index, receiver in enumerate(receivers):
        if index not in used:
            own = [x for x in differences if index in (x.a, x.b)]
            reasons = {x.reason for x in own if x.reason is not None} | {_DOUBTFUL for x in own if _is_doubtful(x)}
            left_out[receiver.rx_id] = "; ".join(sorted(reasons)) or "no time difference with the others"
    if len(used) < MIN_RECEIVERS:
        said = "".join(f"; {rx_id}: {reason}" for rx_id, reason in left_out.items())
        raise PositionError(
            f"a position needs time differences of at least {MIN_RECEIVERS} receivers; {len(used) if known else 0} "
            f"have one{said}"
        )
    column = {index: position for position, index in enumerate(used)}
    inside = [x for x in known if x.a in column and x.b in column]
    design = np.zeros((len(inside) + 1, len(used)))
    target = np.zeros(len(inside) + 1)
    design[-1, :] = 1.0  # their sum is free
    pairs = np.empty((len(inside), 2), np.int64)
    variances = np.empty(len(inside))
    for row, difference in enumerate(inside):
        assert difference.tdoa_us is not None
        std_s = max(difference.std_us or 0.0, _LEAST_STD_US) * 1e-6
        design[row, column[difference.a]], design[row, column[difference.b]] = -1 / std_s, 1 / std_s
        target[row] = difference.tdoa_us * 1e-6 / std_s
        pairs[row] = column[difference.a], column[difference.b]
        variances[row] = std_s**2
    times_s = np.asarray(np.linalg.lstsq(design, target, rcond=None)[0], np.float64)
    own_s = np.sqrt(_own_variances(pairs, variances, len(used)))
    return Arrivals([receivers[index] for index in used], times_s, own_s, np.hypot(own_s, systematic_s)), left_out


def _is_doubtful(difference: TimeDifference) -> bool:
    """Whether noise may have decided between two peaks of the correlation."""
    return difference.ambiguity is not None and (1 - difference.ambiguity) * difference.peak < _LEAST_LEAD


def _largest_group(num: int, differences: Sequence[TimeDifference]) -> list[int]:
    """Receivers of the largest group that differences connect, ascending."""
    groups: dict[int, set[int]] = {index: {index} for index in range(num)}
    for difference in differences:
        merged = groups[difference.a] | groups[difference.b]
        for index in merged:
            groups[index] = merged
    largest: set[int] = max(groups.values(), key=len, default=set())
    return sorted(largest)


@compiled
def _own_variances(pairs: NDArray[np.int64], variances: NDArray[np.float64], num: int) -> NDArray[np.float64]:
    """Variance of each receiver such that the sums are those of the pairs: least squares of their relative errors."""
    own, least = np.full(num, np.inf), np.full(num, np.inf)
    for row in range(variances.size):
        for side in range(2):
            i = pairs[row, side]
            own[i] = min(own[i], 0.5 * variances[row])
            least[i] = min(least[i], _LEAST_SHARE * variances[row])
    for _ in range(_ROUNDS):
        for i in range(num):
            total, weight = 0.0, 0.0
            for row in range(variances.size):
                if pairs[row, 0] == i or pairs[row, 1] == i:
                    other = pairs[row, 1] if pairs[row, 0] == i else pairs[row, 0]
                    total += (variances[row] - own[other]) / variances[row] ** 2
                    weight += 1 / variances[row] ** 2
            if weight > 0:
                own[i] = max(total / weight, least[i])
    return own
