"""From IQ chunks to spectra, power per frequency bin and the channel's own signal; nothing is estimated or judged here.

All chunks of a segment go through one plan: a Tukey-windowed Fourier transform, in which bin k holds the
frequency ``k * bin_hz``, scaled so that the window's flat part keeps the amplitude of the samples.
"""

import functools
import math
from dataclasses import dataclass

import ducc0
import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import tukey

WINDOW_TAPER = 0.05  # share of the chunk in which the Tukey window rises and falls
GROUP_BANDWIDTH_HZ = 200.0  # resolution in which the noise floor is looked for
USABLE_BAND = 0.8  # share of the sample rate that the receiver's filters leave flat: abs(f) < 0.4 fs
OVERSAMPLING = 2.0  # rate of the channel's signal over the channel's bandwidth


@dataclass(frozen=True, eq=False)
class SpectrumPlan:
    """Everything about the spectra of one shape of chunk that does not depend on the samples.

    Attributes
    ----------
    num_samples : int
        Samples per chunk.
    bin_hz : float
        Distance of the bins, the inverse of the chunk's duration.
    window : ndarray of float32, shape (num_samples,)
        Tukey window divided by ``num_samples``.
    power_gain : float
        What ``abs(spectrum)**2`` is multiplied with to make it power: 1 over the window's mean square.
    bins_per_group : int
        Bins that are averaged to look for the noise floor, together about 200 Hz.
    groups_per_side : int
        Groups between 0 and the upper end of the usable band, and as many below 0.
    effective_averages : float
        Independent bins that an averaged group is worth; neighbours are slightly correlated by the window.
    half_channel_bins : int
        The channel is the bins from ``-half_channel_bins`` to ``half_channel_bins``.
    channel_frequencies_hz : ndarray of float64, shape (2 * half_channel_bins + 1,)
        Frequencies of the channel's bins, ascending.
    num_baseband : int
        Samples of the channel's signal over the whole chunk.
    num_trimmed : int
        Of these, how many at each end lie under the window's taper.
    """

    num_samples: int
    bin_hz: float
    window: NDArray[np.float32]
    power_gain: float
    bins_per_group: int
    groups_per_side: int
    effective_averages: float
    half_channel_bins: int
    channel_frequencies_hz: NDArray[np.float64]
    num_baseband: int
    num_trimmed: int

    @property
    def group_bandwidth_hz(self) -> float:
        """Bandwidth of a group, about 200 Hz."""
        return self.bins_per_group * self.bin_hz

    @property
    def num_channel_bins(self) -> int:
        """Bins in the channel."""
        return 2 * self.half_channel_bins + 1

    @property
    def channel_bandwidth_hz(self) -> float:
        """Bandwidth of the whole bins that make up the channel."""
        return self.num_channel_bins * self.bin_hz

    @property
    def baseband_rate_hz(self) -> float:
        """Sample rate of the channel's signal, about twice the channel's bandwidth."""
        return self.num_baseband * self.bin_hz


@functools.lru_cache(maxsize=32)
def plan_spectrum(
    num_samples: int, sample_rate_hz: float, channel_bandwidth_hz: float, usable_bandwidth_hz: float
) -> SpectrumPlan:
    """Lay out the spectra of chunks of one length; remembered, since all chunks of a dataset have the same shape.

    Parameters
    ----------
    num_samples : int
        Samples per chunk.
    sample_rate_hz : float
        Sample rate, Hz.
    channel_bandwidth_hz : float
        Bandwidth of the channel around 0 Hz.
    usable_bandwidth_hz : float
        Bandwidth around 0 Hz in which the noise floor is looked for.

    Returns
    -------
    SpectrumPlan

    Notes
    -----
    The mean of b bins whose correlation at distance m is r(m) has the statistics of
    ``b**2 / sum((b - abs(m)) * abs(r(m))**2)`` independent ones; for Gaussian noise r is the Fourier transform of the
    squared window (Percival and Walden, Spectral Analysis for Physical Applications, 1993, section 6.3).
    """
    bin_hz = sample_rate_hz / num_samples
    window = tukey(num_samples, WINDOW_TAPER, sym=False)
    bins_per_group = max(1, round(GROUP_BANDWIDTH_HZ / bin_hz))
    correlation = np.abs(np.fft.fft(window**2)[:bins_per_group]) ** 2
    pairs = 2.0 * (bins_per_group - np.arange(bins_per_group))
    pairs[0] /= 2
    half_channel_bins = math.floor(channel_bandwidth_hz / 2 / bin_hz * (1 + 1e-12))
    num_baseband = int(ducc0.fft.good_size(math.ceil(OVERSAMPLING * (2 * half_channel_bins + 1))))
    flat_top = (window / num_samples).astype(np.float32)
    frequencies_hz = np.arange(-half_channel_bins, half_channel_bins + 1, dtype=np.float64) * bin_hz
    for remembered in (flat_top, frequencies_hz):
        remembered.flags.writeable = False
    return SpectrumPlan(
        num_samples=num_samples,
        bin_hz=bin_hz,
        window=flat_top,
        power_gain=float(1 / np.mean(window**2)),
        bins_per_group=bins_per_group,
        groups_per_side=math.ceil(usable_bandwidth_hz / 2 / bin_hz * (1 - 1e-12)) // bins_per_group,
        effective_averages=float(bins_per_group**2 * correlation[0] / (pairs @ correlation)),
        half_channel_bins=half_channel_bins,
        channel_frequencies_hz=frequencies_hz,
        num_baseband=num_baseband,
        num_trimmed=math.ceil(WINDOW_TAPER / 2 * num_baseband),
    )


def windowed_spectrum(plan: SpectrumPlan, iq: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Fourier transform of each chunk under the plan's window.

    Parameters
    ----------
    plan : SpectrumPlan
        For chunks of this length.
    iq : ndarray of complex64, shape (num_chunks, num_samples)
        Samples.

    Returns
    -------
    ndarray of complex64, shape (num_chunks, num_samples)
        Bin k is the frequency ``k * bin_hz``, modulo the sample rate; C-contiguous.
    """
    windowed = np.ascontiguousarray(iq * plan.window)
    spectrum: NDArray[np.complex64] = ducc0.fft.c2c(windowed, axes=(1,), out=windowed, nthreads=1)
    return spectrum


def grouped_power(plan: SpectrumPlan, spectrum: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Mean power per bin in each group of about 200 Hz of the usable band.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the spectrum.
    spectrum : ndarray of complex64, shape (num_chunks, num_samples)
        From `windowed_spectrum`.

    Returns
    -------
    ndarray of float64, shape (num_chunks, 2 * groups_per_side)
        Squares of full scale; the groups from 0 Hz upwards, then those up to 0 Hz.
    """
    components = spectrum.view(np.float32)
    num_chunks, width = components.shape[0], 2 * plan.bins_per_group
    side = plan.groups_per_side * width
    halves = [
        half.reshape(num_chunks, plan.groups_per_side, width) for half in (components[:, :side], components[:, -side:])
    ]
    power = np.concatenate([np.vecdot(half, half) for half in halves], axis=1, dtype=np.float64)
    return power * (plan.power_gain / plan.bins_per_group)


def channel_spectrum(plan: SpectrumPlan, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Cut the channel's bins out of the spectrum.

    Returns
    -------
    ndarray of complex64, shape (num_chunks, num_channel_bins)
        By ascending frequency, as ``plan.channel_frequencies_hz``.
    """
    half = plan.half_channel_bins
    return np.concatenate([spectrum[:, -half:], spectrum[:, : half + 1]], axis=1)


def bin_power(plan: SpectrumPlan, channel: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Power in each bin of the channel, squares of full scale; same shape as the channel."""
    return (np.square(channel.real) + np.square(channel.imag)) * plan.power_gain


def channel_signal(plan: SpectrumPlan, channel: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The samples as a receiver with a rectangular filter as wide as the channel would give them.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the spectrum.
    channel : ndarray of complex64, shape (num_chunks, num_channel_bins)
        From `channel_spectrum`.

    Returns
    -------
    ndarray of complex64, shape (num_chunks, num_baseband - 2 * num_trimmed)
        At ``baseband_rate_hz``, on the scale of the samples, without the ends that lie under the window's taper.
    """
    half = plan.half_channel_bins
    padded = np.zeros((channel.shape[0], plan.num_baseband), np.complex64)
    padded[:, -half:] = channel[:, :half]
    padded[:, : half + 1] = channel[:, half:]
    signal: NDArray[np.complex64] = ducc0.fft.c2c(padded, axes=(1,), forward=False, out=padded, nthreads=1)
    return signal[:, plan.num_trimmed : -plan.num_trimmed]


def power_quantiles_hz(
    plan: SpectrumPlan, signal_bin_power: NDArray[np.float64], shares: tuple[float, ...]
) -> list[NDArray[np.float64]]:
    """Frequencies below which given shares of the signal's power in the channel lie.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the spectrum.
    signal_bin_power : ndarray of float64, shape (num_chunks, num_channel_bins)
        Power of each bin less that of the noise; keeps its sign, so that the noise cancels in the sum.
    shares : tuple of float
        Between 0 and 1.

    Returns
    -------
    list of ndarray of float64, shape (num_chunks,)
        For each share, Hz from the middle of the channel; without meaning where a chunk's sum is not positive.

    Notes
    -----
    Of several passages, where noise makes the cumulative sum wander, the first is taken. Above 10 dB carrier to noise
    the last is within 1 Hz of it.
    """
    below = np.zeros((signal_bin_power.shape[0], plan.num_channel_bins + 1))
    np.cumsum(signal_bin_power, axis=1, out=below[:, 1:])
    rows = np.arange(below.shape[0])
    quantiles = []
    for share in shares:
        wanted = share * below[:, -1]
        passage = np.argmax(below[:, 1:] >= wanted[:, None], axis=1)
        start, end = below[rows, passage], below[rows, passage + 1]
        within = (wanted - start) / (end - start)
        quantiles.append((passage + within - plan.half_channel_bins - 0.5) * plan.bin_hz)
    return quantiles
