"""What the amplitude and the phase of a channel's signal say about carrier and propagation."""

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.spectrum import SpectrumPlan

_FADING_BLOCK_S = 0.005  # flat fading is a straight line over this, voice above 300 Hz is not
_MIN_DEVIATION_HZ = 200.0  # rms; fading moves an unmodulated carrier too, by some tens of hertz
_MIN_DEVIATION_OVER_NOISE = 4.0  # measured over noise-made variance of the instantaneous frequency


def phase_steps_rad(signal: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Advance of the phase from each sample to the next, -pi to pi; one shorter than the signal."""
    product = signal[:, 1:] * signal[:, :-1].conj()
    return np.asarray(np.arctan2(product.imag, product.real))


def mean_frequency_hz(plan: SpectrumPlan, steps_rad: NDArray[np.float32]) -> NDArray[np.float64]:
    """Carrier frequency of a signal whose phase can be followed: Hann-weighted mean of the instantaneous frequency.

    The weights let audio above some tens of hertz cancel: of 300 Hz and more, in 200 ms, under 2e-6 of the deviation
    is left.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the signal.
    steps_rad : ndarray of float32, shape (num_chunks, num_steps)
        From `phase_steps_rad`.

    Returns
    -------
    ndarray of float64, shape (num_chunks,)
        Hz.
    """
    weights = np.hanning(steps_rad.shape[1] + 2)[1:-1]
    mean_step_rad = steps_rad.astype(np.float64) @ weights / weights.sum()
    return np.asarray(mean_step_rad * (plan.baseband_rate_hz / (2 * np.pi)))


def circular_mean_frequency_hz(plan: SpectrumPlan, signal_bin_power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carrier frequency of a signal whose phase is lost in noise: angle of the autocorrelation at lag 1.

    The sum of ``z[n+1] * conj(z[n])`` over a chunk is the Fourier transform of its power spectrum at lag 1. With the
    noise's power taken out of the spectrum its own autocorrelation, which would pull the angle to 0, is taken out too.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the spectrum.
    signal_bin_power : ndarray of float64, shape (num_chunks, num_channel_bins)
        Power of each bin less that of the noise.

    Returns
    -------
    ndarray of float64, shape (num_chunks,)
        Hz.
    """
    turn = plan.channel_frequencies_hz * (2 * np.pi / plan.baseband_rate_hz)
    angle = np.arctan2(signal_bin_power @ np.sin(turn), signal_bin_power @ np.cos(turn))
    return angle * (plan.baseband_rate_hz / (2 * np.pi))


def amplitude_slope_us(
    plan: SpectrumPlan,
    signal_power: NDArray[np.float32],
    steps_rad: NDArray[np.float32],
    noise_in_channel: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope of the logarithmic amplitude over the instantaneous frequency, in units of time.

    An FM signal sweeps through the channel's transfer function H. To first order about the carrier
    ``ln(abs(z)) = const + 2 pi Im(tau_c) f``, with ``tau_c = j / (2 pi) d ln(H) / df`` the channel's complex delay:
    Im(tau_c) is 0 for one path and of the order of the delay spread for several.

    Parameters
    ----------
    plan : SpectrumPlan
        The plan that made the signal.
    signal_power : ndarray of float32, shape (num_chunks, num_steps + 1)
        Squared magnitude of the channel's signal.
    steps_rad : ndarray of float32, shape (num_chunks, num_steps)
        From `phase_steps_rad`.
    noise_in_channel : ndarray of float64, shape (num_chunks,)
        Power of the noise in the channel, same unit as ``signal_power``.

    Returns
    -------
    slope_us, standard_error_us : ndarray of float64, shape (num_chunks,)
        Im(tau_c), microseconds. NaN where the instantaneous frequency moves too little to tell: by less than 200 Hz
        rms, or by less than four times the variance that the noise alone gives it.

    Notes
    -----
    Regression weighted by power, since the variance of ln(abs(z)) goes with its inverse. Flat fading drops out with the
    straight lines that are taken out of both sides in each 5 ms. The frequency at sample n is the mean of the steps
    before and after it. Its noise has, weighted by power, the variance ``(r / 2 pi)^2 N / 2 (1 - rho(2)) / 2`` times
    the sum of ones, with r the rate, N the noise in the channel and rho its correlation, and is subtracted, as it would
    flatten the slope. The channel's noise fills the share B / r of the rate: the samples are worth B / r independent
    ones each. The mean of two steps loses 3 % of the deviation of voice: the slope is too steep by as much.
    """
    num_chunks, num_steps = steps_rad.shape
    length = max(1, round(_FADING_BLOCK_S * plan.baseband_rate_hz))
    num_blocks = (num_steps - 1) // length
    used = num_blocks * length
    shape = (num_chunks, num_blocks, length)
    weight = signal_power[:, 1 : used + 1].reshape(shape)
    log_power = np.log(weight, out=np.zeros(shape, np.float32), where=weight > 0)
    two_steps = (steps_rad[:, :used] + steps_rad[:, 1 : used + 1]).reshape(shape)

    x, y = _without_trend(two_steps), _without_trend(log_power)
    weighted_x = weight * x
    step_rad_to_hz = plan.baseband_rate_hz / (4 * np.pi)
    sum_xx = np.vecdot(weighted_x, x).sum(axis=1, dtype=np.float64) * step_rad_to_hz**2
    sum_xy = np.vecdot(weighted_x, y).sum(axis=1, dtype=np.float64) * (step_rad_to_hz / 2)
    sum_yy = np.vecdot(weight * y, y).sum(axis=1, dtype=np.float64) / 4

    noise_share = plan.channel_bandwidth_hz / plan.baseband_rate_hz
    noise_xx = used * noise_in_channel * (plan.baseband_rate_hz / (2 * np.pi)) ** 2 * (1 - np.sinc(2 * noise_share)) / 4
    observable = (sum_xx > _MIN_DEVIATION_OVER_NOISE * noise_xx) & (
        sum_xx > _MIN_DEVIATION_HZ**2 * weight.sum(axis=(1, 2), dtype=np.float64)
    )
    sum_xx = np.where(observable, sum_xx, np.nan)
    spread_xx = sum_xx - noise_xx
    slope = sum_xy / spread_xx
    residual = np.maximum(sum_yy - sum_xy * sum_xy / sum_xx, 0) / used
    standard_error = np.sqrt(residual * sum_xx / noise_share) / spread_xx
    return slope * (1e6 / (2 * np.pi)), standard_error * (1e6 / (2 * np.pi))


def _without_trend(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the straight line that fits best out of each stretch along the last axis."""
    ramp = np.linspace(-1, 1, values.shape[-1], dtype=np.float32)
    level = values - values.mean(axis=-1, keepdims=True)
    return np.asarray(level - (level @ ramp)[..., None] * (ramp / (ramp @ ramp)))
