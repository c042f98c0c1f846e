"""Power over time and frequency, small enough for a picture."""

import numpy as np
import scipy.fft
from numpy.typing import NDArray

_AVERAGES = 8


def spectrogram_dbm_per_hz(
    iq: NDArray[np.complex64], *, sample_rate_hz: float, full_scale_dbm: float, num_times: int, num_bins: int = 128
) -> NDArray[np.float32]:
    """Averaged periodograms (Welch, 1967) of successive stretches of a signal.

    Parameters
    ----------
    iq : ndarray of complex64, shape (num_samples,)
        At least ``num_times * num_bins`` samples.
    sample_rate_hz : float
        Sample rate, Hz.
    full_scale_dbm : float
        Power of ``abs(x) = 1``, dBm.
    num_times : int
        Stretches of equal length.
    num_bins : int, optional
        Frequencies from ``-sample_rate_hz / 2`` upwards.

    Returns
    -------
    ndarray of float32, shape (num_times, num_bins)
        Power density, dBm/Hz; minus infinity where the samples are zero.

    Examples
    --------
    >>> noise = np.random.default_rng(1).standard_normal((40_000, 2)).view(np.complex128)[:, 0] / np.sqrt(2)
    >>> density = spectrogram_dbm_per_hz(noise.astype(np.complex64), sample_rate_hz=1e6, full_scale_dbm=0, num_times=10)
    >>> density.shape, round(float(10 * np.log10(np.mean(10 ** (density / 10)))))
    ((10, 128), -60)
    """
    window = np.hanning(num_bins + 1)[:-1].astype(np.float32)
    stretch = iq.size // num_times
    averages = max(1, min(_AVERAGES, stretch // num_bins))
    offsets = np.arange(num_times)[:, None] * stretch + np.linspace(0, stretch - num_bins, averages).astype(int)
    pieces = iq[offsets[:, :, None] + np.arange(num_bins)] * window
    spectrum = scipy.fft.fftshift(scipy.fft.fft(pieces, axis=-1), axes=-1)
    power = np.mean(np.abs(spectrum).astype(np.float64) ** 2, axis=1) / (sample_rate_hz * np.sum(window**2))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(power) + full_scale_dbm, dtype=np.float32)
