"""Signals for tests and examples, as functions of time, so that delays are exact."""

import numpy as np
from numpy.typing import NDArray


def frequency_modulated_phase_rad(
    time_s: NDArray[np.float64], *, tone_hz: float, deviation_hz: float
) -> NDArray[np.float64]:
    """Phase of a carrier whose frequency a tone modulates by ``deviation_hz * cos(2 pi tone_hz t)``.

    The signal is ``exp(1j * phase)``; after a delay of tau seconds it is the same function of ``time_s - tau``.

    Parameters
    ----------
    time_s : ndarray of float64, any shape
        Instants, s.
    tone_hz : float
        Frequency of the tone, positive.
    deviation_hz : float
        Peak frequency deviation.

    Returns
    -------
    ndarray of float64, same shape
        Phase relative to the unmodulated carrier, rad, 0 at time 0.
    """
    return np.asarray(deviation_hz / tone_hz * np.sin(2 * np.pi * tone_hz * time_s))


def complex_noise(rng: np.random.Generator, shape: tuple[int, ...], power: float) -> NDArray[np.complex64]:
    """White, circular Gaussian noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    shape : tuple of int
        Shape of the result, at least one axis.
    power : float
        Mean squared magnitude.

    Returns
    -------
    ndarray of complex64
    """
    components = rng.standard_normal((*shape[:-1], 2 * shape[-1]), dtype=np.float32)
    components *= np.float32(np.sqrt(power / 2))
    return components.view(np.complex64)
