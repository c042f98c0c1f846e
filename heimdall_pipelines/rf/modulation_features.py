"""Features of carrier and propagation from the amplitude and phase of a channel's signal."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled
from heimdall_pipelines.rf.spectrum import SpectrumPlan

_FADING_BLOCK_S = 0.005  # flat fading is a straight line over this, voice above 300 Hz is not
_MIN_DEVIATION_HZ = 200.0  # rms; fading moves an unmodulated carrier too, by some tens of hertz
_MIN_DEVIATION_OVER_NOISE = 4.0  # measured over noise-made variance of the instantaneous frequency
_FAINT = 4.0  # times the power of the noise
_LANES = 32  # partial sums of a kernel, for vectorisation


class SignalMoments(NamedTuple):
    """Measurements of a channel's signal z over time, one number per chunk.

    Attributes
    ----------
    envelope_mean, envelope_std, envelope_max : ndarray of float64
        Of abs(z), full scale.
    crest : ndarray of float64
        Greatest over mean abs(z)**2.
    sign_changes : ndarray of float64
        Share of successive samples between which Re(z) changes its sign.
    faint_share : ndarray of float64
        Share of samples whose power is under four times that of the noise: their phase is mostly noise.
    mean_frequency_hz : ndarray of float64
        Hann-weighted mean of the instantaneous frequency, for signals whose phase can be tracked. The weights let
        audio above some tens of hertz cancel: of 300 Hz and more, in 200 ms, under 2e-6 of the deviation is left.
    slope_us, slope_error_us : ndarray of float64
        Slope of the logarithmic amplitude over the instantaneous frequency over 2 pi, and its standard error; NaN where
        the instantaneous frequency varies too little: by less than 200 Hz rms, or by less than four times the
        variance that the noise alone gives it.
    """

    envelope_mean: NDArray[np.float64]
    envelope_std: NDArray[np.float64]
    envelope_max: NDArray[np.float64]
    crest: NDArray[np.float64]
    sign_changes: NDArray[np.float64]
    faint_share: NDArray[np.float64]
    mean_frequency_hz: NDArray[np.float64]
    slope_us: NDArray[np.float64]
    slope_error_us: NDArray[np.float64]


def signal_moments(
    plan: SpectrumPlan, channel_signal: NDArray[np.complex64], noise_in_channel: NDArray[np.float64]
) -> SignalMoments:
    """Measure envelope, frequency and their dependence on each other.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the signal.
    channel_signal : ndarray of complex64, shape (num_chunks, num_baseband)
        From `reduced_spectra`; the part under the window's taper is left out.
    noise_in_channel : ndarray of float64, shape (num_chunks,)
        Power of the noise in the channel, squares of full scale.

    Returns
    -------
    SignalMoments

    Notes
    -----
    An FM signal sweeps through the channel's transfer function H. To first order about the carrier
    ``ln(abs(z)) = const + 2 pi Im(tau_c) f``, with ``tau_c = j / (2 pi) d ln(H) / df`` the channel's complex delay:
    Im(tau_c) is 0 for one path and of the order of the delay spread for several. It is the slope that is measured.

    Regression weighted by power, since the variance of ln(abs(z)) goes with its inverse. Flat fading drops out with the
    straight lines that are taken out of both sides in each 5 ms. The frequency at sample n is the mean of the steps
    before and after it. Its noise has, weighted by power, the variance ``(r / 2 pi)^2 N / 2 (1 - rho(2)) / 2`` times
    the sum of ones, with r the rate, N the noise in the channel and rho its correlation, and is subtracted, as it would
    flatten the slope. The channel's noise fills the share B / r of the rate: the samples are worth B / r independent
    ones each. The mean of two steps loses 3 % of the deviation of voice: the slope is too steep by as much.
    """
    found = np.empty((len(SignalMoments._fields), len(channel_signal)))
    noise_share = plan.channel_bandwidth_hz / plan.baseband_rate_hz
    _signal_moments(
        found,
        channel_signal.view(np.float32),
        plan.num_trimmed,
        plan.step_weights,
        max(1, round(_FADING_BLOCK_S * plan.baseband_rate_hz)),
        plan.baseband_rate_hz,
        noise_in_channel,
        noise_share,
        float(1 - np.sinc(2 * noise_share)),
    )
    return SignalMoments(*found)


@compiled
def _signal_moments(
    found: NDArray[np.float64],
    components: NDArray[np.float32],
    num_trimmed: int,
    step_weights: NDArray[np.float64],
    block: int,
    rate_hz: float,
    noise_in_channel: NDArray[np.float64],
    noise_share: float,
    lag_two_decorrelation: float,
) -> None:
    """Rows as `SignalMoments` has fields; real and imaginary parts of the signal lie side by side."""
    num_samples = step_weights.size + 1
    used = (num_samples - 2) // block * block
    power = np.empty(num_samples, np.float32)
    magnitude = np.empty(num_samples, np.float32)
    log_power = np.empty(num_samples, np.float32)
    steps_rad = np.empty(num_samples - 1, np.float32)
    x, y, weighted = np.empty(used), np.empty(used), np.empty(used)
    step_to_hz = rate_hz / (2 * np.pi)
    for chunk in range(noise_in_channel.size):
        z = components[chunk, 2 * num_trimmed : 2 * (num_trimmed + num_samples)]
        _powers(power, z)
        _logarithms(log_power, power)
        _phase_steps(steps_rad, z)
        for i in range(num_samples):
            magnitude[i] = np.sqrt(power[i])
        found[0, chunk], found[1, chunk], found[2, chunk], found[3, chunk] = _envelope(magnitude)
        found[4, chunk] = _sign_changes(z) / steps_rad.size
        found[5, chunk] = _count_below(power, np.float32(_FAINT * noise_in_channel[chunk])) / num_samples
        found[6, chunk] = _dot(steps_rad, step_weights) * step_to_hz

        weight = power[1 : used + 1]
        for i in range(used):
            x[i] = (steps_rad[i] + steps_rad[i + 1]) * (step_to_hz / 2)
        for i in range(used):
            y[i] = log_power[i + 1] * 0.5
        _remove_trends(x, y, block)
        for i in range(used):
            weighted[i] = weight[i] * x[i]
        sum_xx, sum_xy = _dot(weighted, x), _dot(weighted, y)
        for i in range(used):
            weighted[i] = weight[i] * y[i]
        sum_yy = _dot(weighted, y)
        sum_weight = _dot(magnitude[1 : used + 1], magnitude[1 : used + 1])

        noise_xx = used * noise_in_channel[chunk] * step_to_hz**2 * lag_two_decorrelation / 4
        is_observable = sum_xx > _MIN_DEVIATION_OVER_NOISE * noise_xx and sum_xx > _MIN_DEVIATION_HZ**2 * sum_weight
        spread_xx = sum_xx - noise_xx if is_observable else np.nan
        residual = max(sum_yy - sum_xy * sum_xy / sum_xx, 0.0) / used
        found[7, chunk] = sum_xy / spread_xx * (1e6 / (2 * np.pi))
        found[8, chunk] = np.sqrt(residual * sum_xx / noise_share) / spread_xx * (1e6 / (2 * np.pi))


@compiled
def _dot(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Sum of products in double precision; several partial sums, for vectorisation without dependencies."""
    lanes = np.zeros(_LANES)
    for start in range(0, a.size, _LANES):
        part_a, part_b = a[start : start + _LANES], b[start : start + _LANES]
        for i in range(part_a.size):
            lanes[i] += np.float64(part_a[i]) * np.float64(part_b[i])
    total = 0.0
    for i in range(_LANES):
        total += lanes[i]
    return total


@compiled
def _powers(out: NDArray[np.float32], z: NDArray[np.float32]) -> None:
    """Squared magnitudes."""
    for i in range(out.size):
        out[i] = z[2 * i] * z[2 * i] + z[2 * i + 1] * z[2 * i + 1]


@compiled
def _logarithms(out: NDArray[np.float32], values: NDArray[np.float32]) -> None:
    """Natural logarithms to a unit in the last place; 0 of 0.

    Exponent and mantissa m apart, 0.71 to 1.41, and ln(m) from its series in (m - 1) / (m + 1). Like `_phase_steps` it
    is written out, since the compiler vectorises it, unlike a library's function.
    """
    bits, mantissa_bits = values.view(np.int32), out.view(np.int32)
    for i in range(out.size):
        mantissa_bits[i] = np.int32(bits[i] - np.int32((bits[i] - np.int32(0x3F3504F3)) & np.int32(-0x800000)))
    for i in range(out.size):
        exponent = np.float32(np.int32(np.int32(bits[i] - np.int32(0x3F3504F3)) >> np.int32(23)))
        u = (out[i] - np.float32(1.0)) / (out[i] + np.float32(1.0))
        square = u * u
        series = np.float32(1 / 5) + square * (np.float32(1 / 7) + square * np.float32(1 / 9))
        series = u + u * square * (np.float32(1 / 3) + square * series)
        logarithm = (series + series) + exponent * np.float32(0.6931471805599453)
        out[i] = logarithm if values[i] > 0 else np.float32(0.0)


@compiled
def _phase_steps(out: NDArray[np.float32], z: NDArray[np.float32]) -> None:
    """Advance of the phase from each sample to the next, -pi to pi, to 2e-7.

    The arc tangent of a number up to 1 is a polynomial (least squares at Chebyshev nodes, error 1e-8).
    """
    for i in range(out.size):
        real = z[2 * i + 2] * z[2 * i] + z[2 * i + 3] * z[2 * i + 1]
        imag = z[2 * i + 3] * z[2 * i] - z[2 * i + 2] * z[2 * i + 1]
        x, y = abs(real), abs(imag)
        larger, smaller = max(x, y), min(x, y)
        t = smaller / larger if larger > 0 else np.float32(0.0)
        square = t * t
        p = np.float32(0.0405767448246479) + square * (
            np.float32(-0.014814576134085655) + square * np.float32(0.002546268980950117)
        )
        p = np.float32(0.10549000650644302) + square * (np.float32(-0.07317517697811127) + square * p)
        p = np.float32(0.19989418983459473) + square * (np.float32(-0.14178992807865143) + square * p)
        angle = t + t * square * (np.float32(-0.33332934975624084) + square * p)
        angle = np.float32(np.pi / 2) - angle if y > x else angle
        angle = np.float32(np.pi) - angle if real < 0 else angle
        out[i] = -angle if imag < 0 else angle


@compiled
def _envelope(magnitude: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Mean, standard deviation and maximum, crest factor. The mean's distance from one sample cannot cancel in it."""
    sums, squares, maxima = np.zeros(_LANES), np.zeros(_LANES), np.zeros(_LANES, np.float32)
    first = np.float64(magnitude[0])
    for start in range(0, magnitude.size, _LANES):
        part = magnitude[start : start + _LANES]
        for i in range(part.size):
            distance = np.float64(part[i]) - first
            sums[i] += distance
            squares[i] += distance * distance
            maxima[i] = max(maxima[i], part[i])
    total, square, highest = 0.0, 0.0, 0.0
    for i in range(_LANES):
        total += sums[i]
        square += squares[i]
        highest = max(highest, np.float64(maxima[i]))
    mean, mean_square = total / magnitude.size, square / magnitude.size
    std = np.sqrt(max(mean_square - mean * mean, 0.0))
    mean_power = first * first + 2 * first * mean + mean_square
    return first + mean, std, highest, highest * highest / mean_power


@compiled
def _sign_changes(z: NDArray[np.float32]) -> int:
    """Number of sign changes of the real part between successive samples."""
    positive = np.empty(z.size // 2, np.uint8)
    for i in range(positive.size):
        positive[i] = np.uint8(z[2 * i] > 0)
    changes = 0
    for i in range(positive.size - 1):
        changes += positive[i] ^ positive[i + 1]
    return changes


@compiled
def _count_below(values: NDArray[np.float32], limit: np.float32) -> int:
    """Number of values below a limit."""
    count = 0
    for i in range(values.size):
        count += values[i] < limit
    return count


@compiled
def _remove_trends(x: NDArray[np.float64], y: NDArray[np.float64], block: int) -> None:
    """Take the straight lines that fit best out of each block of two series.

    Eight sums at a time, of both series and both halves of a block: none waits for the one before.
    """
    ramp = np.arange(block) - (block - 1) / 2
    ramp_square = max(block * (block * block - 1) / 12, 1.0)
    half = block // 2
    for start in range(0, x.size, block):
        part_x, part_y = x[start : start + block], y[start : start + block]
        level_x, slope_x, late_level_x, late_slope_x = 0.0, 0.0, 0.0, 0.0
        level_y, slope_y, late_level_y, late_slope_y = 0.0, 0.0, 0.0, 0.0
        for i in range(half):
            level_x += part_x[i]
            slope_x += part_x[i] * ramp[i]
            late_level_x += part_x[half + i]
            late_slope_x += part_x[half + i] * ramp[half + i]
            level_y += part_y[i]
            slope_y += part_y[i] * ramp[i]
            late_level_y += part_y[half + i]
            late_slope_y += part_y[half + i] * ramp[half + i]
        for i in range(2 * half, block):
            level_x += part_x[i]
            slope_x += part_x[i] * ramp[i]
            level_y += part_y[i]
            slope_y += part_y[i] * ramp[i]
        _subtract_line(part_x, (level_x + late_level_x) / block, (slope_x + late_slope_x) / ramp_square, ramp)
        _subtract_line(part_y, (level_y + late_level_y) / block, (slope_y + late_slope_y) / ramp_square, ramp)


@compiled
def _subtract_line(values: NDArray[np.float64], level: float, slope: float, ramp: NDArray[np.floating]) -> None:
    for i in range(values.size):
        values[i] -= level + slope * ramp[i]
