"""Time differences between all receivers of one segment, as fast as the features of a dataset need them.

`tdoa.py` measures the same from a signal in one piece. Here a signal comes in parts, the chunks of the features, and
what the pairs have in common is computed once for each receiver: its delay and frequency relative to the strongest one
(ambiguity function), its samples at the same instants of the transmission, and their spectra.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import ducc0
import numpy as np
from numpy.typing import ArrayLike, NDArray

from heimdall_pipelines.rf.exact import cos_sin_of_turns, nearest
from heimdall_pipelines.rf.geodesy import propagation_delay_s
from heimdall_pipelines.rf.philox import compiled
from heimdall_pipelines.rf.tdoa import TimeDifference

DELAY_MARGIN_US = 150.0  # of clocks and echoes, beyond the longest delay that the geometry allows
NO_MODULATION = "no modulation: the correlation has no edge that tells time"
NO_PEAK = "no clear peak in the correlation"
TOO_SHORT = "the segment is too short for the delays that the geometry allows"

_BLOCK_S = 0.0256  # of the spectra: long compared with the delays that remain, short compared with the fading
_TAPER = 0.2  # share of a block on which its window rises and falls
_COARSE_BLOCK_S = 0.00128  # frequencies may differ by up to half its inverse, 390 Hz
_GROUP_HZ = 160.0  # of the cross spectra: turns by less than a tenth over the delays that are searched
_DRIFT_BLOCKS = 5  # over which the phase between two receivers is smoothed
_STEP_S = 20e-6  # of the search for the peak
_MOST_STEPS = 75  # of that search in either direction, around the delay that aligns the receivers
_MOST_COHERENT = 0.99999  # 50 dB
_INTERPOLATED = 6  # lags from which the products at a fraction of one are made
_USUAL_PARTS = 5
_CLEARLY_COHERENT = 0.1  # squared correlation of two parts of 190 ms; of noise below 0.02
_CONVERGED_S = 1e-11
_PHASORS = 8  # of which recurrences run side by side
_TWO_PI = 6.283185307179586
_MIN_PEAK_OVER_NOISE = 9.0  # normalised correlation times the root of the number of independent samples; of noise 5.5
_MAX_STD_US = 100.0
_MAX_AMBIGUITY = 0.95  # of the second peak, from which the greatest may be the wrong one


@dataclass(frozen=True, eq=False)
class _Plan:
    """Sizes of the blocks of one shape of signal, and what depends on them alone.

    Attributes
    ----------
    block : int
        Samples.
    decimation, coarse_block : int
        Of the search for the alignment: samples that become one, and of these in a block.
    efficiency : float
        Share of a block's energy that the window keeps.
    half_bins, bins_per_group, num_groups : int
        The channel is the bins from ``-half_bins`` to ``half_bins``, in groups.
    group_width_hz : float
    """

    block: int
    decimation: int
    coarse_block: int
    efficiency: float
    half_bins: int
    bins_per_group: int
    num_groups: int
    group_width_hz: float


def largest_delays_s(latitudes: ArrayLike, longitudes: ArrayLike, altitudes_m: ArrayLike) -> NDArray[np.float64]:
    """Largest time difference of each pair of receivers: light's time between them, and a margin of 150 us.

    Parameters
    ----------
    latitudes, longitudes, altitudes_m : array_like of float, shape (num_receivers,)
        Degrees, and m above the ellipsoid.

    Returns
    -------
    ndarray of float64, shape (num_receivers, num_receivers)
        Seconds.
    """
    lat, lon, alt_m = (np.asarray(values, np.float64) for values in (latitudes, longitudes, altitudes_m))
    apart_s = propagation_delay_s(lat[:, None], lon[:, None], alt_m[:, None], lat[None], lon[None], alt_m[None])
    return apart_s + DELAY_MARGIN_US * 1e-6


def segment_time_differences(
    signals: Sequence[NDArray[np.complex64]],
    *,
    rate_hz: float,
    bandwidth_hz: float,
    max_delays_s: NDArray[np.float64],
    reference: int,
    frequencies_hz: Sequence[float] | None = None,
    is_real: bool = False,
) -> list[TimeDifference]:
    """Measure the time difference of each pair of receivers of one segment.

    Parameters
    ----------
    signals : sequence of ndarray of complex64, shape (num_parts, num_samples)
        Channel of each receiver on one time grid: successive parts without gaps in themselves, at the same times for
        all receivers.
    rate_hz, bandwidth_hz : float
        Of the signals, and of the channel around 0 Hz.
    max_delays_s : ndarray of float64, shape (num_receivers, num_receivers)
        Largest time difference that geometry and clocks allow.
    reference : int
        The strongest receiver, to which the others are aligned.
    frequencies_hz : sequence of float, optional
        Of each receiver, to within 300 Hz of one another; not the carriers' own, but what they differ by counts.
    is_real : bool, optional
        Whether the signals are a carrier's phase (see `tdoa.modulation`), which has neither phase nor frequency.

    Returns
    -------
    list of TimeDifference
        Of the pairs (0, 1), (0, 2), ..., (1, 2), ..., in this order.

    Notes
    -----
    Each receiver is aligned to the reference by the greatest value of the ambiguity function, summed over the parts
    (Stein, IEEE Trans. ASSP-29, 1981), to a fraction of a sample. Cross spectra of blocks of 25.6 ms, whose common
    phase is smoothed over five, are added up; the delay is the maximum of ``|sum S exp(2j pi f tau)|``. ``std_us`` is
    the larger of the scatter of the parts and ``1 / sqrt(2 T sum w (2 pi)^2 (f - fc)^2 df)``, the bound for the
    squared coherence c with ``w = c / (1 - c)`` (Carter, Proc. IEEE 75, 1987).
    """
    num = len(signals)
    pairs = [(a, b) for a in range(num) for b in range(a + 1, num)]
    if num < 2:
        return []
    num_parts, size = signals[0].shape
    plan = _plan(size, float(rate_hz), float(bandwidth_hz))
    cycles = np.zeros(num)  # per sample, relative to the reference
    if frequencies_hz is not None:
        cycles += (np.asarray(frequencies_hz) - frequencies_hz[reference]) / rate_hz
    lags = np.zeros(num)
    for index in range(num):
        if index != reference:
            reach = min(math.ceil(max_delays_s[reference, index] * rate_hz) + 1, (size - plan.block) // 2)
            if reach < 1:
                return [TimeDifference(a, b, None, None, 0.0, None, TOO_SHORT) for a, b in pairs]
            for parts in _parts_to_search(num_parts):
                lags[index], further, coherence = _alignment(
                    _planes(signals[reference][parts], plan.decimation, 0.0),
                    _planes(signals[index][parts], plan.decimation, float(-cycles[index])),
                    plan,
                    reach,
                    is_real=is_real,
                )
                if coherence > _CLEARLY_COHERENT:
                    break
            cycles[index] += further
    whole = np.rint(lags).astype(np.int64)
    first = max(0, int(-whole.min()))
    num_blocks = (size - max(0, int(whole.max())) - first) // plan.block
    if num_blocks < 1:
        return [TimeDifference(a, b, None, None, 0.0, None, TOO_SHORT) for a, b in pairs]
    spectra = np.empty((num, num_parts * num_blocks, 2 * plan.half_bins + 1), np.complex64)
    blocks = np.empty((num_parts * num_blocks, plan.block), np.complex64)
    for index in range(num):
        fraction = float(lags[index] - whole[index])
        _blocks(blocks, signals[index], first + int(whole[index]), fraction, num_blocks, float(-cycles[index]))
        ducc0.fft.c2c(blocks, axes=(1,), out=blocks, nthreads=1)
        _channel(spectra[index], blocks, fraction / plan.block, num_blocks, float(-cycles[index] * plan.block))
    num_groups = plan.num_groups
    powers = np.empty((num, num_groups))
    group_hz = np.empty(num_groups)
    for index in (*range(reference), *range(reference + 1, num), reference):  # of the last the frequencies stay
        _group_powers(powers[index], group_hz, spectra[index], plan.bins_per_group)
    group_hz *= rate_hz / plan.block
    cross = np.empty((num_parts, num_groups), np.complex128)
    grouped = np.empty((num_parts * num_blocks, num_groups), np.complex64)
    samples_used = num_parts * num_blocks * plan.block * plan.efficiency
    found = []
    for a, b in pairs:
        _cross(cross, grouped, spectra[a], spectra[b], plan.bins_per_group, is_real)
        offset_s = (lags[b] - lags[a]) / rate_hz
        found.append(
            _difference(
                a,
                b,
                cross,
                powers[a] * powers[b],
                group_hz,
                plan,
                num_blocks=num_parts * num_blocks,
                duration_s=samples_used / rate_hz,
                offset_s=float(offset_s),
                max_delay_s=float(max_delays_s[a, b]),
                is_real=is_real,
            )
        )
    return found


@functools.lru_cache(maxsize=16)
def _plan(size: int, rate_hz: float, bandwidth_hz: float) -> _Plan:
    wanted = round(_BLOCK_S * rate_hz)
    block = min(wanted, int(0.8 * size))
    while block > 8 and ducc0.fft.good_size(block) != block:
        block -= 1
    bin_hz = rate_hz / block
    bins_per_group = max(1, round(_GROUP_HZ / bin_hz))
    half_bins = max(bins_per_group, int(bandwidth_hz / 2 / bin_hz))
    decimation = max(1, math.floor(rate_hz / bandwidth_hz * 1.001))
    return _Plan(
        block=block,
        decimation=decimation,
        coarse_block=max(4, round(_COARSE_BLOCK_S * rate_hz / decimation)),
        efficiency=float(np.mean([_window(n, block) ** 2 for n in range(block)])),
        half_bins=half_bins,
        bins_per_group=bins_per_group,
        num_groups=(2 * half_bins + 1) // bins_per_group,
        group_width_hz=bins_per_group * bin_hz,
    )


def _parts_to_search(num_parts: int) -> tuple[slice, ...]:
    """Parts in which the alignment is searched: in two, and in all where that is not clear."""
    whole = slice(0, num_parts)
    return (slice(1, num_parts, 2), whole) if num_parts == _USUAL_PARTS else (whole,)


def _alignment(
    reference: NDArray[np.float32], other: NDArray[np.float32], plan: _Plan, reach: int, *, is_real: bool
) -> tuple[float, float, float]:
    """Delay in samples and frequency in cycles a sample at which the two are most alike, and how alike they are."""
    _, num_parts, size = reference.shape
    reach = -(-reach // plan.decimation)
    num_blocks = (size - 2 * reach) // plan.coarse_block
    if num_blocks < 2:
        return 0.0, 0.0, 0.0
    num_frequencies = int(ducc0.fft.good_size(2 * num_blocks))
    products = np.zeros((num_parts, 2 * reach + 1, num_frequencies), np.complex64)
    _lag_products(products, reference, other, reach, plan.coarse_block, num_blocks)
    if is_real:
        heights = np.abs(products.sum(axis=(0, 2), dtype=np.complex128)) ** 2
        best = int(np.argmax(heights))
        return plan.decimation * (best - reach + _vertex(heights, best)), 0.0, 0.0
    transformed = ducc0.fft.c2c(products, axes=(2,), nthreads=1)
    surface = np.empty((2 * reach + 1, num_frequencies), np.float32)
    lag, row = divmod(_surface(surface, transformed), num_frequencies)
    fraction = _vertex(surface[:, row].astype(np.float64), lag)
    cycles = _refined_cycles(products, lag, fraction, row / num_frequencies, num_blocks)
    delay = plan.decimation * (lag - reach + fraction)
    coherence = float(surface[lag, row]) / max(_energy_product(reference, other), 1e-30)
    return delay, cycles / (plan.coarse_block * plan.decimation), coherence


@compiled
def _energy_product(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Sum over the parts of the product of their energies: the greatest possible height of the surface."""
    total = 0.0
    for part in range(one.shape[1]):
        first, second = 0.0, 0.0
        for plane in range(2):
            for n in range(one.shape[2]):
                first += one[plane, part, n] * one[plane, part, n]
                second += other[plane, part, n] * other[plane, part, n]
        total += first * second
    return total


@compiled
def _refined_cycles(products: NDArray[np.complex64], lag: int, fraction: float, start: float, num_blocks: int) -> float:
    """Frequency in cycles a block at which the products of a fraction of a lag add up best; within half a cycle.

    What two receivers differ by in frequency makes noise of the modulation, and must be known to a fraction of a hertz.
    """
    num_parts, num_lags, _ = products.shape
    first = min(max(lag - _INTERPOLATED // 2 + (1 if fraction >= 0 else 0), 0), max(num_lags - _INTERPOLATED, 0))
    num = min(_INTERPOLATED, num_lags)
    position = lag - first + fraction
    between = np.zeros((num_parts, num_blocks), np.complex128)
    for i in range(num):  # Lagrange's interpolation
        weight = 1.0
        for k in range(num):
            if k != i:
                weight *= (position - k) / (i - k)
        for part in range(num_parts):
            for n in range(num_blocks):
                between[part, n] += weight * products[part, first + i, n]
    middle = 0.5 * (num_blocks - 1)
    cycles = start
    for _ in range(6):  # Newton's steps
        gradient, curvature = 0.0, 0.0
        for part in range(num_parts):
            zeroth, moment, square = 0j, 0j, 0j
            for n in range(num_blocks):
                cosine, sine = cos_sin_of_turns(-cycles * (n - middle))
                value = between[part, n] * complex(cosine, sine)
                zeroth += value
                moment += (n - middle) * value
                square += (n - middle) * (n - middle) * value
            gradient += 2 * _TWO_PI * (zeroth.real * moment.imag - zeroth.imag * moment.real)
            squares = moment.real * moment.real + moment.imag * moment.imag
            curvature += 2 * _TWO_PI * _TWO_PI * (squares - zeroth.real * square.real - zeroth.imag * square.imag)
        if curvature >= 0:
            break
        step = gradient / curvature
        cycles -= step
        if abs(cycles - start) > 1.0 / num_blocks:
            cycles = start
            break
        if abs(step) < 1e-9:
            break
    return cycles - nearest(cycles)


def _vertex(values: NDArray[np.float64], at: int) -> float:
    """Where the parabola through the logarithms of a value and its neighbours is greatest, relative to the value."""
    if not 0 < at < values.size - 1:
        return 0.0
    with np.errstate(divide="ignore"):
        left, middle, right = np.log(values[at - 1 : at + 2])
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if -np.inf < bend < 0 else 0.0


def _difference(
    a: int,
    b: int,
    cross: NDArray[np.complex128],
    power_products: NDArray[np.float64],
    group_hz: NDArray[np.float64],
    plan: _Plan,
    *,
    num_blocks: int,
    duration_s: float,
    offset_s: float,
    max_delay_s: float,
    is_real: bool,
) -> TimeDifference:
    """Time difference from the parts' cross spectra, which are sums over their blocks."""
    num_independent = max(num_blocks * plan.bins_per_group * plan.efficiency, 2.0)
    low = max(math.ceil((-max_delay_s - offset_s) / _STEP_S), -_MOST_STEPS)
    high = min(math.floor((max_delay_s - offset_s) / _STEP_S), _MOST_STEPS)
    if high - low < 2:
        low, high = -1, 1
    delay_s, peak, second, bound_s, scatter_s, at_edge = _measured(
        cross,
        power_products,
        group_hz,
        plan.group_width_hz,
        num_blocks,
        num_independent,
        duration_s,
        low,
        high,
        is_real,
    )
    total_s = offset_s + delay_s

    def unknown(reason: str) -> TimeDifference:
        return TimeDifference(a, b, None, None, peak, second, reason)

    if not peak > 0:
        return unknown(NO_MODULATION)
    if peak < _MIN_PEAK_OVER_NOISE / math.sqrt(duration_s * plan.num_groups * plan.group_width_hz):
        return unknown(NO_PEAK)
    if at_edge or abs(total_s) > max_delay_s:
        return unknown(f"the peak is at the edge of what geometry allows, {max_delay_s * 1e6:.0f} us, or beyond")
    std_s = max(scatter_s, bound_s)
    if not std_s * 1e6 <= _MAX_STD_US:
        return unknown(NO_MODULATION)
    if second > _MAX_AMBIGUITY:
        return unknown(f"the second peak of the correlation is {second:.2f} of the first: either may be the right one")
    return TimeDifference(a, b, total_s * 1e6, std_s * 1e6, peak, second)


@compiled
def _measured(
    cross: NDArray[np.complex128],
    power_products: NDArray[np.float64],
    frequencies_hz: NDArray[np.float64],
    group_width_hz: float,
    num_blocks: int,
    num_independent: float,
    duration_s: float,
    low: int,
    high: int,
    is_real: bool,
) -> tuple[float, float, float, float, float, bool]:
    """Delay, height of the peak and of the second, bound, scatter, and whether the peak is at the search's edge."""
    num_parts, num_groups = cross.shape
    total = np.zeros(num_groups, np.complex128)
    scale = 0.0
    for g in range(num_groups):
        for part in range(num_parts):
            total[g] += cross[part, g]
        total[g] /= num_blocks
        scale += math.sqrt(power_products[g])
    if not scale > 0:
        return 0.0, 0.0, 0.0, np.inf, np.inf, False
    heights = np.empty(high - low + 1)
    _heights(heights, total, frequencies_hz, low * _STEP_S, _STEP_S)
    best = 0
    for k in range(heights.size):
        if heights[k] > heights[best]:
            best = k
    second = 0.0
    for k in range(1, heights.size - 1):
        if abs(k - best) > 1 and heights[k] > heights[k - 1] and heights[k] >= heights[k + 1]:
            second = max(second, heights[k])
    second = second / heights[best] if heights[best] > 0 else 0.0
    start_s = (low + best) * _STEP_S
    delay_s = start_s
    phasors = np.empty((2, num_groups))
    _turns_at(phasors, frequencies_hz, delay_s)
    for _ in range(5):  # Newton's steps
        gradient, curvature, _ = _moments(total, frequencies_hz, phasors)
        if curvature >= 0:
            break
        step_s = gradient / curvature
        delay_s -= step_s
        if abs(delay_s - start_s) > 2 * _STEP_S:
            delay_s = start_s
        _turns_at(phasors, frequencies_hz, delay_s)
        if delay_s == start_s or abs(step_s) < _CONVERGED_S:
            break
    _, _, height = _moments(total, frequencies_hz, phasors)
    bound_s = _bound_s(total, power_products, frequencies_hz, num_independent, duration_s * group_width_hz, is_real)
    scatter_s = _scatter_s(cross, frequencies_hz, phasors)
    at_edge = best == 0 or best == heights.size - 1
    return delay_s, min(height / scale, 1.0), second, bound_s, scatter_s, at_edge


@compiled
def _bound_s(
    total: NDArray[np.complex128],
    power_products: NDArray[np.float64],
    frequencies_hz: NDArray[np.float64],
    num_independent: float,
    samples_per_group: float,
    is_real: bool,
) -> float:
    """Least standard deviation for the coherence that was found; infinite where nothing tells time."""
    weights = np.zeros(total.size)
    total_weight, centroid_hz = 0.0, 0.0
    for g in range(total.size):
        if power_products[g] > 0:
            square = total[g].real * total[g].real + total[g].imag * total[g].imag
            coherence = (square / power_products[g] - 1 / num_independent) / (1 - 1 / num_independent)
            coherence = min(max(coherence, 0.0), _MOST_COHERENT)
            weights[g] = coherence / (1 - coherence)
            total_weight += weights[g]
            centroid_hz += weights[g] * frequencies_hz[g]
    if not total_weight > 0:
        return np.inf
    centroid_hz = 0.0 if is_real else centroid_hz / total_weight  # real signals have no unknown phase
    curvature = 0.0
    for g in range(total.size):
        curvature += weights[g] * (frequencies_hz[g] - centroid_hz) * (frequencies_hz[g] - centroid_hz)
    return 1 / (_TWO_PI * math.sqrt(2 * samples_per_group * curvature)) if curvature > 0 else np.inf


@compiled
def _scatter_s(
    cross: NDArray[np.complex128], frequencies_hz: NDArray[np.float64], phasors: NDArray[np.float64]
) -> float:
    """Standard error of the mean of the parts' delays, each by one step from the delay of all; 0 for one part.

    Parts are weighted as they enter the sum: one in a deep fade has no say.
    """
    num = cross.shape[0]
    sizes, delays_s = np.empty(num), np.empty(num)
    total, mean = 0.0, 0.0
    for part in range(num):
        gradient, curvature, sizes[part] = _moments(cross[part], frequencies_hz, phasors)
        delays_s[part] = -gradient / curvature if curvature < 0 else 0.0
        total += sizes[part]
        mean += sizes[part] * delays_s[part]
    if num < 2:
        return 0.0
    if not total > 0:
        return np.inf
    mean /= total
    square = 0.0
    for part in range(num):
        square += (sizes[part] * (delays_s[part] - mean)) ** 2
    return math.sqrt(square * num / (num - 1)) / total


@compiled
def _moments(
    values: NDArray[np.complex128], frequencies_hz: NDArray[np.float64], phasors: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Gradient and curvature of ``|sum v exp(2j pi f tau)|^2`` over tau, and the magnitude of the sum."""
    zeroth_re, zeroth_im, first_re, first_im, second_re, second_im = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for g in range(values.size):
        omega, cosine, sine = _TWO_PI * frequencies_hz[g], phasors[0, g], phasors[1, g]
        re = values[g].real * cosine - values[g].imag * sine
        im = values[g].real * sine + values[g].imag * cosine
        zeroth_re += re
        zeroth_im += im
        first_re -= omega * im
        first_im += omega * re
        second_re -= omega * omega * re
        second_im -= omega * omega * im
    gradient = 2 * (zeroth_re * first_re + zeroth_im * first_im)
    squares = first_re * first_re + first_im * first_im
    curvature = 2 * (squares + zeroth_re * second_re + zeroth_im * second_im)
    return gradient, curvature, math.sqrt(zeroth_re * zeroth_re + zeroth_im * zeroth_im)


@compiled
def _turns_at(out: NDArray[np.float64], frequencies_hz: NDArray[np.float64], delay_s: float) -> None:
    """Cosines and sines of ``2 pi f tau``."""
    for g in range(frequencies_hz.size):
        out[0, g], out[1, g] = cos_sin_of_turns(frequencies_hz[g] * delay_s)


@compiled
def _heights(
    out: NDArray[np.float64],
    values: NDArray[np.complex128],
    frequencies_hz: NDArray[np.float64],
    start_s: float,
    step_s: float,
) -> None:
    """``|sum v exp(2j pi f tau)|`` at equal steps of tau."""
    re, im = np.zeros(out.size), np.zeros(out.size)
    for g in range(values.size):
        cosine, sine = cos_sin_of_turns(frequencies_hz[g] * start_s)
        turn_re, turn_im = cos_sin_of_turns(frequencies_hz[g] * step_s)
        x = values[g].real * cosine - values[g].imag * sine
        y = values[g].real * sine + values[g].imag * cosine
        for k in range(out.size):
            re[k] += x
            im[k] += y
            x, y = x * turn_re - y * turn_im, x * turn_im + y * turn_re
    for k in range(out.size):
        out[k] = math.sqrt(re[k] * re[k] + im[k] * im[k])


def _planes(signal: NDArray[np.complex64], step: int, cycles: float) -> NDArray[np.float32]:
    """Real and imaginary parts of every so many samples, turned by a frequency in cycles a sample of the signal."""
    planes = np.empty((2, signal.shape[0], -(-signal.shape[1] // step)), np.float32)
    _fill_planes(planes, signal, step, cycles * step)
    return planes


@compiled
def _fill_planes(out: NDArray[np.float32], signal: NDArray[np.complex64], step: int, cycles: float) -> None:
    phasors = np.empty((2, out.shape[2]), np.float32)
    _fill_phasors(phasors, cycles)
    for part in range(signal.shape[0]):
        for n in range(out.shape[2]):
            value = signal[part, n * step]
            out[0, part, n] = value.real * phasors[0, n] - value.imag * phasors[1, n]
            out[1, part, n] = value.real * phasors[1, n] + value.imag * phasors[0, n]


@compiled
def _fill_phasors(out: NDArray[np.float32], cycles: float) -> None:
    """Cosines and sines of a phase that grows by so many turns from one to the next."""
    turn_re, turn_im = cos_sin_of_turns(_PHASORS * cycles)
    for first in range(min(_PHASORS, out.shape[1])):
        x, y = cos_sin_of_turns(first * cycles)
        for n in range(first, out.shape[1], _PHASORS):
            out[0, n], out[1, n] = x, y
            x, y = x * turn_re - y * turn_im, x * turn_im + y * turn_re


@compiled
def _lag_products(
    out: NDArray[np.complex64],
    reference: NDArray[np.float32],
    other: NDArray[np.float32],
    reach: int,
    block: int,
    num_blocks: int,
) -> None:
    """Sums over short blocks of ``other[n + lag] conj(reference[n])`` for all lags; the inner loops vectorise."""
    num_lags = 2 * reach + 1
    re, im = np.empty(num_lags, np.float32), np.empty(num_lags, np.float32)
    for part in range(reference.shape[1]):
        for number in range(num_blocks):
            re[:] = np.float32(0)
            im[:] = np.float32(0)
            first = reach + number * block
            for n in range(first, first + block):
                x, y = reference[0, part, n], reference[1, part, n]
                other_re = other[0, part, n - reach : n - reach + num_lags]
                other_im = other[1, part, n - reach : n - reach + num_lags]
                for lag in range(num_lags):
                    re[lag] += other_re[lag] * x + other_im[lag] * y
                for lag in range(num_lags):
                    im[lag] += other_im[lag] * x - other_re[lag] * y
            for lag in range(num_lags):
                out[part, lag, number] = complex(re[lag], im[lag])


@compiled
def _surface(out: NDArray[np.float32], products: NDArray[np.complex64]) -> int:
    """Squared magnitudes summed over the parts; where the greatest is."""
    greatest, best = np.float32(-1), 0
    for lag in range(out.shape[0]):
        for k in range(out.shape[1]):
            total = np.float32(0)
            for part in range(products.shape[0]):
                value = products[part, lag, k]
                total += value.real * value.real + value.imag * value.imag
            out[lag, k] = total
            if total > greatest:
                greatest, best = total, lag * out.shape[1] + k
    return best


@compiled
def _window(position: float, size: int) -> float:
    """Tukey window of a block at a position in samples; 0 outside, half a sample within the block's ends."""
    rise = 0.5 * _TAPER * size
    into = min(position - 0.5, size - 1.5 - position)
    if into <= 0:
        return 0.0
    if into >= rise:
        return 1.0
    cosine, _ = cos_sin_of_turns(into / (2 * rise))
    return 0.5 - 0.5 * cosine


@compiled
def _blocks(
    out: NDArray[np.complex64],
    signal: NDArray[np.complex64],
    first: int,
    fraction: float,
    num_blocks: int,
    cycles: float,
) -> None:
    """Windowed blocks of each part, each turned by a frequency in cycles a sample.

    The window begins at a fraction of a sample: it lies at the same instants of the transmission for all receivers.
    """
    size = out.shape[1]
    phasors = np.empty((2, size), np.float32)
    _fill_phasors(phasors, cycles)
    for n in range(size):
        weight = np.float32(_window(n - fraction, size))
        phasors[0, n] *= weight
        phasors[1, n] *= weight
    for row in range(out.shape[0]):
        start = first + (row % num_blocks) * size
        values = signal[row // num_blocks, start : start + size]
        for n in range(size):
            re, im = values[n].real, values[n].imag
            out[row, n] = complex(re * phasors[0, n] - im * phasors[1, n], re * phasors[1, n] + im * phasors[0, n])


@compiled
def _channel(
    out: NDArray[np.complex64],
    blocks: NDArray[np.complex64],
    turns_per_bin: float,
    num_blocks: int,
    turns_per_block: float,
) -> None:
    """The channel's bins by ascending frequency, without the rest of the delay, with a phase that runs on in a part."""
    half = out.shape[1] // 2
    phasors = np.empty((2, out.shape[1]), np.float32)
    turned = np.empty((2, out.shape[1]), np.float32)
    for k in range(out.shape[1]):
        phasors[0, k], phasors[1, k] = cos_sin_of_turns((k - half) * turns_per_bin)
    for row in range(out.shape[0]):
        re, im = cos_sin_of_turns((row % num_blocks) * turns_per_block)
        x, y = np.float32(re), np.float32(im)
        for k in range(out.shape[1]):
            turned[0, k] = phasors[0, k] * x - phasors[1, k] * y
            turned[1, k] = phasors[0, k] * y + phasors[1, k] * x
        lower, upper = blocks[row, blocks.shape[1] - half :], blocks[row]
        for k in range(half):
            re, im = lower[k].real, lower[k].imag
            out[row, k] = complex(re * turned[0, k] - im * turned[1, k], re * turned[1, k] + im * turned[0, k])
        for k in range(half + 1):
            x, y = turned[0, half + k], turned[1, half + k]
            re, im = upper[k].real, upper[k].imag
            out[row, half + k] = complex(re * x - im * y, re * y + im * x)


@compiled
def _group_powers(
    out: NDArray[np.float64], centroids: NDArray[np.float64], spectra: NDArray[np.complex64], bins_per_group: int
) -> None:
    """Mean power over the blocks of each group of bins, and the mean of its frequency, in bins."""
    num_rows, num_bins = spectra.shape
    powers = np.zeros(num_bins, np.float32)
    for row in range(num_rows):
        for k in range(num_bins):
            value = spectra[row, k]
            powers[k] += value.real * value.real + value.imag * value.imag
    for g in range(out.size):
        total, moment = 0.0, 0.0
        for k in range(g * bins_per_group, (g + 1) * bins_per_group):
            total += powers[k]
            moment += (k - num_bins // 2) * powers[k]
        out[g] = total / num_rows
        centroids[g] = moment / total if total > 0 else (g + 0.5) * bins_per_group - 0.5 - num_bins // 2


@compiled
def _cross(
    out: NDArray[np.complex128],
    grouped: NDArray[np.complex64],
    first: NDArray[np.complex64],
    second: NDArray[np.complex64],
    bins_per_group: int,
    is_real: bool,
) -> None:
    """Sum over each part's blocks of the grouped cross spectra, without the phase that all frequencies share."""
    num_parts, num_groups = out.shape
    num_blocks = grouped.shape[0] // num_parts
    common_re, common_im = np.empty(num_blocks), np.empty(num_blocks)
    for part in range(num_parts):
        for number in range(num_blocks):
            row = part * num_blocks + number
            total_re, total_im = 0.0, 0.0
            for g in range(num_groups):
                re, im = np.float32(0), np.float32(0)
                for k in range(g * bins_per_group, (g + 1) * bins_per_group):
                    x, y = first[row, k], second[row, k]
                    re += y.real * x.real + y.imag * x.imag
                    im += y.imag * x.real - y.real * x.imag
                grouped[row, g] = complex(re, im)
                total_re += re
                total_im += im
            common_re[number], common_im[number] = total_re, total_im
        for g in range(num_groups):
            out[part, g] = 0.0
        for number in range(num_blocks):
            x, y = 1.0, 0.0
            if not is_real:
                x, y = 0.0, 0.0
                for near in range(
                    max(0, number - _DRIFT_BLOCKS // 2), min(num_blocks, number + _DRIFT_BLOCKS // 2 + 1)
                ):
                    x += common_re[near]
                    y += common_im[near]
                size = math.sqrt(x * x + y * y)
                if size > 0:
                    x, y = x / size, y / size
                else:
                    x, y = 1.0, 0.0
            row = part * num_blocks + number
            for g in range(num_groups):
                re, im = grouped[row, g].real, grouped[row, g].imag
                out[part, g] += complex(re * x + im * y, im * x - re * y)
