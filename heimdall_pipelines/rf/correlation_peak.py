"""The peak of a correlation from cross spectra: kernels of `segment_tdoa`, compiled, the same on every processor."""

import math

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.exact import cos_sin_of_turns, nearest
from heimdall_pipelines.rf.philox import compiled, cos_sin_turns

PEAK_STEP_S = 20e-6  # of the search
_MOST_COHERENT = 0.99999  # 50 dB
_CONVERGED_S = 1e-10
_TWO_PI = 6.283185307179586


@compiled
def peak_of(
    cross: NDArray[np.complex128],
    power_products: NDArray[np.float64],
    frequencies_hz: NDArray[np.float64],
    steps: NDArray[np.float32],
    group_width_hz: float,
    num_blocks: int,
    num_independent: float,
    duration_s: float,
    low: int,
    high: int,
    is_real: bool,
) -> tuple[float, float, float, float, float, bool]:
    """Delay, height of the peak and of the second, bound, scatter, and whether the peak is at the search's edge.

    ``steps`` is that of `steps_of` for the same frequencies, ``low`` and ``high`` are within it.
    """
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
    _heights(heights, total, steps, low)
    best = 0
    for k in range(heights.size):
        if heights[k] > heights[best]:
            best = k
    second = 0.0
    for k in range(1, heights.size - 1):
        if abs(k - best) > 1 and heights[k] > heights[k - 1] and heights[k] >= heights[k + 1]:
            second = max(second, heights[k])
    second = second / heights[best] if heights[best] > 0 else 0.0
    start_s = (low + best) * PEAK_STEP_S
    delay_s = start_s
    phasors = np.empty((2, num_groups))
    _turns_at(phasors, frequencies_hz, delay_s)
    for _ in range(5):  # Newton's steps
        gradient, curvature, _ = _moments(total, frequencies_hz, phasors)
        if curvature >= 0:
            break
        step_s = gradient / curvature
        delay_s -= step_s
        if abs(delay_s - start_s) > 2 * PEAK_STEP_S:
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
    """Cosines and sines of ``2 pi f tau``, to a millionth."""
    for g in range(frequencies_hz.size):
        turns = frequencies_hz[g] * delay_s
        out[0, g], out[1, g] = cos_sin_turns(np.float32(turns - nearest(turns)))


@compiled
def steps_of(frequencies_hz: NDArray[np.float64], num_steps: int) -> NDArray[np.float32]:
    """Cosines and sines of ``2 pi f k PEAK_STEP_S`` for k from 0 to a number, shape (num_groups, 2, num_steps + 1)."""
    steps = np.empty((frequencies_hz.size, 2, num_steps + 1), np.float32)
    for g in range(frequencies_hz.size):
        turn_re, turn_im = cos_sin_of_turns(frequencies_hz[g] * PEAK_STEP_S)
        x, y = 1.0, 0.0
        for k in range(num_steps + 1):
            steps[g, 0, k], steps[g, 1, k] = x, y
            x, y = x * turn_re - y * turn_im, x * turn_im + y * turn_re
    return steps


@compiled
def _heights(out: NDArray[np.float64], values: NDArray[np.complex128], steps: NDArray[np.float32], low: int) -> None:
    """``|sum v exp(2j pi f tau)|`` at the steps of tau from ``low`` on; the inner loop vectorises.

    A step forward and the same backward share their products.
    """
    reach = max(abs(low), abs(low + out.size - 1)) + 1
    sums = np.zeros((4, reach), np.float32)
    greatest = 0.0
    for g in range(values.size):
        greatest = max(greatest, abs(values[g].real), abs(values[g].imag))
    scale = 1 / greatest if greatest > 0 else 0.0
    re_cos, im_cos, re_sin, im_sin = sums[0], sums[1], sums[2], sums[3]
    for g in range(values.size):
        re, im = np.float32(values[g].real * scale), np.float32(values[g].imag * scale)
        cosines, sines = steps[g, 0, :reach], steps[g, 1, :reach]
        for k in range(reach):
            re_cos[k] += re * cosines[k]
        for k in range(reach):
            im_cos[k] += im * cosines[k]
        for k in range(reach):
            re_sin[k] += re * sines[k]
        for k in range(reach):
            im_sin[k] += im * sines[k]
    for i in range(out.size):
        k = abs(low + i)
        sign = 1.0 if low + i >= 0 else -1.0
        re64 = re_cos[k] - sign * im_sin[k]
        im64 = im_cos[k] + sign * re_sin[k]
        out[i] = greatest * math.sqrt(re64 * re64 + im64 * im64)
