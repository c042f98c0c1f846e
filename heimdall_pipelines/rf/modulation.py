"""Waveforms and noise: signals that can be evaluated at any instant, so that a delay is exact."""

import math
from dataclasses import dataclass

import ducc0
import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled


def frequency_modulated_phase_rad(
    time_s: NDArray[np.float64], *, tone_hz: float, deviation_hz: float
) -> NDArray[np.float64]:
    """Phase of a carrier whose frequency a tone modulates by ``deviation_hz * cos(2 pi tone_hz t)``.

    The signal is ``exp(1j * phase)``; heard after a delay of tau seconds it is the same function of ``time_s - tau``.

    Parameters
    ----------
    time_s : ndarray of float64, any shape
        Instants, s.
    tone_hz : float
        Frequency of the tone, positive.
    deviation_hz : float
        Peak frequency deviation.

    Returns
    -------
    ndarray of float64, same shape
        Phase relative to the unmodulated carrier, rad, 0 at time 0.
    """
    return np.asarray(deviation_hz / tone_hz * np.sin(2 * np.pi * tone_hz * time_s))


def complex_noise(rng: np.random.Generator, shape: tuple[int, ...], power: float) -> NDArray[np.complex64]:
    """White, circular Gaussian noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the random numbers come from.
    shape : tuple of int
        Shape of the result, at least one axis.
    power : float
        Mean squared magnitude.

    Returns
    -------
    ndarray of complex64
    """
    components = rng.standard_normal((*shape[:-1], 2 * shape[-1]), dtype=np.float32)
    components *= np.float32(np.sqrt(power / 2))
    return components.view(np.complex64)


AUDIO_BAND_HZ = (300.0, 3000.0)
MAX_DELAY_S = 0.01  # time of flight and echoes together, 3000 km
_DEVIATION_PER_BANDWIDTH = 0.2  # 2.5 kHz in a channel of 12.5 kHz, 5 kHz in 25 kHz
_TONE_SHARES = (0.05, 0.05)  # of all transmissions: one tone, two tones; the rest is voice
_AUDIO_RATE_HZ = 20e3  # at least this; the clipped voice is filtered there
_CLIPPED_AT_SIGMA = 2.0
_LANES = 64  # maxima that a kernel keeps side by side


@dataclass(frozen=True, eq=False)
class TransmittedPhase:
    """Phase of one transmission, made once for all who hear it.

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
        Where the random numbers come from.
    sample_rate_hz : float
        8 kHz or more.
    num_samples : int
        Samples from time 0 on that a receiver without delay needs.
    deviation_hz : float
        Greatest distance of the instantaneous frequency from the carrier.

    Returns
    -------
    TransmittedPhase

    Notes
    -----
    Audio and phase are one period, a little longer than what is needed, of a Fourier series: integrating is a division
    by ``2j pi f`` that leaves turns, and the phase has no component outside the audio's band.
    """
    guard = math.ceil(MAX_DELAY_S * sample_rate_hz) + 8
    decimation = max(1, int(sample_rate_hz // _AUDIO_RATE_HZ))
    num_audio = int(ducc0.fft.good_size(math.ceil((num_samples + guard + 16) / decimation), True))
    bin_hz = sample_rate_hz / (num_audio * decimation)
    low, high = math.ceil(AUDIO_BAND_HZ[0] / bin_hz), math.floor(AUDIO_BAND_HZ[1] / bin_hz)
    kind = float(rng.random())
    if kind < sum(_TONE_SHARES):
        audio = "tone" if kind < _TONE_SHARES[0] else "dual_tone"
        band = _tones(rng, high - low + 1, 1 if audio == "tone" else 2)
    else:
        audio = "voice"
        band = _voice(rng, low, high, num_audio)
    series = np.zeros(num_audio * decimation // 2 + 1, np.complex64)
    series[low : high + 1] = band / (2j * np.pi * bin_hz * np.arange(low, high + 1))
    turns = ducc0.fft.c2r(series, lastsize=num_audio * decimation, forward=False, nthreads=1)
    polyphase = np.empty((4, turns.size // 4), np.float32)
    _scale(turns, np.float32(deviation_hz / sample_rate_hz) / np.float32(_greatest_step(turns)), polyphase)
    return TransmittedPhase(turns, polyphase, guard, sample_rate_hz, audio)


@compiled
def _greatest_step(values: NDArray[np.float32]) -> float:
    """Greatest distance of successive numbers; several maxima side by side vectorise."""
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


def _tones(rng: np.random.Generator, num_bins: int, num_tones: int) -> NDArray[np.complex64]:
    """Fourier coefficients of tones of equal amplitude, at frequencies of the series."""
    band = np.zeros(num_bins, np.complex64)
    for _ in range(num_tones):
        band[int(rng.integers(num_bins))] += np.exp(2j * np.pi * rng.random())
    return band


def _voice(rng: np.random.Generator, low: int, high: int, num_audio: int) -> NDArray[np.complex64]:
    """Fourier coefficients of band-limited noise, clipped and filtered again."""
    series = np.zeros(num_audio // 2 + 1, np.complex64)
    series[low : high + 1] = rng.standard_normal(2 * (high - low + 1), np.float32).view(np.complex64)
    audio = ducc0.fft.c2r(series, lastsize=num_audio, forward=False, nthreads=1)
    limit = _CLIPPED_AT_SIGMA * float(audio.std(dtype=np.float64))
    clipped = ducc0.fft.r2c(np.clip(audio, -limit, limit), nthreads=1)
    band: NDArray[np.complex64] = clipped[low : high + 1]
    return band


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
