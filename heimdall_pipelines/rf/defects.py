"""Samples that no working receiver gives: constant, of one channel alone, the same in both, or clipped."""

import numpy as np
from numpy.typing import NDArray

CLIPPED_SHARE = 1e-3  # of the components: above it the level and the spectrum are falsified
_MIN_FLOAT_CLIPPED_SHARE = 1e-2


def defect_of(iq: NDArray[np.complex64]) -> str | None:
    """Say why samples hold no reception at all; None for all others, digital silence among them.

    Parameters
    ----------
    iq : ndarray of complex64, shape (num_samples,)
        At least two samples.

    Returns
    -------
    str or None
        For people to read.

    Examples
    --------
    >>> defect_of(np.full(1000, 3e-5 + 3e-5j, np.complex64))
    'all samples are the same number, 3e-05+3e-05j: the receiver masks this frequency or gave no signal'
    """
    if iq.size < 2 or not iq.any():
        return None
    real, imag = iq.real, iq.imag
    real_is_constant, imag_is_constant = bool(np.all(real == real[0])), bool(np.all(imag == imag[0]))
    if real_is_constant and imag_is_constant:
        return (
            f"all samples are the same number, {complex(iq[0]):.4g}: "
            "the receiver masks this frequency or gave no signal"
        )
    if real_is_constant or imag_is_constant:
        dead, value = ("I", real[0]) if real_is_constant else ("Q", imag[0])
        return f"{dead} is constant ({value:.4g}): one channel is dead, or these are real samples (audio), not IQ"
    for sign, name in ((1, "I = Q"), (-1, "I = -Q")):
        if np.array_equal(real, sign * imag):
            return f"{name} in every sample: both channels carry the same signal (audio or mono), not IQ"
    return None


def clipped_share(iq: NDArray[np.complex64], quantisation_step: float | None) -> float:
    """Share of the numbers (I and Q) that are at the edge of full scale.

    Parameters
    ----------
    iq : ndarray of complex64, shape (num_samples,)
        Samples.
    quantisation_step : float or None
        Step of the integers that the samples were scaled from, full scale being 1. None for floating point, whose full
        scale is unknown: numbers count as clipped where at least 1 % are exactly the greatest one.

    Examples
    --------
    >>> iq = np.clip(np.random.default_rng(1).standard_normal((1000, 2)), -1, 1).astype("f4").view("c8")[:, 0]
    >>> 0.3 < clipped_share(iq, None) < 0.34, clipped_share(0.5 * iq, 2**-15)
    (True, 0.0)
    """
    if iq.size == 0:
        return 0.0
    magnitude = np.abs(np.ascontiguousarray(iq).view(np.float32))
    peak = float(magnitude.max())
    if peak == 0.0:
        return 0.0
    edge = peak if quantisation_step is None else 1 - 1.5 * quantisation_step
    share = float(np.mean(magnitude >= np.float32(edge)))
    return share if quantisation_step is not None or share >= _MIN_FLOAT_CLIPPED_SHARE else 0.0
