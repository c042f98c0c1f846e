"""Samples of one transmission at each receiver, determined by a seed, an index and the links."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.channel import GAIN_DECIMATION, Fading, Impairments, channel_gain, draw_fading, impaired
from heimdall_pipelines.rf.exact import decibels, pow10
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.modulation import (
    MAX_DELAY_S,
    MAX_LEAD_S,
    MIN_SAMPLE_RATE_HZ,
    TransmittedPhase,
    cubic_delay,
    peak_deviation_hz,
    transmitted_phase,
)
from heimdall_pipelines.rf.philox import (
    TILE_BLOCKS,
    Purpose,
    compiled,
    cos_sin_turns,
    counter_words,
    fraction_of_turn,
    generator,
    normal_tile,
)

GENERATOR_VERSION = 2  # incremented when the same seed and links give different samples
_TILE = 2 * TILE_BLOCKS
_LANES = 32  # partial sums of a kernel, for vectorisation
_UPSAMPLING = np.array([cubic_delay(-n / GAIN_DECIMATION)[1] for n in range(1, GAIN_DECIMATION)])


@dataclass(frozen=True, eq=False)
class Reception:
    """Samples of a transmission at one receiver.

    Attributes
    ----------
    iq : ndarray of complex64, shape (num_samples,)
        Square roots of watts.
    signal_power_dbm : ndarray of float64, shape (num_chunks,)
        Power of the signal in each chunk, with this draw of the fading.
    audio : str
        Transmitted audio: ``voice``, ``tone`` or ``dual_tone``.
    """

    iq: NDArray[np.complex64]
    signal_power_dbm: NDArray[np.float64]
    audio: str


def receptions(
    links: Sequence[Link],
    *,
    seed: int,
    sample_idx: int,
    sample_rate_hz: float,
    duration_s: float,
    channel_bandwidth_hz: float,
    num_chunks: int = 1,
    receiver_indices: Sequence[int] | None = None,
    impairments: Sequence[Impairments] | None = None,
    out: NDArray[np.complex64] | None = None,
) -> Iterator[Reception]:
    """Generate one frequency-modulated transmission; yield its samples at each receiver with delay, fading and noise.

    Receivers are generated one by one, so that each can be processed while its samples are in the processor's cache.

    Parameters
    ----------
    links : sequence of Link
        Link of the transmitter to each receiver.
    seed : int
        The dataset's.
    sample_idx : int
        The sample's within the dataset.
    sample_rate_hz : float
        fs, 20 kHz or more.
    duration_s : float
        From time 0, which is the same instant at all receivers.
    channel_bandwidth_hz : float
        12.5 kHz or 25 kHz; the peak deviation is a fifth of it.
    num_chunks : int, optional
        Equal parts of the segment, for each of which the signal's power is given.
    receiver_indices : sequence of int, optional
        The receivers' indices within the sample, 0, 1, ... if None. To generate only receiver 3, pass ``[links[3]]``
        with ``receiver_indices=[3]``; the bytes are the same as among others.
    impairments : sequence of Impairments, optional
        Of each receiver's hardware; none if None.
    out : ndarray of complex64, shape (num_rows, num_samples), optional
        Memory for the samples; receivers use its rows cyclically. A single row is enough if each reception is processed
        before the next; this saves a fifth of the time compared to new memory for each (None).

    Yields
    ------
    Reception
        Of each link, in their order.

    Raises
    ------
    ValueError
        A quantity out of range, or sequences of different lengths.

    Notes
    -----
    With phi the transmission's phase, tau the delay by the receiver's clock, f the oscillator's offset and theta a
    random phase, a receiver receives ``sqrt(P) g(t) exp(1j (phi(t - tau) + 2 pi f t + theta))`` plus noise, g being the
    channel's gain (see `channel_gain`) whose mean power is 1 over all draws. Noise is white over fs.
    """
    indices = range(len(links)) if receiver_indices is None else receiver_indices
    hardware = [Impairments()] * len(links) if impairments is None else impairments
    num_samples = round(duration_s * sample_rate_hz)
    if not (0 < len(links) == len(indices) == len(hardware)):
        raise ValueError(
            f"{len(links)} links need as many receiver_indices ({len(indices)}) and impairments ({len(hardware)}), "
            "and at least one is needed"
        )
    if num_samples < 1 or num_chunks < 1 or num_samples % num_chunks:
        raise ValueError(f"{num_samples} samples cannot be {num_chunks} equal chunks")
    if not sample_rate_hz >= MIN_SAMPLE_RATE_HZ:
        raise ValueError(f"sample_rate_hz must be at least {MIN_SAMPLE_RATE_HZ:g} Hz, not {sample_rate_hz}")
    if not 0 < channel_bandwidth_hz <= sample_rate_hz:
        raise ValueError(
            f"channel_bandwidth_hz must be positive and at most the sample rate, not {channel_bandwidth_hz}"
        )
    if out is not None and not (out.dtype == np.complex64 and out.shape == (len(out), num_samples) and len(out)):
        raise ValueError(f"out must be rows of {num_samples} complex64, not {out.dtype} of shape {out.shape}")
    phase = transmitted_phase(
        generator(seed=seed, sample_idx=sample_idx, purpose=Purpose.WAVEFORM),
        sample_rate_hz=sample_rate_hz,
        num_samples=num_samples,
        deviation_hz=peak_deviation_hz(channel_bandwidth_hz),
    )
    # All are drawn first: between two receivers' samples, which fill the caches, the same takes twice the time.
    draws = [
        _draw(link, phase.sample_rate_hz, num_samples, seed, sample_idx, receiver)
        for link, receiver in zip(links, indices, strict=True)
    ]
    for row, (link, draw, imperfect) in enumerate(zip(links, draws, hardware, strict=True)):
        iq = np.empty(num_samples, np.complex64) if out is None else out[row % len(out)]
        signal_power_dbm = _receive(iq, link, draw, phase, num_chunks)
        if imperfect != Impairments():
            iq[:] = impaired(iq, imperfect)
        yield Reception(iq, signal_power_dbm, phase.audio)


@dataclass(frozen=True, eq=False)
class _Draw:
    """What is drawn for one receiver.

    Attributes
    ----------
    fading : Fading
        Of its channel.
    carrier : uint32
        Phase of the carrier at time 0, 2**32 being a turn.
    noise_words : ndarray of uint32, shape (5,)
        Of the noise, see `counter_words`.
    """

    fading: Fading
    carrier: np.uint32
    noise_words: NDArray[np.uint32]


def _draw(link: Link, sample_rate_hz: float, num_samples: int, seed: int, sample_idx: int, receiver: int) -> _Draw:
    """Draw a receiver's channel and carrier.

    Raises
    ------
    ValueError
        The link has a quantity out of range.
    """
    fading = draw_fading(
        rice_k_db=link.rice_k_db,
        doppler_hz=link.doppler_hz,
        rms_delay_spread_s=link.rms_delay_spread_s,
        sample_rate_hz=sample_rate_hz,
        num_samples=num_samples,
        seed=seed,
        sample_idx=sample_idx,
        receiver=receiver,
    )
    shortest_s = link.clock_delay_s
    longest_s = shortest_s + max(fading.echo_delays_s, default=0.0)
    if not (link.delay_s >= 0 and shortest_s >= -MAX_LEAD_S and longest_s <= MAX_DELAY_S):
        raise ValueError(
            f"delay_s of {link.delay_s} and echoes up to {longest_s} s must lie within 0 and {MAX_DELAY_S} s, "
            f"and clock_offset_ns {link.clock_offset_ns} may bring the signal forward by {MAX_LEAD_S} s"
        )
    carrier = generator(seed=seed, sample_idx=sample_idx, purpose=Purpose.RECEIVER, receiver=receiver).integers(2**32)
    noise_words = counter_words(seed=seed, sample_idx=sample_idx, purpose=Purpose.NOISE, receiver=receiver)
    return _Draw(fading, np.uint32(carrier), noise_words)


def _receive(
    iq: NDArray[np.complex64], link: Link, draw: _Draw, phase: TransmittedPhase, num_chunks: int
) -> NDArray[np.float64]:
    """Write one receiver's samples; return the signal's power in each chunk, dBm."""
    gain = channel_gain(draw.fading, phase, link.clock_delay_s, iq.size)
    first, weights = cubic_delay(link.clock_delay_s * phase.sample_rate_hz)
    _modulate(
        iq.view(np.float32),
        phase.turns[phase.guard_samples + first :],
        weights,
        np.uint32(round(link.frequency_offset_hz / phase.sample_rate_hz * 2**32) % 2**32),
        draw.carrier,
        gain,
        _UPSAMPLING,
        np.float32(_amplitude(link.received_power_dbm)),
        draw.noise_words,
        np.float32(_amplitude(link.noise_power_dbm) / math.sqrt(2)),
    )
    signal_power_dbm = np.empty(num_chunks)
    _signal_power_dbm(signal_power_dbm, gain, iq.size, link.received_power_dbm)
    return signal_power_dbm


def _amplitude(power_dbm: float) -> float:
    """Root mean square amplitude, in square roots of watts."""
    return float(pow10((power_dbm - 30) / 20))


@compiled
def _signal_power_dbm(
    out: NDArray[np.float64], gain: NDArray[np.float32], num_samples: int, received_power_dbm: float
) -> None:
    """Mean power in each chunk with the channel's gains; the second gain belongs to the first sample."""
    lanes = np.empty(_LANES)
    for chunk in range(out.size):
        start = 1 + num_samples * chunk // (GAIN_DECIMATION * out.size)
        end = max(1 + num_samples * (chunk + 1) // (GAIN_DECIMATION * out.size), start + 1)
        lanes[:] = 0.0
        for part in range(2):
            for first in range(start, end, _LANES):
                values = gain[part, first : min(first + _LANES, end)]
                for i in range(values.size):
                    lanes[i] += np.float64(values[i]) * np.float64(values[i])
        total = 0.0
        for lane in lanes:
            total += lane
        out[chunk] = received_power_dbm + decibels(total / (end - start))


@compiled
def _upsample(out: NDArray[np.float32], gain: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Interpolate one part of the gains from every fourth sample to every sample."""
    a0, a1, a2, a3 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    b0, b1, b2, b3 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    c0, c1, c2, c3 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    for i in range(out.size // 4):
        x0, x1, x2, x3 = gain[i], gain[i + 1], gain[i + 2], gain[i + 3]
        out[4 * i] = x1
        out[4 * i + 1] = a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
        out[4 * i + 2] = b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
        out[4 * i + 3] = c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3


@compiled
def _delayed_carrier(
    out: NDArray[np.float32],
    turns: NDArray[np.float32],
    weights: NDArray[np.float32],
    count: np.uint32,
    step: np.uint32,
) -> None:
    """Delayed phase plus that of a carrier that starts at ``count`` and gains ``step`` a sample, 2**32 being a turn."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for i in range(out.size):
        carrier = np.float32(np.int32(np.uint32(np.uint32(np.uint32(i) * step) + count))) * np.float32(2.0**-32)
        out[i] = w0 * turns[i] + w1 * turns[i + 1] + w2 * turns[i + 2] + w3 * turns[i + 3] + carrier


@compiled
def _modulate(
    out: NDArray[np.float32],
    turns: NDArray[np.float32],
    weights: NDArray[np.float32],
    step: np.uint32,
    carrier: np.uint32,
    gain: NDArray[np.float32],
    upsampling: NDArray[np.float32],
    amplitude: np.float32,
    words: NDArray[np.uint32],
    noise_scale: np.float32,
) -> None:
    """Write noise plus the delayed carrier times the channel's gain, in tiles that fit the L1 cache.

    The carrier's phase is an integer in units of 2**-32 turns, so that it does not drift.
    """
    num_samples = out.size // 2
    noise = np.empty(2 * _TILE, np.float32)
    random = np.empty((4, TILE_BLOCKS), np.uint32)
    real = np.empty(_TILE + 4, np.float32)
    imag = np.empty(_TILE + 4, np.float32)
    cosines = np.empty(_TILE, np.float32)
    sines = np.empty(_TILE, np.float32)
    for start in range(0, num_samples, _TILE):
        size = min(_TILE, num_samples - start)
        normal_tile(noise, random, start // 2, words, noise_scale)
        _upsample(real[: size + 3], gain[0, start // 4 :], upsampling)
        _upsample(imag[: size + 3], gain[1, start // 4 :], upsampling)
        _delayed_carrier(cosines[:size], turns[start:], weights, np.uint32(np.uint32(start * step) + carrier), step)
        for i in range(size):
            cosine, sine = cos_sin_turns(fraction_of_turn(cosines[i]))
            cosines[i] = cosine * amplitude
            sines[i] = sine * amplitude
        part = out[2 * start : 2 * (start + size)]
        for i in range(size):
            part[2 * i] = noise[2 * i] + (real[i] * cosines[i] - imag[i] * sines[i])
            part[2 * i + 1] = noise[2 * i + 1] + (real[i] * sines[i] + imag[i] * cosines[i])
