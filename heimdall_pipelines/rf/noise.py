"""The noise floor in a band that may also contain signals."""

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv

from heimdall_pipelines.rf.philox import compiled

_KEPT = 0.999  # share of pure noise bins below the threshold
_STARTING_SHARE = 0.1  # the lowest tenth of the bins is taken for noise


def noise_power(power: NDArray[np.floating], effective_averages: float) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Mean power of the bins that hold only noise, by forward consecutive mean excision (FCME).

    The bins are sorted; beginning with the lowest tenth, the next one is taken for noise as long as it is at most t
    times the mean of those before, t being what a noise bin exceeds once in a thousand times. The mean is then
    corrected for the excluded noise above the threshold.

    Parameters
    ----------
    power : ndarray of floats, shape (num_chunks, num_bins)
        Power of each averaged bin, any unit.
    effective_averages : float
        Independent periodogram bins averaged into each: noise follows a gamma distribution of this shape.

    Returns
    -------
    noise : ndarray of float64, shape (num_chunks,)
        Mean power of a noise bin, in the same unit.
    num_noise_bins : ndarray of int, shape (num_chunks,)
        Bins taken for noise.

    References
    ----------
    Henttu and Aromaa, "Consecutive mean excision algorithm", IEEE ISSSTA 2002; Vartiainen, Lehtomaki and Saarnisaari,
    "Double-threshold based narrowband signal extraction", VTC 2005.

    Examples
    --------
    Noise of power 1 in 800 bins, 60 of which hold a signal as well:

    >>> power = np.random.default_rng(1).gamma(40, 1 / 40, (1, 800))
    >>> power[0, 100:160] += 20
    >>> noise, num_noise_bins = noise_power(power, effective_averages=40)
    >>> noise.round(2), num_noise_bins
    (array([0.99]), array([739]))
    """
    threshold, truncated_mean = _threshold(effective_averages)
    ordered = np.sort(power, axis=1)
    num_noise_bins = np.empty(len(ordered), np.int_)
    mean = np.empty(len(ordered))
    _take_lowest(mean, num_noise_bins, ordered, max(1, round(_STARTING_SHARE * ordered.shape[1])), threshold)
    return mean / truncated_mean, num_noise_bins


@compiled
def _take_lowest(
    mean: NDArray[np.float64],
    count: NDArray[np.int_],
    ordered: NDArray[np.floating],
    start: int,
    threshold: float,
) -> None:
    """Accept the first bins of each chunk, then more until one exceeds the threshold times their mean."""
    for chunk in range(mean.size):
        total = 0.0
        taken = 0
        for power in ordered[chunk]:
            if taken >= start and power * taken > threshold * total:
                break
            total += power
            taken += 1
        mean[chunk] = total / taken
        count[chunk] = taken


@functools.lru_cache(maxsize=32)
def _threshold(effective_averages: float) -> tuple[float, float]:
    """Threshold over the mean of the noise bins below it, and that mean over the mean of all noise bins.

    The second is the solution m of ``m = P(K + 1, K t m) / P(K, K t m)``, P the regularised incomplete gamma function:
    the mean of a gamma distribution cut off at t m.
    """
    shape = effective_averages
    threshold = float(gammaincinv(shape, _KEPT) / shape)
    mean = 1.0
    for _ in range(20):  # each iteration gains more than an order of magnitude
        cut = shape * threshold * mean
        mean = float(gammainc(shape + 1, cut) / gammainc(shape, cut))
    return threshold, mean
