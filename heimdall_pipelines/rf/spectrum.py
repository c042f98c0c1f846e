"""From IQ chunks to spectra, power per frequency bin and the channel's signal; nothing is estimated here.

All chunks of a segment use one plan: a Tukey-windowed Fourier transform, in which bin k has the frequency
``k * bin_hz``, scaled so that the window's flat part keeps the amplitude of the samples. Chunks are processed one by
one: the spectrum stays in the processor's cache until it is reduced, and memory blocks are so small that the C library
reuses them instead of returning them to the system at every segment.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import ducc0
import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled

WINDOW_TAPER = 0.05  # share of the chunk in which the Tukey window rises and falls
GROUP_BANDWIDTH_HZ = 200.0  # resolution of the noise floor's search
USABLE_BAND = 0.8  # share of the sample rate that the receiver's filters leave flat: abs(f) < 0.4 fs
OVERSAMPLING = 2.0  # rate of the channel's signal over the channel's bandwidth
_LANES = 256  # partial sums of a kernel, for vectorisation


@dataclass(frozen=True, eq=False)
class SpectrumPlan:
    """Parameters of the spectra of one shape of chunk, independent of the samples.

    Attributes
    ----------
    num_samples : int
        Samples per chunk.
    bin_hz : float
        Distance of the bins, the inverse of the chunk's duration.
    window : ndarray of float32, shape (num_samples,)
        Tukey window divided by ``num_samples``.
    power_gain : float
        Factor from ``abs(spectrum)**2`` to power: 1 over the window's mean square.
    bins_per_group : int
        Bins that are averaged to find the noise floor, together about 200 Hz.
    groups_per_side : int
        Groups between 0 and the upper end of the usable band, and as many below 0.
    effective_averages : float
        Equivalent number of independent bins of a group; the window slightly correlates neighbours.
    half_channel_bins : int
        The channel is the bins from ``-half_channel_bins`` to ``half_channel_bins``.
    lag_one : ndarray of complex128, shape (2 * half_channel_bins + 1,)
        Contribution of unit power in each bin of the channel, by ascending frequency, to the autocorrelation of the
        channel's signal at a lag of one sample.
    num_baseband : int
        Samples of the channel's signal over the whole chunk.
    num_trimmed : int
        Of these, how many at each end lie under the window's taper.
    step_weights : ndarray of float64, shape (num_baseband - 2 * num_trimmed - 1,)
        Hann window over the steps between the samples that are left, of sum 1.
    """

    num_samples: int
    bin_hz: float
    window: NDArray[np.float32]
    power_gain: float
    bins_per_group: int
    groups_per_side: int
    effective_averages: float
    half_channel_bins: int
    lag_one: NDArray[np.complex128]
    num_baseband: int
    num_trimmed: int
    step_weights: NDArray[np.float64]

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


def tukey_window(num_samples: int, taper: float) -> NDArray[np.float64]:
    """Periodic Tukey window, to the last bit that of scipy.signal.windows, whose import costs 50 MB of memory.

    Parameters
    ----------
    num_samples : int
    taper : float
        Share of the samples, above 0 and below 1, on which it rises and falls.

    Examples
    --------
    >>> tukey_window(8, taper=0.5)
    array([0. , 0.5, 1. , 1. , 1. , 1. , 1. , 0.5])
    """
    n = np.arange(num_samples + 1)
    width = int(np.floor(taper * num_samples / 2.0))
    window = np.ones(num_samples + 1)
    window[: width + 1] = 0.5 * (1 + np.cos(np.pi * (-1 + 2.0 * n[: width + 1] / taper / num_samples)))
    falling = n[num_samples - width :]
    window[num_samples - width :] = 0.5 * (1 + np.cos(np.pi * (-2.0 / taper + 1 + 2.0 * falling / taper / num_samples)))
    return window[:-1]


@functools.lru_cache(maxsize=32)
def plan_spectrum(
    num_samples: int, sample_rate_hz: float, channel_bandwidth_hz: float, usable_bandwidth_hz: float
) -> SpectrumPlan:
    """Plan the spectra of chunks of one length; cached, since all chunks of a dataset have the same shape.

    Parameters
    ----------
    num_samples : int
        Samples per chunk.
    sample_rate_hz : float
        Sample rate, Hz.
    channel_bandwidth_hz : float
        Bandwidth of the channel around 0 Hz.
    usable_bandwidth_hz : float
        Bandwidth around 0 Hz for the noise floor.

    Returns
    -------
    SpectrumPlan

    Notes
    -----
    The mean of b bins whose correlation at distance m is r(m) has the statistics of
    ``b**2 / sum((b - abs(m)) * abs(r(m))**2)`` independent ones; for Gaussian noise r is the Fourier transform of the
    squared window (Percival and Walden, Spectral Analysis for Physical Applications, 1993, section 6.3).

    Examples
    --------
    Chunks of 200 ms at 200 kHz:

    >>> plan = plan_spectrum(40_000, 200e3, channel_bandwidth_hz=12_500.0, usable_bandwidth_hz=160e3)
    >>> plan.bin_hz, plan.group_bandwidth_hz, plan.num_channel_bins
    (5.0, 200.0, 2501)
    """
    bin_hz = sample_rate_hz / num_samples
    window = tukey_window(num_samples, WINDOW_TAPER)
    bins_per_group = max(1, round(GROUP_BANDWIDTH_HZ / bin_hz))
    correlation = np.abs(np.fft.fft(window**2)[:bins_per_group]) ** 2
    pairs = 2.0 * (bins_per_group - np.arange(bins_per_group))
    pairs[0] /= 2
    half_channel_bins = math.floor(channel_bandwidth_hz / 2 / bin_hz * (1 + 1e-12))
    num_baseband = int(ducc0.fft.good_size(math.ceil(OVERSAMPLING * (2 * half_channel_bins + 1))))
    flat_top = (window / num_samples).astype(np.float32)
    lag_one = np.exp(2j * np.pi / num_baseband * np.arange(-half_channel_bins, half_channel_bins + 1))
    num_trimmed = math.ceil(WINDOW_TAPER / 2 * num_baseband)
    step_weights = np.hanning(num_baseband - 2 * num_trimmed + 1)[1:-1]
    step_weights /= step_weights.sum()
    for remembered in (flat_top, lag_one, step_weights):
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
        lag_one=lag_one,
        num_baseband=num_baseband,
        num_trimmed=num_trimmed,
        step_weights=step_weights,
    )


@dataclass(frozen=True, eq=False)
class ReducedSpectra:
    """Reduced spectra of a segment's chunks.

    Attributes
    ----------
    energy : ndarray of float64, shape (num_chunks,)
        Sum of the samples' squared magnitudes, before the window; infinite or NaN where single precision overflowed or
        a sample was not finite.
    grouped_power : ndarray of float32, shape (num_chunks, 2 * groups_per_side)
        Mean power per bin in each group of about 200 Hz of the usable band, squares of full scale; the groups from 0 Hz
        upwards, then those up to 0 Hz.
    bin_power : ndarray of float32, shape (num_chunks, 2 * half_channel_bins + 1)
        Power in each bin of the channel, squares of full scale, by ascending frequency.
    channel_signal : ndarray of complex64, shape (num_chunks, num_baseband)
        The samples as a receiver with a rectangular filter as wide as the channel would give them, at
        ``baseband_rate_hz`` and on the scale of the samples; ``num_trimmed`` at each end lie under the window's taper.
    """

    energy: NDArray[np.float64]
    grouped_power: NDArray[np.float32]
    bin_power: NDArray[np.float32]
    channel_signal: NDArray[np.complex64]


def reduced_spectra(plan: SpectrumPlan, iq: NDArray[np.complex64]) -> ReducedSpectra:
    """Transform each chunk under the plan's window and keep powers and the channel.

    Parameters
    ----------
    plan : SpectrumPlan
        For chunks of this length.
    iq : ndarray of complex64, shape (num_chunks, num_samples)
        Samples.

    Returns
    -------
    ReducedSpectra

    Examples
    --------
    The channel of a carrier of amplitude 0.1, 1 kHz above the middle:

    >>> plan = plan_spectrum(40_000, 200e3, channel_bandwidth_hz=12_500.0, usable_bandwidth_hz=160e3)
    >>> carrier = 0.1 * np.exp(2j * np.pi * 1e3 * np.arange(40_000) / 200e3)
    >>> (power,) = reduced_spectra(plan, carrier[np.newaxis].astype(np.complex64)).bin_power
    >>> float((np.argmax(power) - plan.half_channel_bins) * plan.bin_hz), round(float(power.sum()), 4)
    (1000.0, 0.01)
    """
    num_chunks = len(iq)
    energy = np.empty(num_chunks)
    grouped = np.empty((num_chunks, 2 * plan.groups_per_side), np.float32)
    bins = np.empty((num_chunks, plan.num_channel_bins), np.float32)
    channel = np.zeros((num_chunks, plan.num_baseband), np.complex64)
    spectrum = np.empty(plan.num_samples, np.complex64)
    gain = np.float32(plan.power_gain)
    for chunk, samples in enumerate(np.ascontiguousarray(iq).view(np.float32)):
        energy[chunk] = _window(spectrum.view(np.float32), samples, plan.window)
        ducc0.fft.c2c(spectrum, out=spectrum, nthreads=1)
        _group(grouped[chunk], spectrum.view(np.float32), plan.bins_per_group, gain)
        _cut(channel[chunk].view(np.float32), bins[chunk], spectrum.view(np.float32), gain)
        ducc0.fft.c2c(channel[chunk], out=channel[chunk], forward=False, nthreads=1)
    return ReducedSpectra(energy, grouped, bins, channel)


class SignalSpectrum(NamedTuple):
    """Distribution of the signal's power in the channel, one number per chunk; undefined if the power is not positive.

    Attributes
    ----------
    power : ndarray of float64
        The signal's, squares of full scale.
    mean_hz : ndarray of float64
        Mean frequency.
    circular_mean_hz : ndarray of float64
        Mean frequency on a circle as wide as the channel signal's rate.
    quantiles_hz : tuple of ndarray of float64
        For each requested share, the frequency below which it lies, Hz from the middle of the channel.
    """

    power: NDArray[np.float64]
    mean_hz: NDArray[np.float64]
    circular_mean_hz: NDArray[np.float64]
    quantiles_hz: tuple[NDArray[np.float64], ...]


def signal_spectrum(
    plan: SpectrumPlan, bin_power: NDArray[np.float32], bin_noise: NDArray[np.float64], shares: tuple[float, ...]
) -> SignalSpectrum:
    """Subtract the noise from the power of the channel's bins, and measure the signal's spectrum.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the spectrum.
    bin_power : ndarray of float32, shape (num_chunks, num_channel_bins)
        From `reduced_spectra`.
    bin_noise : ndarray of float64, shape (num_chunks,)
        Power of the noise in each bin. The difference keeps its sign, so that the noise cancels in sums.
    shares : tuple of float
        Of the signal's power, between 0 and 1, ascending.

    Returns
    -------
    SignalSpectrum

    Notes
    -----
    The circular mean is the angle of the autocorrelation at a lag of one sample, sum of ``z[n+1] * conj(z[n])``, which
    is the Fourier transform of the power spectrum. With the noise's power taken out of the spectrum its own
    autocorrelation, which would pull the angle to 0, is taken out too.

    Of several passages of a share, where noise makes the cumulative sum wander, the first is taken. Above 10 dB carrier
    to noise the last is within 1 Hz of it.
    """
    found = np.full((3 + len(shares), len(bin_power)), np.nan)
    _signal_spectrum(found, bin_power, bin_noise, plan.lag_one, np.array(shares))
    found[1:] *= plan.bin_hz
    return SignalSpectrum(found[0], found[1], found[2] * (plan.num_baseband / (2 * np.pi)), tuple(found[3:]))


@compiled
def _signal_spectrum(
    found: NDArray[np.float64],
    bin_power: NDArray[np.float32],
    bin_noise: NDArray[np.float64],
    lag_one: NDArray[np.complex128],
    shares: NDArray[np.float64],
) -> None:
    """Rows of power, mean (bins), angle of the autocorrelation (rad), frequency below which each share lies (bins)."""
    half = lag_one.size // 2
    for chunk in range(bin_noise.size):
        noise = bin_noise[chunk]
        total, moment, real, imag = 0.0, 0.0, 0.0, 0.0
        for i in range(lag_one.size):
            power = bin_power[chunk, i] - noise
            total += power
            moment += power * (i - half)
            real += power * lag_one[i].real
            imag += power * lag_one[i].imag
        found[0, chunk] = total
        found[1, chunk] = moment / total
        found[2, chunk] = np.arctan2(imag, real)
        below, share = 0.0, 0
        for i in range(lag_one.size):
            power = bin_power[chunk, i] - noise
            while share < shares.size and below + power >= shares[share] * total:
                found[3 + share, chunk] = i - half - 0.5 + (shares[share] * total - below) / power
                share += 1
            below += power


@compiled
def _window(out: NDArray[np.float32], samples: NDArray[np.float32], window: NDArray[np.float32]) -> float:
    """Multiply real and imaginary parts, which lie side by side, with the window; return the energy before it."""
    lanes = np.zeros(_LANES, np.float32)
    for start in range(0, window.size, _LANES):
        weights = window[start : start + _LANES]
        part, windowed = samples[2 * start : 2 * (start + weights.size)], out[2 * start :]
        weight = weights[0]
        if weight == weights[weights.size // 2] == weights[-1]:  # the flat part, which is most of it
            for half in range(2):
                _scale_and_square(
                    windowed[half * weights.size :], lanes, part[half * weights.size :][: weights.size], weight
                )
            continue
        for i in range(weights.size):
            windowed[2 * i] = part[2 * i] * weights[i]
            windowed[2 * i + 1] = part[2 * i + 1] * weights[i]
        for values in (part[: weights.size], part[weights.size :]):
            for i in range(values.size):
                lanes[i] += values[i] * values[i]
    energy = 0.0
    for i in range(_LANES):
        energy += lanes[i]
    return energy


@compiled
def _scale_and_square(
    out: NDArray[np.float32], lanes: NDArray[np.float32], values: NDArray[np.float32], scale: np.float32
) -> None:
    """Multiply with one factor, and add the squares to sums side by side."""
    for i in range(values.size):
        out[i] = values[i] * scale
        lanes[i] += values[i] * values[i]


@compiled
def _power(out: NDArray[np.float32], components: NDArray[np.float32], scale: np.float32) -> None:
    """Squared magnitudes of complex numbers, whose parts lie side by side, times a factor."""
    for i in range(out.size):
        out[i] = (components[2 * i] * components[2 * i] + components[2 * i + 1] * components[2 * i + 1]) * scale


@compiled
def _add_neighbours(out: NDArray[np.float32], values: NDArray[np.float32]) -> None:
    """Sums of pairs of neighbours."""
    for i in range(out.size):
        out[i] = values[2 * i] + values[2 * i + 1]


@compiled
def _add_runs(out: NDArray[np.float32], values: NDArray[np.float32], length: int) -> None:
    """Sums of runs of ``length`` values."""
    for run in range(out.size):
        out[run] = values[run * length]
    for i in range(1, length):
        for run in range(out.size):
            out[run] += values[run * length + i]


@compiled
def _group(
    grouped: NDArray[np.float32], components: NDArray[np.float32], bins_per_group: int, gain: np.float32
) -> None:
    """Mean power per bin of the groups on both sides of 0 Hz.

    While groups have an even number of bins, all neighbours are added, which vectorises.
    """
    num_groups = grouped.size // 2
    side = num_groups * bins_per_group
    power, halved = np.empty(side, np.float32), np.empty(side // 2, np.float32)
    for upper in range(2):
        start = 0 if upper == 0 else components.size - 2 * side
        _power(power, components[start : start + 2 * side], gain / np.float32(bins_per_group))
        bins, spare, width = power, halved, bins_per_group
        while width % 2 == 0:
            width //= 2
            _add_neighbours(spare[: num_groups * width], bins)
            bins, spare = spare, bins
        _add_runs(grouped[upper * num_groups : (upper + 1) * num_groups], bins, width)


@compiled
def _cut(
    channel: NDArray[np.float32], bin_power: NDArray[np.float32], components: NDArray[np.float32], gain: np.float32
) -> None:
    """Copy the channel's bins to both ends of its own spectrum; their powers go by ascending frequency."""
    below = bin_power.size - 1  # as many parts of complex numbers as bins in both halves
    upper, lower = components[: below + 2], components[components.size - below :]
    channel[: below + 2] = upper
    channel[channel.size - below :] = lower
    _power(bin_power[: below // 2], lower, gain)
    _power(bin_power[below // 2 :], upper, gain)
