"""Audio of OpenWebRX: its two codecs, and one sideband of it as an analytic baseband.

The compressed stream is IMA ADPCM in frames: the word ``SYNC``, the coder's step index and latest sample as int16
little-endian, then 1001 bytes of two samples each. Uncompressed it is int16 little-endian. Pieces end anywhere.
"""

import struct
from dataclasses import dataclass

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.ima_adpcm import AdpcmState

ADPCM, UNCOMPRESSED = "adpcm", "none"
FRAME_BYTES = 1001
SYNC_WORD = b"SYNC"
FULL_SCALE = 32_768.0
DECIMATION = 2
LOW_CUT_HZ = 500  # of the sideband: between 0 and the audio, for the filter that takes its mirror image away
_STATE = struct.Struct("<hh")
_HEADER_BYTES = len(SYNC_WORD) + _STATE.size
_MAX_INDEX = 88
_USABLE_SHARE = 0.42  # of the audio's rate: the flat part of the server's decimation filter
_AUDIO_RATES_HZ = (24_000, 36_000, 48_000)
MAX_BANDWIDTH_HZ = 17_000
_STOPBAND_DB = 80.0


class OpenWebRxAudioError(HeimdallError, ValueError):
    """Audio that is not in the codec that the server states."""


@dataclass(frozen=True)
class SidebandPlan:
    """How a channel is received as upper sideband.

    Attributes
    ----------
    audio_rate_hz : int
        To request from the server.
    bandwidth_hz : int
        Of the channel; even.
    """

    audio_rate_hz: int
    bandwidth_hz: int

    @classmethod
    def of(cls, bandwidth_hz: float) -> "SidebandPlan":
        """Plan for a channel; at most 17 kHz of it are received."""
        even_hz = 2 * round(min(bandwidth_hz, MAX_BANDWIDTH_HZ) / 2)
        needed_hz = (LOW_CUT_HZ + even_hz) / _USABLE_SHARE
        return cls(next(rate_hz for rate_hz in _AUDIO_RATES_HZ if rate_hz >= needed_hz), even_hz)

    @property
    def cuts_hz(self) -> tuple[int, int]:
        """Edges of the server's filter, above the frequency that it is tuned to."""
        return LOW_CUT_HZ, LOW_CUT_HZ + self.bandwidth_hz

    @property
    def centre_hz(self) -> int:
        """Middle of the channel, above the frequency that the server is tuned to."""
        return LOW_CUT_HZ + self.bandwidth_hz // 2

    @property
    def sample_rate_hz(self) -> float:
        """Of the analytic baseband."""
        return self.audio_rate_hz / DECIMATION


class AudioDecoder:
    """Decodes the pieces of one stream.

    Parameters
    ----------
    compression : str
        ``adpcm`` or ``none``, as the server's configuration has it.

    Raises
    ------
    OpenWebRxAudioError
        The codec is unknown.
    """

    def __init__(self, compression: str) -> None:
        if compression not in (ADPCM, UNCOMPRESSED):
            raise OpenWebRxAudioError(f"the audio's codec {compression[:20]!r} is neither {ADPCM} nor {UNCOMPRESSED}")
        self._is_compressed = compression == ADPCM
        self._left = b""
        self._num_left_in_frame = 0
        self._adpcm = AdpcmState()

    def decode(self, piece: bytes) -> NDArray[np.int16]:
        """Give the samples that a piece completes.

        Raises
        ------
        OpenWebRxAudioError
            A frame begins with an impossible state of the coder.
        """
        data = self._left + piece
        if not self._is_compressed:
            num_whole = len(data) // 2 * 2
            self._left = data[num_whole:]
            return np.frombuffer(data[:num_whole], "<i2").astype(np.int16)
        decoded = []
        while data:
            if self._num_left_in_frame == 0:
                begin = data.find(SYNC_WORD)
                if begin < 0 or len(data) < begin + _HEADER_BYTES:
                    data = data[-(_HEADER_BYTES - 1) :] if begin < 0 else data[begin:]
                    break
                self._begin_frame(data[begin + len(SYNC_WORD) : begin + _HEADER_BYTES])
                data = data[begin + _HEADER_BYTES :]
            taken, data = data[: self._num_left_in_frame], data[self._num_left_in_frame :]
            self._num_left_in_frame -= len(taken)
            decoded.append(self._adpcm.decode(taken))
        self._left = data
        return np.concatenate(decoded) if decoded else np.empty(0, np.int16)

    def _begin_frame(self, state: bytes) -> None:
        index, predictor = _STATE.unpack(state)
        if not 0 <= index <= _MAX_INDEX:
            raise OpenWebRxAudioError(f"a frame of its audio begins with step index {index}: 0 to {_MAX_INDEX} exist")
        self._adpcm = AdpcmState(index, predictor)
        self._num_left_in_frame = FRAME_BYTES


class AudioEncoder:
    """The inverse of `AudioDecoder`, as a server sends it."""

    def __init__(self, compression: str) -> None:
        self._is_compressed = compression == ADPCM
        self._adpcm = AdpcmState()
        self._num_left_in_frame = 0

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """Encode an even number of samples."""
        if not self._is_compressed:
            return samples.astype("<i2").tobytes()
        encoded = bytearray()
        while samples.size:
            if self._num_left_in_frame == 0:
                encoded += SYNC_WORD + _STATE.pack(self._adpcm.index, self._adpcm.predictor)
                self._num_left_in_frame = FRAME_BYTES
            taken, samples = samples[: 2 * self._num_left_in_frame], samples[2 * self._num_left_in_frame :]
            encoded += self._adpcm.encode(taken)
            self._num_left_in_frame -= taken.size // 2
        return bytes(encoded)


class AnalyticBaseband:
    """Turns one sideband's audio into complex samples whose frequency 0 is the middle of the channel.

    Parameters
    ----------
    plan : SidebandPlan
    """

    def __init__(self, plan: SidebandPlan) -> None:
        rate_hz = plan.audio_rate_hz
        # The mirror image begins at twice the low cut below the channel's edge.
        width_hz = 2.0 * LOW_CUT_HZ
        num_taps, beta = scipy.signal.kaiserord(_STOPBAND_DB, width_hz / (rate_hz / 2))
        taps = scipy.signal.firwin(
            num_taps | 1, plan.bandwidth_hz / 2 + width_hz / 2, window=("kaiser", beta), fs=rate_hz
        )
        self._taps = 2.0 * taps  # the mirror image had half of the amplitude
        self._turns_per_sample = plan.centre_hz / rate_hz
        self._before = np.zeros(self._taps.size - 1, np.complex128)
        self._num_taken = 0

    def of(self, audio: NDArray[np.int16]) -> NDArray[np.complex64]:
        """Give the complex samples of the next audio, half as many; full scale is 1."""
        numbers = np.arange(self._num_taken, self._num_taken + audio.size)
        mixed = audio / FULL_SCALE * np.exp(-2j * np.pi * (numbers * self._turns_per_sample % 1.0))
        together = np.concatenate((self._before, mixed))
        self._before = together[together.size - (self._taps.size - 1) :]
        first = -self._num_taken % DECIMATION
        self._num_taken += audio.size
        if audio.size == 0:
            return np.empty(0, np.complex64)
        filtered = scipy.signal.oaconvolve(together, self._taps, mode="valid")
        return np.asarray(filtered[first::DECIMATION], np.complex64)
