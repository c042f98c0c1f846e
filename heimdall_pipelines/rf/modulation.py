"""The waveform of a transmission: audio, the phase that it modulates, and the filter that delays it."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.exact import cos_sin_of_turns, kaiser_window, normals
from heimdall_pipelines.rf.fourier import MIN_SIZE, coefficients_of_values, values_of_series
from heimdall_pipelines.rf.philox import compiled

AUDIO_BAND_HZ = (300.0, 3000.0)
MAX_DELAY_S = 0.01  # time of flight and echoes together, 3000 km
MAX_LEAD_S = 1e-4  # by which a receiver's clock can be behind, beyond the time of flight
MIN_SAMPLE_RATE_HZ = 20e3
_DEVIATION_PER_BANDWIDTH = 0.2  # 2.5 kHz in a channel of 12.5 kHz, 5 kHz in 25 kHz
_TONE_SHARE, _DUAL_TONE_SHARE = 0.05, 0.05  # of all transmissions; the rest is voice
_AUDIO_RATE_HZ = 20e3  # at least this; the clipped voice is filtered there
_CLIPPED_AT_SIGMA = 2.0
_INTERPOLATION_TAPS = 10
_INTERPOLATION_BETA = 10.0  # of Kaiser's window: with 10 taps and 20 kHz, images of 3 kHz are below -100 dB
_TILE_AUDIO = 256  # values of the audio that are interpolated at once
_LANES = 64  # partial maxima of a kernel, for vectorisation


@dataclass(frozen=True, eq=False)
class TransmittedPhase:
    """Phase of one transmission, generated once for all receivers.

    Attributes
    ----------
    turns : ndarray of float32, shape (num_samples,)
        Phase relative to the unmodulated carrier over 2 pi, at every sample; ``turns[guard_samples]`` is time 0.
    polyphase : ndarray of float32, shape (4, num_samples // 4)
        ``polyphase[r, q] = turns[4 q + r]``: every fourth sample, contiguous.
    guard_samples : int
        Samples before time 0, enough for `MAX_DELAY_S`.
    sample_rate_hz : float
        Rate of the samples.
    audio : str
        ``voice``, ``tone`` or ``dual_tone``.
    """

    turns: NDArray[np.float32]
    polyphase: NDArray[np.float32]
    guard_samples: int
    sample_rate_hz: float
    audio: str


def peak_deviation_hz(channel_bandwidth_hz: float) -> float:
    """Peak frequency deviation in a channel: 2.5 kHz of 12.5 kHz, 5 kHz of 25 kHz.

    Parameters
    ----------
    channel_bandwidth_hz : float
        Bandwidth of the channel.
    """
    return _DEVIATION_PER_BANDWIDTH * channel_bandwidth_hz


def transmitted_phase(
    rng: np.random.Generator, *, sample_rate_hz: float, num_samples: int, deviation_hz: float
) -> TransmittedPhase:
    """Draw a transmission: a carrier whose frequency audio without DC modulates, with a given peak deviation.

    90 % are voice-like (Gaussian noise of 300 to 3000 Hz, clipped at 2 sigma and filtered again, as a transmitter's
    limiter does), 5 % one tone and 5 % two tones of that band.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    sample_rate_hz : float
        `MIN_SAMPLE_RATE_HZ` or more.
    num_samples : int
        Samples from time 0 on that a receiver without delay needs.
    deviation_hz : float
        Greatest distance of the instantaneous frequency from the carrier.

    Returns
    -------
    TransmittedPhase
        At least so many samples and those of `MAX_LEAD_S`, one period.

    Notes
    -----
    Audio and phase are one period, a little longer than what is needed, of a Fourier series at an audio rate of 20 kHz
    or more, a whole fraction of the sample rate. Integrating is a division by ``2j pi f`` that leaves turns, so the
    phase has no component outside the audio's band; it is interpolated to the sample rate by a filter of ten taps,
    whose images are below -100 dB.
    """
    guard = math.ceil(MAX_DELAY_S * sample_rate_hz) + 8
    lead = math.ceil(MAX_LEAD_S * sample_rate_hz)
    num_audio, decimation = _audio_period(num_samples + guard + lead + 16, sample_rate_hz)
    bin_hz = sample_rate_hz / (num_audio * decimation)
    low, high = math.ceil(AUDIO_BAND_HZ[0] / bin_hz), math.floor(AUDIO_BAND_HZ[1] / bin_hz)
    kind = float(rng.random())
    if kind < _TONE_SHARE + _DUAL_TONE_SHARE:
        audio = "tone" if kind < _TONE_SHARE else "dual_tone"
        band = _tones(rng, high - low + 1, 1 if audio == "tone" else 2)
    else:
        audio = "voice"
        band = _voice(rng, low, high, num_audio)
    _integrate(band, low)
    turns = np.empty(num_audio * decimation, np.float32)
    _interpolate(turns, values_of_series(band, low, num_audio), _interpolation(decimation))
    polyphase = np.empty((4, turns.size // 4), np.float32)
    _scale(turns, np.float32(deviation_hz / sample_rate_hz) / np.float32(_greatest_step(turns)), polyphase)
    return TransmittedPhase(turns, polyphase, guard, sample_rate_hz, audio)


def _audio_period(num_samples: int, sample_rate_hz: float) -> tuple[int, int]:
    """Values of the audio in a period, a power of two, and samples in each of them, for so many samples at least."""
    most = max(1, int(sample_rate_hz // _AUDIO_RATE_HZ))
    num_audio = MIN_SIZE
    while num_audio * most < num_samples:
        num_audio *= 2
    return num_audio, -(-num_samples // num_audio)


@functools.lru_cache(maxsize=8)
def _interpolation(factor: int) -> NDArray[np.float32]:
    """Interpolation weights of the audio's values for each sample between two of them, shape (factor, taps); sum 1."""
    weights = np.empty((factor, _INTERPOLATION_TAPS), np.float32)
    middle = _INTERPOLATION_TAPS // 2 - 1
    for phase in range(factor):
        distances = [tap - middle - phase / factor for tap in range(_INTERPOLATION_TAPS)]
        taps = [_sinc(x) * kaiser_window(2 * x / _INTERPOLATION_TAPS, _INTERPOLATION_BETA) for x in distances]
        total = 0.0
        for tap in taps:
            total += tap
        weights[phase] = [tap / total for tap in taps]
    weights.flags.writeable = False
    return weights


def _sinc(x: float) -> float:
    """Sine of pi x over pi x."""
    sine: float = cos_sin_of_turns(x / 2)[1]
    return sine / (math.pi * x) if x else 1.0


@compiled
def _integrate(band: NDArray[np.float32], low: int) -> None:
    """Divide each coefficient by 1j times its number."""
    for n in range(band.shape[1]):
        number = np.float32(low + n)
        band[0, n], band[1, n] = band[1, n] / number, -band[0, n] / number


@compiled
def _filter(out: NDArray[np.float32], values: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Sums of ten successive values with weights: written out, they stay in registers."""
    w0, w1, w2, w3, w4 = weights[0], weights[1], weights[2], weights[3], weights[4]
    w5, w6, w7, w8, w9 = weights[5], weights[6], weights[7], weights[8], weights[9]
    for i in range(out.size):
        early = w0 * values[i] + w1 * values[i + 1] + w2 * values[i + 2] + w3 * values[i + 3]
        middle = early + w4 * values[i + 4] + w5 * values[i + 5] + w6 * values[i + 6]
        out[i] = middle + w7 * values[i + 7] + w8 * values[i + 8] + w9 * values[i + 9]


@compiled
def _interpolate(out: NDArray[np.float32], values: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Interpolate one period of a signal; this order, tile by tile and phase by phase, vectorises."""
    factor, taps = weights.shape
    before = taps // 2 - 1
    periodic = np.empty(values.size + taps, np.float32)
    periodic[:before] = values[values.size - before :]
    periodic[before : before + values.size] = values
    periodic[before + values.size :] = values[: taps - before]
    rows = np.empty((factor, _TILE_AUDIO), np.float32)
    for start in range(0, values.size, _TILE_AUDIO):
        size = min(_TILE_AUDIO, values.size - start)
        for phase in range(factor):
            _filter(rows[phase, :size], periodic[start:], weights[phase])
        part = out[start * factor : (start + size) * factor]
        for phase in range(factor):
            row = rows[phase]
            for i in range(size):
                part[i * factor + phase] = row[i]


@compiled
def _greatest_step(values: NDArray[np.float32]) -> float:
    """Greatest difference of successive numbers; several partial maxima, for vectorisation."""
    lanes = np.zeros(_LANES, np.float32)
    for start in range(0, values.size - 1, _LANES):
        part = values[start : start + _LANES + 1]
        for i in range(part.size - 1):
            lanes[i] = max(lanes[i], abs(part[i + 1] - part[i]))
    greatest = lanes[0]
    for lane in lanes:
        greatest = max(greatest, lane)
    return float(greatest)


@compiled
def _scale(values: NDArray[np.float32], factor: np.float32, polyphase: NDArray[np.float32]) -> None:
    """Multiply in place, and write every fourth value into each row."""
    for i in range(values.size):
        values[i] *= factor
    p0, p1, p2, p3 = polyphase[0], polyphase[1], polyphase[2], polyphase[3]
    for i in range(p0.size):
        p0[i] = values[4 * i]
        p1[i] = values[4 * i + 1]
        p2[i] = values[4 * i + 2]
        p3[i] = values[4 * i + 3]


def _tones(rng: np.random.Generator, num_bins: int, num_tones: int) -> NDArray[np.float32]:
    """Fourier coefficients of tones of equal amplitude, at frequencies of the series."""
    band = np.zeros((2, num_bins), np.float32)
    for _ in range(num_tones):
        number = int(rng.integers(num_bins))
        cosine, sine = cos_sin_of_turns(float(rng.random()))
        band[0, number] += np.float32(cosine)
        band[1, number] += np.float32(sine)
    return band


def _voice(rng: np.random.Generator, low: int, high: int, num_audio: int) -> NDArray[np.float32]:
    """Fourier coefficients of band-limited noise, clipped and filtered again."""
    band = normals(rng, 2 * (high - low + 1)).reshape(2, -1)
    audio = values_of_series(band, low, num_audio)
    _clip(audio, np.float32(_CLIPPED_AT_SIGMA * math.sqrt(2 * _sum_of_squares(band))))  # Parseval: the audio's sigma
    return coefficients_of_values(audio, low, high - low + 1)


@compiled
def _sum_of_squares(band: NDArray[np.float32]) -> float:
    total = 0.0
    for part in range(band.shape[0]):
        for n in range(band.shape[1]):
            total += np.float64(band[part, n]) * np.float64(band[part, n])
    return total


@compiled
def _clip(values: NDArray[np.float32], limit: np.float32) -> None:
    for i in range(values.size):
        values[i] = min(max(values[i], -limit), limit)


def cubic_delay(delay_samples: float) -> tuple[int, NDArray[np.float32]]:
    """Filter that delays a sampled signal: Lagrange's cubic through the four samples around the instant.

    Parameters
    ----------
    delay_samples : float
        Delay, also of a fraction of a sample.

    Returns
    -------
    first : int
        Sample n of the delayed signal is ``sum(weights[i] * signal[n + first + i])``.
    weights : ndarray of float32, shape (4,)
        They sum to 1.

    Notes
    -----
    The error at angular frequency w per sample is at most ``9/384 w**4``: -113 dB for 3 kHz at 200 kHz.
    """
    whole = math.ceil(delay_samples)
    x = whole - delay_samples
    weights = (
        -x * (x - 1) * (x - 2) / 6,
        (x + 1) * (x - 1) * (x - 2) / 2,
        -(x + 1) * x * (x - 2) / 2,
        (x + 1) * x * (x - 1) / 6,
    )
    return -whole - 1, np.array(weights, np.float32)
