"""Time differences of arrival: what a pair of receivers has, and what of a receiver's samples tells time.

A segment's samples are put on one time grid with the true rates and the exact start (`signal_on_grid`), and what tells
time is taken from them (`modulation`). `segment_tdoa.py` compares the receivers.
"""

import functools
import math
from dataclasses import dataclass

import ducc0
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from heimdall_pipelines.rf.exact import cos_sin_of_turns
from heimdall_pipelines.rf.philox import compiled

# Of a carrier's phase modulation only this band is used: below lies what keying and gain control leave of the carrier.
_MODULATION_BAND_HZ = (100.0, 1800.0)
_CLIPPED_STD = 2.0  # of it: bursts of noise, such as lightning's, do not decide
_CARRIER_SMOOTHING_HZ = 10.0
_CARRIER_SHARE = 0.5  # of the power, from which the strongest line is treated as a carrier
_GRID_OVERSAMPLING = 1.28
_MARGIN_S = 0.004  # samples before and after the grid, for the filter and the interpolation
_HALF_TAPS = 6  # of the interpolation: what it does not suppress is 80 dB below, at this oversampling
_OVERSAMPLING = 2.0  # of the interpolated signal
_TABLE = 512  # positions between two samples for which the interpolation's taps are stored


@dataclass(frozen=True)
class TimeGrid:
    """Instants at which the signals of all receivers are evaluated.

    Attributes
    ----------
    start_ns : int
        First instant, ns since the epoch of the receivers' clocks.
    rate_hz : float
    num_samples : int
    bandwidth_hz : float
        Of the channel, around 0 Hz.
    """

    start_ns: int
    rate_hz: float
    num_samples: int
    bandwidth_hz: float

    @classmethod
    def over(cls, start_ns: int, duration_s: float, bandwidth_hz: float) -> "TimeGrid":
        """A grid for a channel of this bandwidth, with a number of instants that transforms like."""
        rate_hz = _GRID_OVERSAMPLING * bandwidth_hz
        return cls(start_ns, rate_hz, scipy.fft.prev_fast_len(int(duration_s * rate_hz)), bandwidth_hz)


@dataclass(frozen=True)
class TimeDifference:
    """Time difference of one pair of receivers.

    Attributes
    ----------
    tdoa_us : float or None
        Time of arrival at b less that at a; None where it is not known, see ``reason``.
    std_us : float or None
        Standard deviation: the larger of the scatter of the segment's parts and the bound for the coherence found.
    peak : float
        Normalised correlation, 0 to 1.
    ambiguity : float or None
        Second peak of the correlation relative to the first.
    reason : str or None
        Why ``tdoa_us`` is None.
    """

    a: int
    b: int
    tdoa_us: float | None
    std_us: float | None
    peak: float
    ambiguity: float | None
    reason: str | None = None


def signal_on_grid(
    iq: NDArray[np.complex64], first_sample_ns: float, sample_rate_hz: float, grid: TimeGrid
) -> NDArray[np.complex64]:
    """Filter the channel and evaluate it at the instants of the grid.

    Parameters
    ----------
    iq : ndarray of complex64, shape (num_samples,)
        Samples that cover the grid and 4 ms before and after it.
    first_sample_ns : float
        Time of ``iq[0]`` relative to ``grid.start_ns``, ns: negative.
    sample_rate_hz : float
        True sample rate.
    grid : TimeGrid

    Returns
    -------
    ndarray of complex64, shape (grid.num_samples,)
        0 outside the samples.

    Notes
    -----
    The channel is cut out by a Fourier transform of all samples, with raised-cosine edges, and interpolated with 12
    taps of a Kaiser window.
    """
    end_s = grid.num_samples / grid.rate_hz - first_sample_ns * 1e-9 + _MARGIN_S
    # A transform of a length with large prime factors takes several times as long.
    num = scipy.fft.prev_fast_len(iq.size)
    if num < end_s * sample_rate_hz:
        num = iq.size
    weights, kept = _channel_filter(num, float(sample_rate_hz), grid.bandwidth_hz)
    half_bins = weights.size // 2
    spectrum = ducc0.fft.c2c(iq[:num], nthreads=1)
    channel = np.zeros(kept, np.complex64)
    np.multiply(spectrum[: half_bins + 1], weights[half_bins:], out=channel[: half_bins + 1])
    np.multiply(spectrum[-half_bins:], weights[:half_bins], out=channel[-half_bins:])
    signal = ducc0.fft.c2c(channel, forward=False, out=channel, nthreads=1)
    step = kept / num * sample_rate_hz
    out = np.empty(grid.num_samples, np.complex64)
    _interpolate(out, signal, -first_sample_ns * 1e-9 * step, step / grid.rate_hz, _TAPS)
    return out


@functools.lru_cache(maxsize=64)
def _channel_filter(num: int, sample_rate_hz: float, bandwidth_hz: float) -> tuple[NDArray[np.float32], int]:
    """Weights of the bins around 0 Hz of a transform of so many samples, by frequency, and the size of the inverse."""
    edge = 0.5 * bandwidth_hz
    taper_hz = 0.12 * bandwidth_hz
    half_bins = min(math.ceil((edge + taper_hz) * num / sample_rate_hz), (num - 1) // 2)
    kept = scipy.fft.next_fast_len(
        max(2 * half_bins + 1, int(2 * _OVERSAMPLING * (edge + taper_hz) * num / sample_rate_hz))
    )
    frequencies_hz = np.arange(-half_bins, half_bins + 1) * (sample_rate_hz / num)
    beyond = np.clip((np.abs(frequencies_hz) - edge) / taper_hz, 0.0, 1.0)
    return ((0.5 + 0.5 * np.cos(np.pi * beyond)) / num).astype(np.float32), kept


@dataclass(frozen=True, eq=False)
class Modulation:
    """What of a receiver's signal tells time: complex, or real where a steady carrier gives the phase."""

    samples: NDArray[np.complex64]
    is_real: bool


def modulation(signal: NDArray[np.complex64], grid: TimeGrid, *, has_carrier: bool | None = None) -> Modulation:
    """Take the part of a signal that tells time, with mean power 1.

    Parameters
    ----------
    signal : ndarray of complex64, shape (grid.num_samples,)
        From `signal_on_grid`.
    grid : TimeGrid
    has_carrier : bool, optional
        Whether the strongest line is treated as a carrier; if None, where it has half of the power.

    Returns
    -------
    Modulation
        Of a steady carrier only the component in quadrature with it, from 100 Hz on: an automatic gain control and the
        keying change the amplitude at each receiver on their own, and dividing by it distorts the phase. What exceeds
        twice the usual deviation is cut off.
    """
    total = float(np.vdot(signal, signal).real)
    if not total > 0:
        return Modulation(np.zeros_like(signal), is_real=bool(has_carrier))
    line, half = 0, max(1, round(_CARRIER_SMOOTHING_HZ * signal.size / grid.rate_hz))
    if has_carrier is not False:
        spectrum = ducc0.fft.c2c(signal, nthreads=1)
        power = spectrum.real**2 + spectrum.imag**2
        line = int(np.argmax(power))
        around = np.arange(line - half, line + half + 1) % signal.size
        has_carrier = has_carrier or bool(power[around].sum() >= _CARRIER_SHARE * signal.size * total)
    if not has_carrier:
        return Modulation(signal * np.float32(math.sqrt(signal.size / total)), is_real=False)
    # At 0 Hz the carrier has no step from the end of the samples to their start, which would look like modulation.
    still = _turned(signal, line / signal.size)
    half_way = signal.size // 2
    still = _turned(still, float(np.angle(np.vdot(still[:-half_way], still[half_way:]))) / (2 * np.pi * half_way))
    kept = scipy.fft.fft(still)
    kept[half + 1 : -half] = 0
    carrier = scipy.fft.ifft(kept)
    quadrature = (still * np.conj(carrier) / np.maximum(np.abs(carrier), 1e-30)).imag
    frequencies_hz = scipy.fft.rfftfreq(signal.size, 1 / grid.rate_hz)
    outside = (frequencies_hz < _MODULATION_BAND_HZ[0]) | (frequencies_hz > _MODULATION_BAND_HZ[1])
    phase_rad = _without(quadrature.astype(np.float32), outside)
    largest_rad = np.float32(_CLIPPED_STD * float(np.median(np.abs(phase_rad))) / 0.6745)  # of a normal distribution
    phase_rad = _without(np.clip(phase_rad, -largest_rad, largest_rad), outside)
    mean_power = float(np.mean(phase_rad * phase_rad))
    scale = np.float32(1 / math.sqrt(mean_power) if mean_power > 0 else 0)
    return Modulation((phase_rad * scale).astype(np.complex64), is_real=True)


def _without(signal: NDArray[np.float32], outside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The signal without some of the frequencies of a real Fourier transform."""
    spectrum = scipy.fft.rfft(signal)
    spectrum[outside] = 0
    return np.asarray(scipy.fft.irfft(spectrum, signal.size), np.float32)


@compiled
def _turned(signal: NDArray[np.complex64], cycles: float) -> NDArray[np.complex64]:
    """The signal shifted down by a frequency in cycles a sample."""
    out = np.empty(signal.size, np.complex64)
    turn_re, turn_im = cos_sin_of_turns(-cycles)
    x, y = 1.0, 0.0
    for n in range(signal.size):
        re, im = signal[n].real, signal[n].imag
        out[n] = complex(re * x - im * y, re * y + im * x)
        x, y = x * turn_re - y * turn_im, x * turn_im + y * turn_re
    return out


def _taps() -> NDArray[np.float32]:
    """Taps of the interpolation for _TABLE + 1 positions between two samples, and one more."""
    position = np.arange(_TABLE + 2)[:, None] / _TABLE
    offset = np.arange(-_HALF_TAPS + 1, _HALF_TAPS + 1)[None, :] - position
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (offset / _HALF_TAPS) ** 2, 0, None))) / np.i0(8.0)
    taps = np.sinc(offset) * window
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), np.float32)


_TAPS = _taps()


@compiled
def _interpolate(
    out: NDArray[np.complex64], signal: NDArray[np.complex64], start: float, step: float, taps: NDArray[np.float32]
) -> None:
    """Evaluate the signal at ``start + i step`` samples; even and odd taps add up apart, which is faster."""
    zero = np.float32(0)
    for i in range(out.size):
        position = start + i * step
        first = int(np.floor(position))
        between = (position - first) * (taps.shape[0] - 2)
        row = int(between)
        share = np.float32(between - row)
        re, im, odd_re, odd_im = zero, zero, zero, zero
        begin = first - _HALF_TAPS + 1
        if begin >= 0 and first + _HALF_TAPS < signal.size:
            for k in range(0, 2 * _HALF_TAPS, 2):
                tap = taps[row, k] + share * (taps[row + 1, k] - taps[row, k])
                odd_tap = taps[row, k + 1] + share * (taps[row + 1, k + 1] - taps[row, k + 1])
                value, odd = signal[begin + k], signal[begin + k + 1]
                re += value.real * tap
                im += value.imag * tap
                odd_re += odd.real * odd_tap
                odd_im += odd.imag * odd_tap
        out[i] = complex(re + odd_re, im + odd_im)
