"""Effects of path and receiver on a waveform: fading, echoes, and impairments of the receiver's hardware."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.exact import cos_sin_of_turns, log, nearest, normals, pow10
from heimdall_pipelines.rf.modulation import TransmittedPhase, cubic_delay
from heimdall_pipelines.rf.philox import Purpose, compiled, cos_sin_turns, fraction_of_turn, generator

NUM_ECHOES = 4
GAIN_DECIMATION = 4  # the channel's gain is computed at every fourth sample
_NUM_SINUSOIDS = 16
_TILE_GAINS = 1024  # processed at once, in the L1 cache
_LANES = 32  # partial sums of a kernel, for vectorisation
_STEP_PER_DOPPLER_CYCLE = 1 / 32  # distance of the knots between which fading is a cubic: errs by -88 dB at most
_KNOT_SAMPLES = tuple(1 << n for n in range(13, 1, -1))


@dataclass(frozen=True, eq=False)
class Fading:
    """Scattered and steady parts of a channel, as drawn; mean power 1 over all draws.

    Attributes
    ----------
    steady : float
        Amplitude of the direct path, at delay 0.
    echo_delays_s : ndarray of float64, shape (num_echoes,)
        Delays of the scattered parts after the direct path; a single delay of 0 for flat fading, empty without fading.
    knots : ndarray of complex64, shape (num_echoes, num_knots)
        Gain of each scattered part at the samples ``(k - 1) * knot_samples - GAIN_DECIMATION``.
    knot_samples : int
        Distance of the knots.
    """

    steady: float
    echo_delays_s: NDArray[np.float64]
    knots: NDArray[np.complex64]
    knot_samples: int


@dataclass(frozen=True)
class Impairments:
    """Impairments of a receiver's hardware; none by default.

    Attributes
    ----------
    iq_gain_db : float
        Gain of I relative to that of Q.
    iq_phase_deg : float
        Deviation of the phase between I and Q from 90 degrees.
    dc_offset_db : float or None
        Power of an added constant, relative to the mean power of the samples; None: no constant.
    adc_bits : int or None
        Bits of I and of Q each; None: not quantised.
    adc_headroom_db : float
        Full scale of I and Q relative to their root mean square, as set by the receiver's gain control.
    """

    iq_gain_db: float = 0.0
    iq_phase_deg: float = 0.0
    dc_offset_db: float | None = None
    adc_bits: int | None = None
    adc_headroom_db: float = 12.0

    def __post_init__(self) -> None:
        if self.adc_bits is not None and not 1 <= self.adc_bits <= 24:
            raise ValueError(f"adc_bits must be between 1 and 24, not {self.adc_bits}")


def echo_delays_s(rng: np.random.Generator, rms_delay_spread_s: float) -> NDArray[np.float64]:
    """Draw the delays of echoes of equal power whose density follows an exponential power delay profile.

    One delay from each quarter of the exponential distribution, scaled so that their standard deviation is exactly the
    given one.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    rms_delay_spread_s : float
        Root mean square width of the profile, not negative.

    Returns
    -------
    ndarray of float64, shape (NUM_ECHOES,)
        Ascending, positive; a single 0 if the spread is 0.
    """
    if rms_delay_spread_s == 0:
        return np.zeros(1)
    delays = rng.random(NUM_ECHOES)
    _exponential_delays(delays, rms_delay_spread_s)
    return delays


def draw_fading(
    *,
    rice_k_db: float,
    doppler_hz: float,
    rms_delay_spread_s: float,
    sample_rate_hz: float,
    num_samples: int,
    seed: int,
    sample_idx: int,
    receiver: int,
) -> Fading:
    """Draw a channel with a direct path and echoes that fade independently (Rice, with the spectrum of Jakes).

    Parameters
    ----------
    rice_k_db : float
        Power of the direct path relative to that of the echoes; infinite for no echoes and no fading, minus infinity
        for no direct path.
    doppler_hz : float
        Greatest Doppler shift f_d of the echoes, not negative; 0 for constant gains.
    rms_delay_spread_s : float
        Root mean square width of the echoes' power delay profile; 0 for flat fading.
    sample_rate_hz : float
        Rate of the samples.
    num_samples : int
        Number of samples.
    seed, sample_idx, receiver
        See `heimdall_pipelines.rf.philox.counter_words`.

    Returns
    -------
    Fading

    Raises
    ------
    ValueError
        A negative Doppler shift or delay spread, or a shift above a 128th of the sample rate.

    Notes
    -----
    Each echo is a sum of 16 sinusoids of complex Gaussian amplitude, one from each sixteenth of the circle of angles of
    arrival a, at ``f_d cos(a)``. At any instant it is exactly complex Gaussian, and its autocorrelation over all draws
    exactly ``J0(2 pi f_d t)`` (Clarke 1968; Jakes, Microwave Mobile Communications, 1974, section 1.3). The total power
    is 1 on average over draws, not in each: within a segment shorter than 1 / f_d it is a draw from the fading itself.
    """
    if not 0 <= doppler_hz <= sample_rate_hz * _STEP_PER_DOPPLER_CYCLE / _KNOT_SAMPLES[-1]:
        limit_hz = sample_rate_hz * _STEP_PER_DOPPLER_CYCLE / _KNOT_SAMPLES[-1]
        raise ValueError(f"doppler_hz must be between 0 and {limit_hz:.6g} (a 128th of the rate), not {doppler_hz}")
    if not rms_delay_spread_s >= 0:
        raise ValueError(f"rms_delay_spread_s must not be negative; it is {rms_delay_spread_s}")
    if math.isnan(rice_k_db):
        raise ValueError("rice_k_db must be a number or infinite")
    if rice_k_db == math.inf:
        return Fading(1.0, np.zeros(0), np.zeros((0, 0), np.complex64), _KNOT_SAMPLES[0])

    rng = generator(seed=seed, sample_idx=sample_idx, purpose=Purpose.FADING, receiver=receiver)
    scattered = 1 / (1 + pow10(rice_k_db / 10))
    delays = echo_delays_s(rng, rms_delay_spread_s)
    shape = (delays.size, _NUM_SINUSOIDS)
    angles = rng.random(shape)
    amplitudes = normals(rng, 2 * angles.size).reshape(*shape, 2)
    amplitudes *= np.float32(math.sqrt(scattered / (2 * angles.size)))
    longest = math.inf if doppler_hz == 0 else sample_rate_hz * _STEP_PER_DOPPLER_CYCLE / doppler_hz
    knot_samples = next(samples for samples in _KNOT_SAMPLES if samples <= longest)
    steps = np.empty(shape, np.uint32)
    _doppler_steps(steps, angles, doppler_hz * (knot_samples / sample_rate_hz * 2**32))
    num_knots = num_gains(num_samples) * GAIN_DECIMATION // knot_samples + 5
    knots = np.zeros((delays.size, num_knots, 2), np.float32)
    _sum_sinusoids(knots, amplitudes, steps)
    return Fading(math.sqrt(1 - scattered), delays, knots.view(np.complex64)[..., 0], knot_samples)


def num_gains(num_samples: int) -> int:
    """Number of the channel's gains that are needed to interpolate to `num_samples`.

    Parameters
    ----------
    num_samples : int
        At the full sample rate.
    """
    return -(-num_samples // GAIN_DECIMATION) + 3


def channel_gain(fading: Fading, phase: TransmittedPhase, delay_s: float, num_samples: int) -> NDArray[np.float32]:
    """Complex gain of the channel relative to the direct path's waveform, at every fourth sample.

    Echoes of a frequency-modulated carrier are the carrier itself times ``exp(1j * (phase(t - echo) - phase(t)))``: a
    factor that varies with the audio, not with the deviation, and needs few samples.

    Parameters
    ----------
    fading : Fading
        The channel.
    phase : TransmittedPhase
        The transmission.
    delay_s : float
        Time of flight of the direct path.
    num_samples : int
        Samples from time 0 on.

    Returns
    -------
    ndarray of float32, shape (2, num_gains(num_samples))
        Real and imaginary parts at the samples -4, 0, 4, ...
    """
    gain = np.empty((2, num_gains(num_samples)), np.float32)
    delays = [cubic_delay((delay_s + echo_s) * phase.sample_rate_hz) for echo_s in (0.0, *fading.echo_delays_s)]
    first = np.array([phase.guard_samples - GAIN_DECIMATION + start for start, _ in delays])
    weights = np.array([taps for _, taps in delays])
    _add_echoes(
        gain,
        np.float32(fading.steady),
        fading.knots.view(np.float32).reshape(*fading.knots.shape, 2),
        fading.knot_samples // GAIN_DECIMATION,
        phase.polyphase,
        first,
        weights,
        bool(np.any(fading.echo_delays_s > 0)),
    )
    return gain


def impaired(iq: NDArray[np.complex64], impairments: Impairments) -> NDArray[np.complex64]:
    """Samples with the impairments of a receiver's hardware.

    Parameters
    ----------
    iq : ndarray of complex64, shape (n,)
        Samples at the receiver's input.
    impairments : Impairments
        Applied in this order: DC offset, IQ imbalance, converter.

    Returns
    -------
    ndarray of complex64, shape (n,)
    """
    if impairments == Impairments():
        return iq
    samples = np.ascontiguousarray(iq).view(np.float32).copy()
    mean_square = _sum_of_squares(samples) / iq.size
    cosine, sine = cos_sin_of_turns(impairments.iq_phase_deg / 360)
    gain = pow10(impairments.iq_gain_db / 40)
    constant = 0.0
    if impairments.dc_offset_db is not None:
        constant = math.sqrt(mean_square / 2 * pow10(impairments.dc_offset_db / 10))
    factors = np.array([constant, gain, cosine, sine, 1 / gain], np.float32)
    half, step = 0, 0.0
    if impairments.adc_bits is not None:
        half = 2 ** (impairments.adc_bits - 1)
        step = math.sqrt(mean_square / 2) * pow10(impairments.adc_headroom_db / 20) / half
    _impair(samples, factors, np.float32(half), np.float32(step))
    return samples.view(np.complex64)


@compiled
def _sum_of_squares(values: NDArray[np.float32]) -> float:
    """Sum of squares in float64; several partial sums in a fixed order, for vectorisation."""
    lanes = np.zeros(_LANES)
    for start in range(0, values.size, _LANES):
        part = values[start : start + _LANES]
        for i in range(part.size):
            lanes[i] += np.float64(part[i]) * np.float64(part[i])
    total = 0.0
    for lane in lanes:
        total += lane
    return total


@compiled
def _impair(samples: NDArray[np.float32], factors: NDArray[np.float32], half: np.float32, step: np.float32) -> None:
    """Add a constant, unbalance I and Q, and quantise to ``2 * half`` steps if ``step`` is positive."""
    constant, gain, cosine, sine, inverse_gain = factors[0], factors[1], factors[2], factors[3], factors[4]
    for n in range(samples.size // 2):
        i, q = samples[2 * n] + constant, samples[2 * n + 1] + constant
        samples[2 * n], samples[2 * n + 1] = i * gain, (q * cosine + i * sine) * inverse_gain
    if step > 0:
        for n in range(samples.size):
            level = min(max(np.floor(samples[n] / step), -half), half - np.float32(1.0))
            samples[n] = level * step + step * np.float32(0.5)


@compiled
def _exponential_delays(delays: NDArray[np.float64], rms_delay_spread_s: float) -> None:
    """Convert uniform numbers to one delay from each part of the exponential distribution, with a given deviation."""
    mean, square = 0.0, 0.0
    for i in range(delays.size):
        delays[i] = -log(1.0 - (i + delays[i]) / delays.size)
        mean += delays[i] / delays.size
    for i in range(delays.size):
        square += (delays[i] - mean) * (delays[i] - mean) / delays.size
    for i in range(delays.size):
        delays[i] *= rms_delay_spread_s / np.sqrt(square)


@compiled
def _doppler_steps(steps: NDArray[np.uint32], angles: NDArray[np.float64], scale: float) -> None:
    """Phase step of each sinusoid from knot to knot, modulo one turn, in units of 2**-32 turns.

    The uniform number gives the position of its angle of arrival in its part of the circle.
    """
    for echo in range(steps.shape[0]):
        for m in range(steps.shape[1]):
            cosine, _ = cos_sin_of_turns((m + angles[echo, m]) / steps.shape[1])
            steps[echo, m] = np.uint32(np.int64(nearest(scale * cosine)))


@compiled
def _sum_sinusoids(knots: NDArray[np.float32], amplitudes: NDArray[np.float32], steps: NDArray[np.uint32]) -> None:
    """Add each echo's sinusoids at its knots; a step of 2**32 is a turn."""
    for echo in range(steps.shape[0]):
        at = knots[echo].reshape(-1)
        for m in range(steps.shape[1]):
            real, imag, step = amplitudes[echo, m, 0], amplitudes[echo, m, 1], steps[echo, m]
            for k in range(at.size // 2):
                turns = np.float32(np.int32(np.uint32(np.uint32(k) * step))) * np.float32(2.0**-32)
                cosine, sine = cos_sin_turns(turns)
                at[2 * k] += real * cosine - imag * sine
                at[2 * k + 1] += real * sine + imag * cosine


@compiled
def _delayed(
    out: NDArray[np.float32], polyphase: NDArray[np.float32], first: int, weights: NDArray[np.float32]
) -> None:
    """Phase after a delay at every fourth sample, from sample ``first`` of the transmission on."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    p0 = polyphase[first % 4][first // 4 :]
    p1 = polyphase[(first + 1) % 4][(first + 1) // 4 :]
    p2 = polyphase[(first + 2) % 4][(first + 2) // 4 :]
    p3 = polyphase[(first + 3) % 4][(first + 3) // 4 :]
    for i in range(out.size):
        out[i] = w0 * p0[i] + w1 * p1[i] + w2 * p2[i] + w3 * p3[i]


@compiled
def _cubic(knots: NDArray[np.float32], k: int, part: int) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Coefficients of Lagrange's cubic through the knots from k on, at -1, 0, 1, 2."""
    p, q, r, s = knots[k, part], knots[k + 1, part], knots[k + 2, part], knots[k + 3, part]
    third, sixth, half = np.float32(1 / 3), np.float32(1 / 6), np.float32(0.5)
    return q, r - p * third - q * half - s * sixth, (p + r) * half - q, (s - p) * sixth + (q - r) * half


@compiled
def _add_echoes(
    gain: NDArray[np.float32],
    steady: np.float32,
    knots: NDArray[np.float32],
    interval: int,
    polyphase: NDArray[np.float32],
    first: NDArray[np.int64],
    weights: NDArray[np.float32],
    has_delays: bool,
) -> None:
    """Add each echo to the gain: its fading, a cubic between knots, rotated by its phase relative to the direct path.

    Loops use few arrays: with more, the compiler cannot prove that they do not overlap, and does not vectorise.
    """
    num_gains = gain.shape[1]
    scale = np.float32(1.0 / interval)
    direct = np.zeros(_TILE_GAINS, np.float32)
    cosines = np.ones(_TILE_GAINS, np.float32)
    sines = np.zeros(_TILE_GAINS, np.float32)
    for start in range(0, num_gains, _TILE_GAINS):
        size = min(_TILE_GAINS, num_gains - start)
        gain[0, start : start + size] = steady
        gain[1, start : start + size] = np.float32(0.0)
        if has_delays:
            _delayed(direct[:size], polyphase, first[0] + 4 * start, weights[0])
        for echo in range(knots.shape[0]):
            if has_delays:
                _delayed(cosines[:size], polyphase, first[echo + 1] + 4 * start, weights[echo + 1])
                for i in range(size):
                    cosines[i], sines[i] = cos_sin_turns(fraction_of_turn(cosines[i] - direct[i]))
            for begin in range(0, size, interval):
                end = min(begin + interval, size)
                k = (start + begin) // interval
                within = start + begin - k * interval
                real, imag = gain[0, start + begin : start + end], gain[1, start + begin : start + end]
                c, s = cosines[begin:end], sines[begin:end]
                q, a1, a2, a3 = _cubic(knots[echo], k, 0)
                u, b1, b2, b3 = _cubic(knots[echo], k, 1)
                for i in range(c.size):
                    x = np.float32(np.int32(i + within)) * scale
                    a = q + x * (a1 + x * (a2 + x * a3))
                    b = u + x * (b1 + x * (b2 + x * b3))
                    real[i] += a * c[i] - b * s[i]
                    imag[i] += a * s[i] + b * c[i]
