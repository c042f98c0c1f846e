"""Time differences of arrival between the receivers of one transmission, from their samples.

A segment's samples are put on one time grid with the true rates and the exact start (`signal_on_grid`), aligned with
each other (`coarse_alignment`: delay and oscillator difference), and each pair's delay is refined on the cross spectrum
of what both received at the same time of the transmission (`time_differences`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled

BLOCK_S = 0.050  # of the cross spectra: long compared with the delays that remain, short compared with the fading
# Of a carrier's phase modulation only this band is used: below lies the carrier itself, which tells no time.
_MODULATION_BAND_HZ = (20.0, 1500.0)
_CARRIER_SMOOTHING_HZ = 10.0
_CARRIER_SHARE = 0.5  # of the power, from which the strongest line is treated as a carrier
_GRID_OVERSAMPLING = 1.28
_MARGIN_S = 0.004  # samples before and after the grid, for the filter and the interpolation
_HALF_TAPS = 12
_TABLE = 512  # positions between two samples for which the interpolation's taps are stored
_COARSE_BLOCK_S = 0.001  # oscillators may differ by up to half its inverse, 500 Hz
_NUM_PARTS = 5  # parts of a segment whose delays give the scatter
_DRIFT_BLOCKS = 5  # over which the phase between two receivers is smoothed
MIN_PEAK = 0.05
_MIN_SIGNIFICANCE = 5.0  # peak of the correlation over what noise alone gives


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
        """A grid for a channel of this bandwidth."""
        rate_hz = _GRID_OVERSAMPLING * bandwidth_hz
        return cls(start_ns, rate_hz, int(duration_s * rate_hz), bandwidth_hz)


@dataclass(frozen=True)
class Alignment:
    """Delay and frequency of a receiver's signal relative to the reference receiver's."""

    delay_s: float
    frequency_hz: float


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
    iq: NDArray[np.complex64], first_sample_ns: float, sample_rate_hz: float, grid: TimeGrid, delay_s: float = 0.0
) -> NDArray[np.complex64]:
    """Filter the channel and evaluate it at the instants of the grid, delayed by ``delay_s``.

    Parameters
    ----------
    iq : ndarray of complex64, shape (num_samples,)
        Samples that cover the grid and 4 ms before and after it.
    first_sample_ns : float
        Time of ``iq[0]`` relative to ``grid.start_ns``, ns: negative.
    sample_rate_hz : float
        True sample rate.
    grid : TimeGrid
    delay_s : float, optional
        The grid's instants plus this delay are evaluated.

    Returns
    -------
    ndarray of complex64, shape (grid.num_samples,)
        0 outside the samples.

    Notes
    -----
    The channel is cut out by a Fourier transform of all samples, with raised-cosine edges, and interpolated with 24
    taps of a Kaiser window.
    """
    spectrum = scipy.fft.fft(iq)
    num = iq.size
    edge = 0.5 * grid.bandwidth_hz
    taper_hz = 0.12 * grid.bandwidth_hz
    half_bins = min(math.ceil((edge + taper_hz) * num / sample_rate_hz), (num - 1) // 2)
    kept = scipy.fft.next_fast_len(max(2 * half_bins + 1, int(1.6 * (edge + taper_hz) * 2 * num / sample_rate_hz)))
    frequencies_hz = np.arange(-half_bins, half_bins + 1) * (sample_rate_hz / num)
    beyond = np.clip((np.abs(frequencies_hz) - edge) / taper_hz, 0.0, 1.0)
    weights = (0.5 + 0.5 * np.cos(np.pi * beyond)).astype(np.float32)
    channel = np.zeros(kept, np.complex64)
    channel[: half_bins + 1] = spectrum[: half_bins + 1] * weights[half_bins:]
    channel[-half_bins:] = spectrum[-half_bins:] * weights[:half_bins]
    signal = scipy.fft.ifft(channel) * np.float32(kept / num)
    step = kept / num * sample_rate_hz
    out = np.empty(grid.num_samples, np.complex64)
    _interpolate(out, signal, (delay_s - first_sample_ns * 1e-9) * step, step / grid.rate_hz, _TAPS)
    return out


def coarse_alignment(
    reference: NDArray[np.complex64], other: NDArray[np.complex64], grid: TimeGrid, max_delay_s: float
) -> Alignment:
    """Find the delay and the frequency difference at which two signals on the grid are most alike.

    Parameters
    ----------
    reference, other : ndarray of complex64, shape (grid.num_samples,)
        From `signal_on_grid`.
    grid : TimeGrid
    max_delay_s : float
        Largest delay in either direction.

    Returns
    -------
    Alignment
        Of ``other`` relative to ``reference``: to a sample of the grid and 1 Hz.

    Notes
    -----
    The maximum of the ambiguity function over delay and frequency: blocks of 1 ms are correlated with the whole range
    of delays, and a Fourier transform over the blocks finds the frequency (Stein, IEEE Trans. ASSP-29, 1981).
    """
    a, b = modulation(reference, grid).samples, modulation(other, grid).samples
    block = max(8, round(_COARSE_BLOCK_S * grid.rate_hz))
    reach = math.ceil(max_delay_s * grid.rate_hz) + 1
    num_blocks = (a.size - 2 * reach) // block
    if num_blocks < 4:
        return Alignment(0.0, 0.0)
    length = scipy.fft.next_fast_len(block + 2 * reach)
    first = reach + block * np.arange(num_blocks)
    heads = np.zeros((num_blocks, length), np.complex64)
    heads[:, :block] = a[reach : reach + num_blocks * block].reshape(num_blocks, block)
    wide = np.lib.stride_tricks.sliding_window_view(b, block + 2 * reach)[first - reach]
    products = scipy.fft.ifft(scipy.fft.fft(wide, length, axis=1) * np.conj(scipy.fft.fft(heads, axis=1)), axis=1)[
        :, : 2 * reach + 1
    ]
    num_frequencies = scipy.fft.next_fast_len(2 * num_blocks)
    surface = np.abs(scipy.fft.fft(products, num_frequencies, axis=0))
    row, lag = np.unravel_index(int(np.argmax(surface)), surface.shape)
    cycles = _vertex(surface[:, lag], int(row), wrap=True) / num_frequencies
    frequency_hz = (cycles - round(cycles)) * grid.rate_hz / block
    return Alignment((int(lag) - reach) / grid.rate_hz, frequency_hz)


def time_differences(
    signals: Sequence[NDArray[np.complex64]],
    alignments: Sequence[Alignment],
    grid: TimeGrid,
    max_delays_s: NDArray[np.float64],
) -> list[TimeDifference]:
    """Time difference of each pair of receivers.

    Parameters
    ----------
    signals : sequence of ndarray of complex64, shape (grid.num_samples,)
        From `signal_on_grid`, each evaluated with the ``delay_s`` of its alignment.
    alignments : sequence of Alignment
        Of the receivers relative to one of them.
    grid : TimeGrid
    max_delays_s : ndarray of float64, shape (num_receivers, num_receivers)
        Largest time difference that geometry and clocks allow.

    Returns
    -------
    list of TimeDifference
        Of the pairs (0, 1), (0, 2), ..., in this order.

    Notes
    -----
    Blocks of 50 ms give the cross spectrum S(f) and the squared coherence c; the delay is the maximum of
    ``|sum S exp(2j pi f tau)|``. The bound is ``1 / sqrt(2 T sum w (2 pi)^2 (f - fc)^2 df)`` with ``w = c / (1 - c)``
    (Carter, "Coherence and time delay estimation", Proc. IEEE 75, 1987) and fc the centroid, since the phase is not
    known.
    """
    block = 2 * scipy.fft.next_fast_len(round(BLOCK_S * grid.rate_hz / 2))
    modulations = [
        modulation(signal, grid, alignment.frequency_hz) for signal, alignment in zip(signals, alignments, strict=True)
    ]
    spectra = [_block_spectra(found.samples, block) for found in modulations]
    powers = [np.mean(np.abs(values) ** 2, axis=0) for values in spectra]
    frequencies_hz = scipy.fft.fftfreq(block, 1 / grid.rate_hz)
    in_channel = np.abs(frequencies_hz) <= 0.5 * grid.bandwidth_hz
    found = []
    for a in range(len(signals)):
        for b in range(a + 1, len(signals)):
            offset_s = alignments[b].delay_s - alignments[a].delay_s
            found.append(
                _pair(
                    a,
                    b,
                    spectra,
                    powers,
                    frequencies_hz,
                    in_channel,
                    offset_s,
                    float(max_delays_s[a, b]),
                    grid,
                    has_phase=not (modulations[a].is_real and modulations[b].is_real),
                )
            )
    return found


def _pair(
    a: int,
    b: int,
    spectra: list[NDArray[np.complex64]],
    powers: list[NDArray[np.float32]],
    frequencies_hz: NDArray[np.float64],
    in_channel: NDArray[np.bool_],
    offset_s: float,
    max_delay_s: float,
    grid: TimeGrid,
    *,
    has_phase: bool,
) -> TimeDifference:
    products = spectra[b] * np.conj(spectra[a])
    num_blocks = len(products)
    if has_phase:
        products = products * np.conj(_phase_drift(products))[:, None]
    starts = [part[0] for part in np.array_split(np.arange(num_blocks), _NUM_PARTS) if part.size]
    parts = np.add.reduceat(products, starts, axis=0).astype(np.complex128)  # sums over the blocks of each part
    cross = parts.sum(axis=0) / num_blocks
    product_of_powers = powers[a] * powers[b]
    with np.errstate(divide="ignore", invalid="ignore"):
        coherence = np.where(product_of_powers > 0, np.abs(cross) ** 2 / product_of_powers, 0.0)
    # Blocks overlap by half: about 0.55 of them are independent; the mean of the squared coherence of noise is 1 / n.
    num_independent = max(0.55 * num_blocks, 1.0)
    # In noise the squared coherence times num_independent is nearly exponential, of mean 1, at each frequency.
    significance = float(np.mean(coherence[in_channel] * num_independent - 1) * math.sqrt(np.count_nonzero(in_channel)))
    coherence = np.clip((coherence - 1 / num_independent) / (1 - 1 / num_independent), 0.0, 0.999)
    coherence = np.where(in_channel, coherence, 0.0)
    weights = coherence / (1 - coherence)
    denominator = float(np.sqrt(np.sum(powers[a][in_channel]) * np.sum(powers[b][in_channel])))
    peak = float(np.abs(np.sum(cross[in_channel])) / denominator) if denominator > 0 else 0.0

    def unknown(reason: str) -> TimeDifference:
        return TimeDifference(a, b, None, None, round(min(peak, 1.0), 4), None, reason)

    total = float(weights.sum())
    if total <= 0 or np.count_nonzero(coherence) < 2:
        return unknown("the signals have nothing in common: no modulation, or not the same transmission")
    step_hz = grid.rate_hz / frequencies_hz.size
    # Real signals have no unknown phase.
    centroid_hz = float(np.sum(weights * frequencies_hz) / total) if has_phase else 0.0
    curvature = float(np.sum(weights * (frequencies_hz - centroid_hz) ** 2))
    duration_s = num_blocks * frequencies_hz.size / 2 / grid.rate_hz
    bound_s = 1 / math.sqrt(2 * duration_s * step_hz * (2 * math.pi) ** 2 * curvature) if curvature > 0 else math.inf
    half_bins = (int(np.count_nonzero(in_channel)) - 1) // 2
    delay_s, height, second = _refined(np.where(in_channel, cross, 0), half_bins, step_hz, BLOCK_S / 8)
    peak = height / denominator
    if significance < _MIN_SIGNIFICANCE or peak < MIN_PEAK:
        return unknown("no clear peak in the correlation")
    total_s = offset_s + delay_s
    if abs(total_s) > max_delay_s:
        return unknown(f"the peak at {total_s * 1e6:.1f} us is beyond what geometry allows, {max_delay_s * 1e6:.1f} us")
    part_delays_s = [_slope(part, half_bins, step_hz, delay_s) for part in parts]
    scatter_s = float(np.std(part_delays_s, ddof=1)) / math.sqrt(len(parts)) if len(parts) > 1 else 0.0
    return TimeDifference(
        a,
        b,
        round(total_s * 1e6, 4),
        round(max(scatter_s, bound_s) * 1e6, 4),
        round(min(peak, 1.0), 4),
        round(second, 4),
    )


def _phase_drift(products: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Unit phasors of the phase that is common to all frequencies, smoothed over the blocks: the oscillators' drift."""
    common = products.sum(axis=1)
    window = np.ones(min(_DRIFT_BLOCKS, len(common)))
    smooth = np.convolve(common, window, mode="same")
    size = np.abs(smooth)
    return np.where(size > 0, smooth / np.where(size > 0, size, 1), 1).astype(np.complex64)


def _refined(
    weighted: NDArray[np.complex128], half_bins: int, step_hz: float, reach_s: float
) -> tuple[float, float, float]:
    """Delay, height and second peak (relative) of ``|sum weighted exp(2j pi f tau)|`` for ``|tau| <= reach_s``."""
    fine = 8 * scipy.fft.next_fast_len(weighted.size)
    padded = np.zeros(fine, np.complex128)
    padded[: half_bins + 1] = weighted[: half_bins + 1]
    padded[-half_bins:] = weighted[-half_bins:]
    rate_hz = fine * step_hz
    values = np.abs(scipy.fft.ifft(padded)) * fine
    reach = min(int(reach_s * rate_hz), fine // 2 - 1)
    # S = B conj(A) turns by -2 pi f tau where b is later by tau, so that the inverse transform peaks at +tau.
    window = np.concatenate([values[-reach:], values[: reach + 1]])
    best = int(np.argmax(window))
    start_s = (best - reach) / rate_hz
    delay_s = _slope(weighted, half_bins, step_hz, start_s)
    if abs(delay_s - start_s) > 1 / rate_hz:
        delay_s = start_s
    is_peak = (window[1:-1] > window[:-2]) & (window[1:-1] >= window[2:])
    others = np.flatnonzero(is_peak) + 1
    others = others[np.abs(others - best) > 2]
    second = float(window[others].max() / window[best]) if others.size and window[best] > 0 else 0.0
    return delay_s, float(window[best]), second


@compiled
def _slope(weighted: NDArray[np.complex128], half_bins: int, step_hz: float, start_s: float) -> float:
    """Newton's steps to the maximum of ``|sum weighted exp(2j pi f tau)|`` from a start near it.

    The bins are in the order of a Fourier transform; those from ``-half_bins`` to ``half_bins`` count.
    """
    delay_s = start_s
    for _ in range(4):
        angle = 2 * np.pi * step_hz * delay_s
        step = complex(np.cos(angle), np.sin(angle))
        phasor = complex(1.0, 0.0)
        value, first, second = weighted[0], complex(0.0, 0.0), complex(0.0, 0.0)
        for k in range(1, half_bins + 1):
            phasor *= step
            omega = 2 * np.pi * step_hz * k
            above, below = weighted[k] * phasor, weighted[weighted.size - k] * phasor.conjugate()
            value += above + below
            first += 1j * omega * (above - below)
            second -= omega**2 * (above + below)
        gradient = 2 * (value.conjugate() * first).real
        curvature = 2 * (first.real**2 + first.imag**2 + (value.conjugate() * second).real)
        if curvature >= 0:
            break
        delay_s -= gradient / curvature
    return delay_s


@dataclass(frozen=True, eq=False)
class Modulation:
    """What of a receiver's signal tells time: complex, or real where a steady carrier gives the phase."""

    samples: NDArray[np.complex64]
    is_real: bool


def modulation(
    signal: NDArray[np.complex64], grid: TimeGrid, frequency_hz: float = 0.0, *, has_carrier: bool | None = None
) -> Modulation:
    """Take the part of a signal that tells time, with mean power 1.

    Parameters
    ----------
    signal : ndarray of complex64, shape (grid.num_samples,)
        From `signal_on_grid`.
    grid : TimeGrid
    frequency_hz : float, optional
        Frequency by which the signal is turned back first; has no effect where there is a carrier.
    has_carrier : bool, optional
        Whether the strongest line is treated as a carrier; if None, where it has half of the power.

    Returns
    -------
    Modulation
        Of a steady carrier only the component in quadrature with it, from 20 Hz on: an automatic gain control and the
        keying change the amplitude at each receiver on their own, and dividing by it distorts the phase.
    """
    spectrum = scipy.fft.fft(signal)
    power = np.abs(spectrum) ** 2
    total = float(power.sum())
    if not total > 0:
        return Modulation(np.zeros_like(signal), is_real=False)
    step_hz = grid.rate_hz / signal.size
    line = int(np.argmax(power))
    half = max(1, round(_CARRIER_SMOOTHING_HZ / step_hz))
    around = np.arange(line - half, line + half + 1) % signal.size
    if has_carrier is None:
        has_carrier = bool(power[around].sum() >= _CARRIER_SHARE * total)
    if not has_carrier:
        scale = np.float32(signal.size / math.sqrt(total))
        return Modulation(_turned(signal, frequency_hz, grid.rate_hz) * scale, is_real=False)
    # At 0 Hz the carrier has no step from the end of the samples to their start, which would look like modulation.
    still = _turned(signal, line * step_hz, grid.rate_hz)
    half_way = signal.size // 2
    rest_cycles = float(np.angle(np.vdot(still[:-half_way], still[half_way:]))) / (2 * np.pi * half_way)
    still = _turned(still, rest_cycles * grid.rate_hz, grid.rate_hz)
    kept = scipy.fft.fft(still)
    kept[half + 1 : -half] = 0
    carrier = scipy.fft.ifft(kept)
    quadrature = scipy.fft.fft((still * np.conj(carrier) / np.maximum(np.abs(carrier), 1e-30)).imag.astype(np.float32))
    frequencies_hz = np.abs(scipy.fft.fftfreq(signal.size, 1 / grid.rate_hz))
    quadrature[(frequencies_hz < _MODULATION_BAND_HZ[0]) | (frequencies_hz > _MODULATION_BAND_HZ[1])] = 0
    samples = scipy.fft.ifft(quadrature).astype(np.complex64)
    mean_power = float(np.mean(np.abs(samples) ** 2))
    return Modulation(samples * np.float32(1 / math.sqrt(mean_power)) if mean_power > 0 else samples, is_real=True)


def _turned(signal: NDArray[np.complex64], frequency_hz: float, rate_hz: float) -> NDArray[np.complex64]:
    """The signal shifted down by a frequency."""
    turns = np.exp(-2j * np.pi * frequency_hz / rate_hz * np.arange(signal.size))
    return np.asarray(signal * turns, np.complex64)


def _block_spectra(signal: NDArray[np.complex64], block: int) -> NDArray[np.complex64]:
    """Spectra of blocks that overlap by half, shape (num_blocks, block); the squares of their windows add up to 1."""
    blocks = np.lib.stride_tricks.sliding_window_view(signal, block)[:: block // 2]
    window = np.sin(np.pi * (np.arange(block) + 0.5) / block).astype(np.float32)
    return np.asarray(scipy.fft.fft(blocks * window, axis=1))


def _vertex(values: NDArray[np.floating], at: int, *, wrap: bool) -> float:
    """Position of the maximum of the parabola through a value and its neighbours."""
    size = values.size
    if not wrap and not 0 < at < size - 1:
        return float(at)
    left, middle, right = values[(at - 1) % size], values[at], values[(at + 1) % size]
    bend = left - 2 * middle + right
    return float(at + 0.5 * (left - right) / bend) if bend < 0 else float(at)


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
    """Evaluate the signal at ``start + i step`` samples."""
    num_taps = taps.shape[1]
    half = num_taps // 2
    for i in range(out.size):
        position = start + i * step
        first = int(np.floor(position))
        between = (position - first) * (taps.shape[0] - 2)
        row = int(between)
        share = np.float32(between - row)
        total = np.complex64(0)
        if first - half + 1 >= 0 and first + half < signal.size:
            for k in range(num_taps):
                tap = taps[row, k] + share * (taps[row + 1, k] - taps[row, k])
                total += signal[first - half + 1 + k] * tap
        out[i] = total
