"""Audio of a simulated KiwiSDR in its modes with one channel: plain demodulators, and frames with and without ADPCM."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.ima_adpcm import AdpcmState

STEREO_MODES = frozenset({"iq", "drm", "sas", "qam"})  # never compressed
_SIDEBAND_MODES = frozenset({"lsb", "lsn", "usb", "usn", "cw", "cwn"})
_FREQUENCY_MODES = frozenset({"nbfm", "nnfm"})
_AMPLITUDE_MODES = frozenset({"am", "amn", "amw", "sam", "sau", "sal"})
_COMPRESSED_SAMPLES = 2048  # of a frame; others have a block's
_AMPLITUDE_GAIN, _FREQUENCY_GAIN = 4.0, 8_000.0
_LOUDEST = 32_767.0


def known_mode(mode: str) -> str:
    """A KiwiSDR's mode by its name; for a name that is none the real one chooses AM."""
    mode = mode.lower()
    is_known = mode in STEREO_MODES | _SIDEBAND_MODES | _FREQUENCY_MODES | _AMPLITUDE_MODES
    return mode if is_known else "am"


@dataclass(eq=False)
class AudioEncoder:
    """Demodulates blocks of IQ and packs the audio into frames."""

    _adpcm: AdpcmState = field(default_factory=AdpcmState)
    _waiting: list[NDArray[np.int16]] = field(default_factory=list)
    _last: complex = 1.0 + 0.0j

    def adpcm_state(self) -> str:
        """State of the coder, as the message ``audio_adpcm_state`` has it."""
        return f"{self._adpcm.index},{self._adpcm.predictor}"

    def frames(
        self, stored: NDArray[np.int16], mode: str, *, is_compressed: bool
    ) -> Iterator[bytes | NDArray[np.int16]]:
        """Give the content of the frames that a block completes: one per block, or per four blocks, compressed."""
        audio = self._demodulated(stored, mode)
        if not is_compressed:
            yield audio
            return
        self._waiting.append(audio)
        waiting = np.concatenate(self._waiting)
        while waiting.size >= _COMPRESSED_SAMPLES:
            yield self._adpcm.encode(waiting[:_COMPRESSED_SAMPLES])
            waiting = waiting[_COMPRESSED_SAMPLES:]
        self._waiting = [waiting]

    def _demodulated(self, stored: NDArray[np.int16], mode: str) -> NDArray[np.int16]:
        iq = stored.astype(np.float32).view(np.complex64)
        if mode in _SIDEBAND_MODES:
            audio = iq.real
        elif mode in _FREQUENCY_MODES:
            turned = iq * np.conj(np.concatenate(([self._last], iq[:-1])))
            audio = np.angle(turned) / np.pi * _FREQUENCY_GAIN
        else:
            envelope = np.abs(iq)
            audio = (envelope - envelope.mean()) * _AMPLITUDE_GAIN
        if iq.size:
            self._last = complex(iq[-1])
        return np.clip(np.rint(audio), -_LOUDEST, _LOUDEST).astype(np.int16)
