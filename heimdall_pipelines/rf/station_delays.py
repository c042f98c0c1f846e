"""Fixed delays of stations from time differences: of transmitters at known or unknown positions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from heimdall_pipelines.rf.positioning import (
    MIN_RECEIVERS,
    Arrivals,
    PositionError,
    Receiver,
    arrival_times,
    excess_delays,
    least_squares,
    locate,
)
from heimdall_pipelines.rf.tdoa import TimeDifference

_PRIOR_US = 1_000.0  # of a delay that the emissions do not determine
_ROUNDS = 3  # of locating the emissions at unknown positions with the delays found
_STEPS = 8  # of the robust weights
_STATED_DEGREES_OF_FREEDOM = 16  # that the stated standard deviations count for, as in rf/positioning.py
FALSE_ALARMS = 0.005  # of all stations together
_MIN_DIFFERENCE_US = 1.0
_LEAST_LEAD = 6.0  # in the sum of squared normalised residuals, over any other station
_SUSPICIOUS = 0.0005  # probability of the misfit, below which one station is looked for: echoes are not quite normal
_OTHERS_AGREE = 0.0001  # probability of the others' misfit, above which they agree
_GREATEST_UNEXPLAINED = 0.2  # share of the misfit that may be left when the station that explains it is left out


@dataclass(frozen=True)
class Emission:
    """A transmission as several stations received it.

    Attributes
    ----------
    receivers : tuple of Receiver
        The indices of the differences refer to them.
    differences : tuple of TimeDifference
    source : tuple of (float, float) or None
        Latitude and longitude of the transmitter; None if unknown.
    """

    receivers: tuple[Receiver, ...]
    differences: tuple[TimeDifference, ...]
    source: tuple[float, float] | None = None


@dataclass(frozen=True)
class DelayEstimate:
    """Delay of a station relative to the mean of all.

    Attributes
    ----------
    delay_us, std_us : float
    num_emissions : int
        In which the station was heard.
    is_different : bool
        Whether it differs from the others by more than chance and echoes explain.
    """

    delay_us: float
    std_us: float
    num_emissions: int
    is_different: bool


@dataclass(frozen=True)
class Misfit:
    """How well time differences agree with one position.

    Attributes
    ----------
    rms_us : float
        Residual of the arrival times with all stations.
    probability : float
        That what was stated of the stations gives such residuals.
    suspect : str or None
        The one station whose leaving out makes the others agree.
    suspect_us : float or None
        By how much it is later than the position of the others predicts.
    others_rms_us : float or None
        Residual of the others then.
    """

    rms_us: float
    probability: float
    suspect: str | None
    suspect_us: float | None
    others_rms_us: float | None


def corrected(
    receivers: Sequence[Receiver], differences: Sequence[TimeDifference], delays_us: Mapping[str, float]
) -> tuple[TimeDifference, ...]:
    """Subtract the delays of the stations from time differences.

    Parameters
    ----------
    receivers, differences
        As of `positioning.locate`.
    delays_us : mapping of str to float
        By rx_id; a station without one keeps its times.
    """
    delay = [delays_us.get(receiver.rx_id, 0.0) for receiver in receivers]
    return tuple(
        difference
        if difference.tdoa_us is None
        else replace(difference, tdoa_us=difference.tdoa_us - delay[difference.b] + delay[difference.a])
        for difference in differences
    )


def estimate_delays(emissions: Sequence[Emission], *, systematic_us: float) -> dict[str, DelayEstimate]:
    """Estimate the delays of stations from their time differences.

    Parameters
    ----------
    emissions : sequence of Emission
        Those at known positions determine the delays of their stations; of those at unknown positions three unknowns
        (position and instant) are lost, so that only emissions at several places, received by four stations or more,
        determine all.
    systematic_us : float
        Standard deviation of what the differences' own does not contain, such as echoes, at each receiver.

    Returns
    -------
    dict of str to DelayEstimate
        By rx_id. Their mean is 0: a delay that all stations share cannot be seen. ``std_us`` is about 1000 where the
        emissions do not determine a delay.

    Raises
    ------
    PositionError
        No emission has time differences of three receivers.

    Notes
    -----
    Weighted least squares over all emissions, of which the position and the instant are eliminated (a projection),
    with soft-L1 weights; emissions at unknown positions are located again with the delays found. A station is different
    where its delay relative to the median of the others exceeds the Student quantile for `FALSE_ALARMS`, and
    ``systematic_us``: the mean of a station's echoes is not its clock's.
    """
    names = sorted({receiver.rx_id for emission in emissions for receiver in emission.receivers})
    column = {rx_id: index for index, rx_id in enumerate(names)}
    delays_us = np.zeros(len(names))
    heard = np.zeros(len(names), int)
    covariance = np.eye(len(names))
    num_spare = 0
    for _ in range(_ROUNDS):
        systems = [
            system
            for emission in emissions
            if (system := _linear(emission, column, dict(zip(names, delays_us, strict=True)), systematic_us))
        ]
        if not systems:
            raise PositionError(f"no emission has time differences of at least {MIN_RECEIVERS} receivers")
        heard = np.sum([np.bincount(system.columns, minlength=len(names)) for system in systems], axis=0)
        correction_us, covariance, num_spare = _solve(systems, len(names), delays_us)
        delays_us = delays_us + correction_us
        if float(np.max(np.abs(correction_us))) < 1e-3 or all(emission.source for emission in emissions):
            break
    delays_us = delays_us - delays_us.mean()
    count = len(names)
    std_us = np.sqrt(np.diag(covariance))
    threshold = float(scipy.stats.t.isf(FALSE_ALARMS / count / 2, _STATED_DEGREES_OF_FREEDOM + max(num_spare, 0)))
    result = {}
    for index, rx_id in enumerate(names):
        of_others = np.full(count, -1 / max(count - 1, 1))
        of_others[index] = 1.0
        # The median, since one wrong station moves the mean of the others.
        apart_us = float(delays_us[index] - np.median(np.delete(delays_us, index))) if count > 1 else 0.0
        apart_std_us = math.sqrt(float(of_others @ covariance @ of_others))
        result[rx_id] = DelayEstimate(
            float(delays_us[index]),
            float(std_us[index]),
            int(heard[index]),
            abs(apart_us) > max(threshold * apart_std_us, _MIN_DIFFERENCE_US, systematic_us),
        )
    return result


def misfit(
    receivers: Sequence[Receiver],
    differences: Sequence[TimeDifference],
    std_us: Mapping[str, float],
) -> Misfit | None:
    """Say whether time differences agree with one position, and which station disagrees if one does.

    Parameters
    ----------
    receivers, differences
        As of `positioning.locate`.
    std_us : mapping of str to float
        What clocks and echoes allow at each station, standard deviation.

    Returns
    -------
    Misfit or None
        None for fewer than four receivers, of which any time differences agree with a position.

    Notes
    -----
    The position is solved anew without each station, by least squares. A station is named if the others agree without
    it, it explains four fifths of the misfit, and it explains clearly more than any other. With four receivers any
    three agree, so none is named.
    """
    arrivals, _ = arrival_times(receivers, differences, 0.0)
    if len(arrivals.receivers) <= MIN_RECEIVERS:
        return None
    stated_s = np.array([std_us.get(receiver.rx_id, 0.0) for receiver in arrivals.receivers]) * 1e-6
    arrivals = replace(arrivals, std_s=np.maximum(np.hypot(arrivals.std_s, stated_s), 1e-9))
    everything = _fitted(arrivals)
    num = len(arrivals.receivers)
    probability = float(scipy.stats.chi2.sf(everything.chi2, num - MIN_RECEIVERS))
    suspect = suspect_us = others_rms_us = None
    if num > MIN_RECEIVERS + 1 and probability < _SUSPICIOUS:
        without = [_fitted(_without(arrivals, index)) for index in range(num)]
        chi2 = np.array([fit.chi2 for fit in without])
        best, second = np.argsort(chi2)[:2]
        fit = without[int(best)]
        explains = chi2[best] <= _GREATEST_UNEXPLAINED * everything.chi2
        others_agree = scipy.stats.chi2.sf(chi2[best], num - 1 - MIN_RECEIVERS) > _OTHERS_AGREE
        is_alone = chi2[second] - chi2[best] > _LEAST_LEAD
        if explains and others_agree and is_alone:
            suspect = arrivals.receivers[int(best)].rx_id
            excess_s, _ = excess_delays(arrivals, fit.latitude, fit.longitude)
            others = np.delete(excess_s, int(best))
            suspect_us = float(excess_s[int(best)] - others.mean()) * 1e6
            others_rms_us = float(others.std()) * 1e6
    rms_us = float(np.sqrt(np.mean(everything.residuals_s**2))) * 1e6
    return Misfit(rms_us, probability, suspect, suspect_us, others_rms_us)


@dataclass(frozen=True, eq=False)
class _Fit:
    latitude: float
    longitude: float
    chi2: float
    residuals_s: NDArray[np.float64]


def _fitted(arrivals: Arrivals) -> _Fit:
    """Best position of a group of arrival times, and the sum of the squared normalised residuals."""
    lat, lon, residuals_s = least_squares(arrivals)
    return _Fit(lat, lon, float(np.sum((residuals_s / arrivals.std_s) ** 2)), residuals_s)


def _without(arrivals: Arrivals, index: int) -> Arrivals:
    kept = [receiver for number, receiver in enumerate(arrivals.receivers) if number != index]
    others = [np.delete(values, index) for values in (arrivals.times_s, arrivals.own_std_s, arrivals.std_s)]
    return Arrivals(kept, *others)


@dataclass(frozen=True, eq=False)
class _System:
    """One emission: excess delays of its stations, us, and the unknowns that are its own."""

    columns: NDArray[np.int64]
    excess_us: NDArray[np.float64]
    design: NDArray[np.float64]
    std_us: NDArray[np.float64]


def _linear(
    emission: Emission, column: Mapping[str, int], delays_us: Mapping[str, float], systematic_us: float
) -> _System | None:
    differences = corrected(emission.receivers, emission.differences, delays_us)
    try:
        if emission.source is None:
            fix = locate(emission.receivers, differences, systematic_us=systematic_us)
            place = fix.latitude, fix.longitude
        else:
            place = emission.source
        arrivals, _ = arrival_times(emission.receivers, differences, systematic_us * 1e-6)
    except PositionError:
        return None
    excess_s, design = excess_delays(arrivals, *place)
    own = design if emission.source is None else design[:, 2:]
    columns = np.array([column[receiver.rx_id] for receiver in arrivals.receivers])
    return _System(columns, excess_s * 1e6, own, arrivals.std_s * 1e6)


def _solve(
    systems: Sequence[_System], num: int, before_us: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Correction of the delays, us, their covariance, us^2, and the number of spare observations."""
    correction: NDArray[np.float64] = np.zeros(num)
    covariance = np.eye(num)
    spare = 0
    weights: list[NDArray[np.float64]] = [np.ones(system.excess_us.size) for system in systems]
    for _ in range(_STEPS):
        normal = np.eye(num) / _PRIOR_US**2
        right = -before_us / _PRIOR_US**2
        misfit_sum, spare = 0.0, -(num - 1)
        projections: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        for system, weight in zip(systems, weights, strict=True):
            each = weight / system.std_us**2
            weighted = system.design * each[:, None]
            inverse = np.asarray(np.linalg.pinv(system.design.T @ weighted, rcond=1e-12), np.float64)
            projection = np.diag(each) - weighted @ inverse @ weighted.T
            normal[np.ix_(system.columns, system.columns)] += projection
            np.add.at(right, system.columns, projection @ system.excess_us)
            projections.append((inverse, weighted))
        normal += np.full((num, num), 1.0 / num**2)  # their mean is 0: no emission says anything of it
        correction = np.asarray(np.linalg.solve(normal, right), np.float64)
        new_weights: list[NDArray[np.float64]] = []
        for system, (inverse, weighted), weight in zip(systems, projections, weights, strict=True):
            left = system.excess_us - correction[system.columns]
            left = np.asarray(left - system.design @ (inverse @ (weighted.T @ left)), np.float64)
            misfit_sum += float(np.sum(weight * (left / system.std_us) ** 2))
            spare += left.size - system.design.shape[1]
            new_weights.append(1 / np.sqrt(1 + (left / system.std_us) ** 2))
        known = _STATED_DEGREES_OF_FREEDOM
        variance = (known + misfit_sum) / (known + max(spare, 0))
        centre = np.eye(num) - 1.0 / num
        covariance = variance * centre @ np.linalg.inv(normal) @ centre.T
        weights = new_weights
    return correction, covariance, spare
