"""From the channels of receivers to their cross spectra: kernels of `segment_tdoa`, compiled.

Sums are in the order written, sines are those of `exact`: the results are the same on every processor.
"""

import math

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.exact import cos_sin_of_turns, nearest
from heimdall_pipelines.rf.philox import compiled

_TAPER = 0.08  # share of a block on which its window rises and falls, 2 ms: what it leaves out tells no time
_DRIFT_BLOCKS = 5  # over which the phase between two receivers is smoothed
_INTERPOLATED = 6  # lags from which the products at a fraction of one are made
_PHASORS = 8  # of which recurrences run side by side
_TWO_PI = 6.283185307179586


@compiled
def energy_product(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
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
def refined_cycles(products: NDArray[np.complex64], lag: int, fraction: float, start: float, num_blocks: int) -> float:
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
        begin_re, begin_im = cos_sin_of_turns(cycles * middle)
        turn_re, turn_im = cos_sin_of_turns(-cycles)
        turn = complex(turn_re, turn_im)
        for part in range(num_parts):
            zeroth, moment, square = 0j, 0j, 0j
            phasor = complex(begin_re, begin_im)
            for n in range(num_blocks):
                value = between[part, n] * phasor
                phasor *= turn
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


def planes_of(signal: NDArray[np.complex64], step: int, cycles: float) -> NDArray[np.float32]:
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
def fill_lag_products(
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
def fill_surface(out: NDArray[np.float32], products: NDArray[np.complex64]) -> int:
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
def window_at(position: float, size: int) -> float:
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
def fill_blocks(
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
        weight = np.float32(window_at(n - fraction, size))
        phasors[0, n] *= weight
        phasors[1, n] *= weight
    for row in range(out.shape[0]):
        start = first + (row % num_blocks) * size
        values = signal[row // num_blocks, start : start + size]
        for n in range(size):
            re, im = values[n].real, values[n].imag
            out[row, n] = complex(re * phasors[0, n] - im * phasors[1, n], re * phasors[1, n] + im * phasors[0, n])


@compiled
def fill_channel(
    out: NDArray[np.float32],
    blocks: NDArray[np.complex64],
    turns_per_bin: float,
    num_blocks: int,
    turns_per_block: float,
) -> None:
    """The channel's bins by ascending frequency, without the rest of the delay, with a phase that runs on in a part.

    Bin ``g * bins_per_group + k`` is element ``(row, plane, k, g)``: loops over the groups vectorise.
    """
    num_rows, _, bins_per_group, num_groups = out.shape
    num_bins = bins_per_group * num_groups
    half, size = num_bins // 2, blocks.shape[1]
    phasors = np.empty((2, num_bins), np.float32)
    turned = np.empty((2, num_bins), np.float32)
    _fill_phasors(phasors, turns_per_bin)
    for row in range(num_rows):
        begin_re, begin_im = cos_sin_of_turns((row % num_blocks) * turns_per_block - half * turns_per_bin)
        cosine, sine = np.float32(begin_re), np.float32(begin_im)
        for k in range(num_bins):
            turned[0, k] = phasors[0, k] * cosine - phasors[1, k] * sine
            turned[1, k] = phasors[0, k] * sine + phasors[1, k] * cosine
        at = size - half if half > 0 else 0
        k = 0
        for g in range(num_groups):
            for within in range(bins_per_group):
                value, x, y = blocks[row, at], turned[0, k], turned[1, k]
                out[row, 0, within, g] = value.real * x - value.imag * y
                out[row, 1, within, g] = value.real * y + value.imag * x
                k += 1
                at = at + 1 if at + 1 < size else 0


@compiled
def fill_group_powers(out: NDArray[np.float64], centroids: NDArray[np.float64], spectra: NDArray[np.float32]) -> None:
    """Mean power over the blocks of each group of bins, and the mean of its frequency, in bins."""
    num_rows, _, bins_per_group, num_groups = spectra.shape
    half = bins_per_group * num_groups // 2
    powers = _powers(spectra)
    for g in range(num_groups):
        total, moment = 0.0, 0.0
        for k in range(bins_per_group):
            total += powers[k, g]
            moment += (g * bins_per_group + k - half) * powers[k, g]
        out[g] = total / num_rows
        centroids[g] = moment / total if total > 0 else (g + 0.5) * bins_per_group - 0.5 - half


@compiled
def _powers(spectra: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power of each bin, summed over the blocks."""
    powers = np.zeros((spectra.shape[2], spectra.shape[3]), np.float32)
    for row in range(spectra.shape[0]):
        for k in range(powers.shape[0]):
            re, im, total = spectra[row, 0, k], spectra[row, 1, k], powers[k]
            for g in range(total.size):
                total[g] += re[g] * re[g] + im[g] * im[g]
    return powers


@compiled
def line_share(spectra: NDArray[np.float32]) -> float:
    """Share of the signal's power in the strongest bin and two on either side; noise, the median bin, is subtracted."""
    by_group = _powers(spectra)
    powers = np.empty(by_group.size)
    for k in range(by_group.shape[0]):
        powers[k :: by_group.shape[0]] = by_group[k]
    noise = np.median(powers)
    line = np.argmax(powers)
    around = powers[max(0, line - 2) : line + 3]
    signal = powers.sum() - noise * powers.size
    return (around.sum() - noise * around.size) / signal if signal > 0 else 0.0


@compiled
def fill_cross(
    out: NDArray[np.complex128],
    grouped: NDArray[np.float32],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    is_real: bool,
) -> None:
    """Sum over each part's blocks of the grouped cross spectra, without the phase that all frequencies share.

    ``grouped``, shape (num_rows, 2, num_groups), is used for those of the blocks.
    """
    num_parts, num_groups = out.shape
    num_blocks = grouped.shape[0] // num_parts
    common_re, common_im = np.empty(num_blocks), np.empty(num_blocks)
    sums = np.empty((2, num_groups))
    for part in range(num_parts):
        for number in range(num_blocks):
            row = part * num_blocks + number
            _multiply(grouped[row], first[row], second[row])
            total_re, total_im = 0.0, 0.0
            for g in range(num_groups):
                total_re += grouped[row, 0, g]
                total_im += grouped[row, 1, g]
            common_re[number], common_im[number] = total_re, total_im
        sums[:] = 0.0
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
            _add_turned(sums, grouped[part * num_blocks + number], x, y)
        for g in range(num_groups):
            out[part, g] = complex(sums[0, g], sums[1, g])


@compiled
def _multiply(out: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    """Sums over the bins of each group of ``second conj(first)``; the inner loop vectorises."""
    re, im = out[0], out[1]
    re[:] = np.float32(0)
    im[:] = np.float32(0)
    for k in range(first.shape[1]):
        a, b, c, d = first[0, k], first[1, k], second[0, k], second[1, k]
        for g in range(re.size):
            re[g] += c[g] * a[g] + d[g] * b[g]
        for g in range(re.size):
            im[g] += d[g] * a[g] - c[g] * b[g]


@compiled
def _add_turned(sums: NDArray[np.float64], values: NDArray[np.float32], x: float, y: float) -> None:
    """Add ``values conj(x + jy)``."""
    re, im = values[0], values[1]
    for g in range(re.size):
        sums[0, g] += re[g] * x + im[g] * y
    for g in range(re.size):
        sums[1, g] += im[g] * x - re[g] * y
