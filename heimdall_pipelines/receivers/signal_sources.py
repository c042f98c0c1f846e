"""Signals of simulated receivers: a KiwiSDR recording, or a synthetic transmission as received at a position."""

import functools
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.gnss_clock import NO_FIX_AGE, WEEK_S, gps_minus_utc_s, gps_ns_of
from heimdall_pipelines.formats.kiwi_chunks import BLOCK_SAMPLES, STALE_BLOCKS, STAMP, scan_chunks
from heimdall_pipelines.formats.samples import CI16_LE, int16_of, open_file
from heimdall_pipelines.formats.utc import NS_PER_S
from heimdall_pipelines.receivers.stream import GnssStamp
from heimdall_pipelines.rf.geodesy import distance_m, propagation_delay_s
from heimdall_pipelines.rf.signals import complex_noise, frequency_modulated_phase_rad

NOMINAL_RATE_HZ = 12_001
WIDE_RATE_HZ = 20_252  # of the mode with three channels of 20.25 kHz
_NO_STAMP = GnssStamp(NO_FIX_AGE, 0, 0)


@dataclass(frozen=True, eq=False)
class SentBlock:
    """A block of samples as a receiver sends it.

    Attributes
    ----------
    stored : NDArray[int16], shape (2 * samples,)
        I and Q interleaved, in steps of 1/32768.
    stamp : GnssStamp
        Time of the first one.
    is_stale : bool
        From the previous stream: a KiwiSDR's first two blocks.
    """

    stored: NDArray[np.int16]
    stamp: GnssStamp
    is_stale: bool = False

    @property
    def num_samples(self) -> int:
        """Complex samples."""
        return self.stored.size // 2

    @property
    def iq(self) -> NDArray[np.complex64]:
        """The samples; full scale is 1."""
        return CI16_LE.decode(self.stored.view(np.uint8))

    @property
    def level_dbfs(self) -> float:
        """Mean power relative to full scale, at least -127 dB."""
        power = float(np.mean(np.square(self.stored, dtype=np.float64))) * 2 / CI16_LE.full_scale**2
        return 10 * math.log10(max(power, 10**-12.7))


class SignalSource(Protocol):
    """A signal that is streamed to every client from its beginning."""

    def rate_hz(self, requested_hz: float | None = None) -> float:
        """Nominal sample rate for a client that requested this rate, or none."""
        ...

    def blocks(self, frequency_hz: float, requested_hz: float | None = None) -> Iterator[SentBlock]:
        """Give the blocks for a client tuned to this frequency, from now on."""
        ...


class WavSource:
    """A KiwiSDR recording from its beginning, samples and time stamps byte for byte, at any tuning of the client.

    Parameters
    ----------
    path : Path
        A WAV file as kiwirecorder writes it; a file without time stamps is played like a receiver without GNSS.
    moved_by_s : callable, optional
        Called at the start of each stream; gives whole seconds to add to the time stamps; see `ReplayClock`.

    Raises
    ------
    RecordingFormatError
        The file is not a KiwiSDR recording, or is damaged.
    """

    def __init__(self, path: Path, *, moved_by_s: Callable[[], int] | None = None) -> None:
        self._path = path
        self._moved_by_s = moved_by_s
        with open_file(path) as file:
            self._chunks = scan_chunks(file, path)

    @property
    def num_samples(self) -> int:
        """Samples of the file without the remaining blocks."""
        counted = self._chunks.data_bytes[STALE_BLOCKS:] if self._chunks.stamps else self._chunks.data_bytes
        return sum(counted) // CI16_LE.sample_bytes

    def rate_hz(self, requested_hz: float | None = None) -> float:  # noqa: ARG002
        """The file's nominal rate."""
        return float(self._chunks.nominal_rate_hz)

    def blocks(self, frequency_hz: float, requested_hz: float | None = None) -> Iterator[SentBlock]:  # noqa: ARG002
        """Give the file's blocks."""
        moved_by_s = 0 if self._moved_by_s is None else self._moved_by_s()
        stamps = np.frombuffer(self._chunks.stamps, STAMP)
        if stamps.size == 0:
            yield from _stale_blocks(_NO_STAMP)
        with open_file(self._path) as file:
            for number, (offset, size) in enumerate(
                zip(self._chunks.data_offsets, self._chunks.data_bytes, strict=True)
            ):
                stamp = _NO_STAMP if stamps.size == 0 else _moved(stamps[number], moved_by_s)
                for begin in range(offset, offset + size, CI16_LE.sample_bytes * BLOCK_SAMPLES):
                    file.seek(begin)
                    stored = file.read(min(CI16_LE.sample_bytes * BLOCK_SAMPLES, offset + size - begin))
                    is_stale = stamps.size > 0 and number < STALE_BLOCKS
                    yield SentBlock(np.frombuffer(stored, "<i2"), stamp, is_stale)


class ReplayClock:
    """Moves recordings of one session into the present, all by the same whole seconds, so that differences stay.

    Parameters
    ----------
    reference_unix_ns : int
        The time in the recordings that is mapped to the present.
    together_s : float
        A stream that begins less than this after the previous one belongs to the same session.
    clock : callable, optional
        Gives the present time, ns of UTC; by default the computer's clock.
    """

    def __init__(
        self, reference_unix_ns: int, *, together_s: float = 5.0, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._reference_unix_s = reference_unix_ns // NS_PER_S
        self._together_s = together_s
        self._clock = clock
        self._first_unix_ns: int | None = None
        self._latest_unix_ns = 0

    def moved_by_s(self) -> int:
        """Seconds by which GPS time moves, leap seconds since then included."""
        now_ns = self._clock()
        if self._first_unix_ns is None or not 0 <= now_ns - self._latest_unix_ns < self._together_s * NS_PER_S:
            self._first_unix_ns = now_ns
        self._latest_unix_ns = now_ns
        began_s = self._first_unix_ns // NS_PER_S
        leap_s = gps_minus_utc_s(began_s) - gps_minus_utc_s(self._reference_unix_s)
        return began_s - self._reference_unix_s + leap_s


@dataclass(frozen=True)
class Place:
    """A position, WGS84 degrees and metres."""

    latitude: float
    longitude: float
    altitude_m: float = 0.0


@dataclass(frozen=True)
class Transmission:
    """An endless frequency-modulated transmission, a function of UTC only: the same for every receiver.

    Eight tones of 300 to 3000 Hz, drawn from the seed, that repeat every 10 s.

    Attributes
    ----------
    frequency_hz : float
        Carrier.
    place : Place
        Of the transmitter.
    deviation_hz : float
        Greatest deviation of the frequency.
    seed : int
        Draws the tones.
    """

    frequency_hz: float
    place: Place
    deviation_hz: float = 2_000.0
    seed: int = 0

    def delay_s(self, receiver: Place) -> float:
        """Time of flight to a receiver, along the straight line."""
        return float(
            propagation_delay_s(
                self.place.latitude,
                self.place.longitude,
                self.place.altitude_m,
                receiver.latitude,
                receiver.longitude,
                receiver.altitude_m,
            )
        )

    def phase_rad(self, unix_ns: int, since_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Phase of the modulation at the transmitter, `since_s` after an instant."""
        # A float of seconds since 1970 has steps of 0.2 us; subtracting whole periods as integers keeps the rest exact.
        time_s = unix_ns % (_PERIOD_S * NS_PER_S) / NS_PER_S + since_s
        phase_rad = np.zeros_like(time_s)
        for tone_hz, start_s in _tones(self.seed):
            deviation_hz = self.deviation_hz / _NUM_TONES
            phase_rad += frequency_modulated_phase_rad(time_s - start_s, tone_hz=tone_hz, deviation_hz=deviation_hz)
        return phase_rad


_PERIOD_S = 10
_NUM_TONES = 8


@functools.lru_cache(maxsize=32)
def _tones(seed: int) -> tuple[tuple[float, float], ...]:
    """Frequency and start of each tone; each is periodic in `_PERIOD_S`."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    tones_hz = rng.choice(np.arange(300 * _PERIOD_S, 3_000 * _PERIOD_S), _NUM_TONES, replace=False) / _PERIOD_S
    return tuple(zip(tones_hz.tolist(), (rng.random(_NUM_TONES) / tones_hz).tolist(), strict=True))


class SyntheticSource:
    """A transmission as received at a place, from the moment at which a client connects.

    Parameters
    ----------
    rx_id : str
        Draws the receiver's noise, oscillator offset (up to 2 Hz) and true sample rate (up to 15 ppm off).
    place : Place
        Of the receiver.
    transmission : Transmission
        The same for all receivers of a session.
    snr_db : float
        Of the signal over the noise in the sampled band; falls by 6 dB per doubling of the distance beyond 50 km.
    nominal_rate_hz : float
        For clients that request none.
    clock : callable, optional
        Gives the present time, ns of UTC; by default the computer's clock.
    """

    def __init__(
        self,
        rx_id: str,
        place: Place,
        transmission: Transmission,
        *,
        snr_db: float = 25.0,
        nominal_rate_hz: float = NOMINAL_RATE_HZ,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.place = place
        self.transmission = transmission
        self._clock = clock
        self._nominal_rate_hz = nominal_rate_hz
        self._key = zlib.crc32(rx_id.encode()) << 32 | transmission.seed & 0xFFFFFFFF
        rng = np.random.Generator(np.random.Philox(key=self._key))
        self.oscillator_offset_hz = float(rng.uniform(-2.0, 2.0))
        self.rate_ratio = 1 + float(rng.uniform(-15e-6, 15e-6))
        far = distance_m(place.latitude, place.longitude, transmission.place.latitude, transmission.place.longitude)
        self.snr_db = snr_db - 20 * math.log10(max(float(far), _NEAR_M) / _NEAR_M)

    def rate_hz(self, requested_hz: float | None = None) -> float:
        """A KiwiSDR's rate, or the rate that the client requests."""
        return float(self._nominal_rate_hz) if requested_hz is None else requested_hz

    def blocks(self, frequency_hz: float, requested_hz: float | None = None) -> Iterator[SentBlock]:
        """Give blocks from now on, without end."""
        start_unix_ns = self._clock()
        nominal_hz = self.rate_hz(requested_hz)
        true_hz = nominal_hz * self.rate_ratio
        delay_s = self.transmission.delay_s(self.place)
        noise = np.random.Generator(np.random.Philox(key=self._key).advance(1 << 64))
        offset_hz = self.transmission.frequency_hz - frequency_hz
        amplitude = _NOISE_AMPLITUDE * 10 ** (self.snr_db / 20) if abs(offset_hz) < nominal_hz / 2 else 0.0
        amplitude = min(amplitude, _GREATEST_AMPLITUDE)
        beat_hz = offset_hz + self.oscillator_offset_hz
        yield from _stale_blocks(_stamp(start_unix_ns - 300 * NS_PER_S, 0))
        first = 0
        while True:
            since_start_s = np.arange(first, first + BLOCK_SAMPLES) / true_hz
            phase_rad = self.transmission.phase_rad(start_unix_ns, since_start_s - delay_s)
            phase_rad += 2 * np.pi * (beat_hz * since_start_s % 1.0)
            iq = complex_noise(noise, since_start_s.shape, _NOISE_AMPLITUDE**2)
            iq += (amplitude * np.exp(1j * phase_rad)).astype(np.complex64)
            since_ns = round(first * 1e9 / true_hz)
            yield SentBlock(int16_of(iq.view(np.float32)), _stamp(start_unix_ns, since_ns))
            first += BLOCK_SAMPLES


_NEAR_M = 50e3
_NOISE_AMPLITUDE = 0.003
_GREATEST_AMPLITUDE = 0.5


def _stamp(start_unix_ns: int, since_start_ns: int) -> GnssStamp:
    """Stamp of a receiver with a fix each second, half a second old when it takes effect."""
    second, nanosecond = divmod(gps_ns_of(start_unix_ns + since_start_ns), NS_PER_S)
    age_s = ((since_start_ns + NS_PER_S // 2) % NS_PER_S + NS_PER_S // 2) // NS_PER_S
    return GnssStamp(age_s, second % WEEK_S, nanosecond)


def _stale_blocks(stamp: GnssStamp) -> Iterator[SentBlock]:
    for _ in range(STALE_BLOCKS):
        yield SentBlock(np.zeros(2 * BLOCK_SAMPLES, np.int16), stamp, is_stale=True)


def _moved(stored: np.void, by_s: int) -> GnssStamp:
    stamp = GnssStamp(int(stored["age_s"]), int(stored["second"]), int(stored["nanosecond"]))
    return stamp if by_s == 0 else replace(stamp, second=(stamp.second + by_s) % WEEK_S)
