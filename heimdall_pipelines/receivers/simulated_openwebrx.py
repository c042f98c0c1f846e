"""A simulated OpenWebRX: its websocket with both codecs, its level meter, waterfall and status page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.signal
from aiohttp import WSMsgType, web
from numpy.typing import NDArray

from heimdall_pipelines.formats.samples import int16_of
from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.receivers.openwebrx_audio import ADPCM, AudioEncoder
from heimdall_pipelines.receivers.signal_sources import SignalSource
from heimdall_pipelines.receivers.simulated_base import NO_FAULTS, Faults, SimulatedReceiver, end_stream, sending
from heimdall_pipelines.rf.ima_adpcm import AdpcmState

VERSION = "v1.2.121"
FFT_SIZE = 1024
METER_PERIOD_S = 0.25
_FFT_PERIOD_S = 1 / 9
_FFT_PAD = 10  # samples before a compressed waterfall, for the coder to settle
_FFT_ADD_DB = -70.0
_FFT_TAG, _AUDIO_TAG = b"\x01", b"\x02"
_LOUDNESS = 0.3  # of full scale, to which the gain control brings any signal
_TRANSITION_HZ = 320.0
_INT_PARAMETERS = frozenset({"output_rate", "hd_output_rate", "offset_freq"})
_NUMBER_PARAMETERS = frozenset({"low_cut", "high_cut", "squelch_level"})


class SimulatedOpenWebRx(SimulatedReceiver):
    """A simulated OpenWebRX with one profile.

    Parameters
    ----------
    signal_source : SignalSource
        Played to each client from its beginning, at any rate that the client asks for.
    center_freq_hz, sample_rate_hz : int
        Of the active profile.
    audio_compression, fft_compression : str
        ``adpcm`` or ``none``.
    max_users, speed, faults
        See `heimdall_pipelines.receivers.simulated_kiwi.SimulatedKiwiSdr`; of `faults`, ``refusal`` is a message sent
        after the handshake.
    changes_profile_at : int, optional
        Block before which another listener chooses another profile.

    Attributes
    ----------
    messages : list of str
        What clients have sent.
    num_users, num_requests : int
        Streams now, and requests so far.
    """

    api_type = ReceiverKind.OPENWEBRX

    def __init__(
        self,
        signal_source: SignalSource,
        *,
        center_freq_hz: int = 7_000_000,
        sample_rate_hz: int = 2_400_000,
        audio_compression: str = ADPCM,
        fft_compression: str = ADPCM,
        max_users: int = 4,
        speed: float = 1.0,
        faults: Faults = NO_FAULTS,
        changes_profile_at: int | None = None,
    ) -> None:
        super().__init__(signal_source, max_users=max_users, speed=speed, faults=faults)
        self.messages: list[str] = []
        self._center_freq_hz = center_freq_hz
        self._sample_rate_hz = sample_rate_hz
        self._audio_compression = audio_compression
        self._fft_compression = fft_compression
        self._changes_profile_at = changes_profile_at

    def _routes(self) -> list[web.RouteDef]:
        return [web.get("/status.json", self._status_page), web.get("/ws/", self._websocket)]

    async def _status_page(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        profile = {"name": "simulated", "center_freq": self._center_freq_hz, "sample_rate": self._sample_rate_hz}
        return web.json_response(
            {
                "receiver": {"name": "simulated", "admin": "", "gps": {"lat": 0, "lon": 0}, "asl": 0, "location": ""},
                "max_clients": self._max_users,
                "version": VERSION,
                "sdrs": [{"name": "simulated", "type": "RtlSdrSource", "profiles": [profile]}],
            }
        )

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(timeout=1.0)
        await websocket.prepare(request)
        hello = await self._message(websocket)
        if hello is None or not hello.startswith("SERVER DE CLIENT") or " type=receiver" not in hello:
            await websocket.close()
            return websocket
        await websocket.send_str(f"CLIENT DE SERVER server=openwebrx version={VERSION}")
        refusal = self.faults.refusal
        if refusal is None and self.num_users >= self._max_users:
            refusal = {"type": "backoff", "reason": "Too many clients"}
        if refusal is not None:
            await _send(websocket, refusal)
            await websocket.close()
            return websocket
        self.num_users += 1
        try:
            await self._serve_client(websocket)
        finally:
            self.num_users -= 1
            if not websocket.closed:
                await websocket.close()
        return websocket

    async def _serve_client(self, websocket: web.WebSocketResponse) -> None:
        # The server sends what all receivers share before what the profile has.
        await _send(websocket, {"type": "receiver_details", "value": {"receiver_name": "simulated"}})
        shared = {
            "audio_compression": self._audio_compression,
            "fft_compression": self._fft_compression,
            "fft_size": FFT_SIZE,
            "max_clients": self._max_users,
        }
        await _send(websocket, {"type": "config", "value": shared})
        await _send(websocket, {"type": "config", "value": self._profile(self._center_freq_hz)})
        await _send(websocket, {"type": "profiles", "value": [{"id": "sdr|profile", "name": "simulated"}]})
        await _send(websocket, {"type": "clients", "value": self.num_users})
        demodulator = _Demodulator()
        while not (demodulator.is_started and demodulator.is_complete):
            text = await self._message(websocket)
            if text is None:
                return
            demodulator.take(text)
        async with sending(self._send_audio(websocket, demodulator)):
            while (text := await self._message(websocket)) is not None:
                demodulator.take(text)

    def _profile(self, center_freq_hz: int) -> dict[str, object]:
        return {
            "center_freq": center_freq_hz,
            "samp_rate": self._sample_rate_hz,
            "start_freq": center_freq_hz,
            "start_mod": "nfm",
            "start_offset_freq": 0,
            "sdr_id": "sdr",
            "profile_id": "profile",
        }

    async def _message(self, websocket: web.WebSocketResponse) -> str | None:
        message = await websocket.receive()
        if message.type is not WSMsgType.TEXT:
            return None
        self.messages.append(message.data)
        return str(message.data)

    async def _send_audio(self, websocket: web.WebSocketResponse, demodulator: "_Demodulator") -> None:
        rate_hz = demodulator.output_rate_hz
        dial_hz = self._center_freq_hz + demodulator.offset_hz
        encoder = AudioEncoder(self._audio_compression)
        next_meter_s = next_fft_s = 0.0
        num_samples = 0
        async for number, block in self._paced(dial_hz, rate_hz):
            if block.is_stale:
                continue
            if number == self._changes_profile_at:
                changed = {"type": "config", "value": self._profile(self._center_freq_hz + 10_000_000)}
                await _send(websocket, changed)
            frame = self.faults.replaced.get(number)
            if frame is not None:
                await websocket.send_bytes(frame)
                continue
            passed = demodulator.passed(block.iq)
            num_samples += passed.size
            power = float(np.mean(np.square(passed.real) + np.square(passed.imag)))
            if num_samples / rate_hz >= next_meter_s:
                next_meter_s += METER_PERIOD_S
                await _send(websocket, {"type": "smeter", "value": power})
            if num_samples / rate_hz >= next_fft_s:
                next_fft_s += _FFT_PERIOD_S
                await websocket.send_bytes(_FFT_TAG + _waterfall(block.iq, self._fft_compression))
            audio = passed.real * (_LOUDNESS / max(power, 1e-12) ** 0.5)
            await websocket.send_bytes(_AUDIO_TAG + encoder.encode(int16_of(audio)))
        await end_stream(websocket)


def _waterfall(iq: NDArray[np.complex64], compression: str) -> bytes:
    """Spectrum of some samples, dB, as a server sends it: float32, or hundredths of a dB compressed."""
    iq = iq[:FFT_SIZE]
    spectrum = np.fft.fftshift(np.fft.fft(iq * np.hanning(iq.size), FFT_SIZE))
    levels_db = 10 * np.log10(np.maximum(np.abs(spectrum) ** 2, 1e-12)) + _FFT_ADD_DB
    if compression != ADPCM:
        return bytes(levels_db.astype("<f4").tobytes())
    padded = np.concatenate((np.full(_FFT_PAD, levels_db[0]), levels_db))
    return AdpcmState().encode(np.clip(padded * 100, -32_768, 32_767).astype(np.int16))


async def _send(websocket: web.WebSocketResponse, message: Mapping[str, Any]) -> None:
    await websocket.send_str(json.dumps(dict(message)))


@dataclass(eq=False)
class _Demodulator:
    """One client's sideband receiver, set by its messages; values of the wrong type are ignored, as the server does."""

    output_rate_hz: int = 12_000
    offset_hz: int = 0
    is_started: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    _taps: NDArray[np.complex128] | None = None
    _state: NDArray[np.complex128] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it is tuned to one sideband."""
        return self.parameters.get("mod") == "usb" and {"low_cut", "high_cut", "offset_freq"} <= self.parameters.keys()

    def take(self, text: str) -> None:
        """Do what a message says."""
        message = json.loads(text)
        if message["type"] == "dspcontrol" and message.get("action") == "start":
            self.is_started = True
        if message["type"] not in ("dspcontrol", "connectionproperties"):
            return
        for name, value in message.get("params", {}).items():
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if (name in _INT_PARAMETERS and not is_whole) or (
                name in _NUMBER_PARAMETERS and not isinstance(value, int | float)
            ):
                continue
            self.parameters[name] = value
        self.output_rate_hz = self.parameters.get("output_rate", self.output_rate_hz)
        self.offset_hz = self.parameters.get("offset_freq", self.offset_hz)

    def passed(self, iq: NDArray[np.complex64]) -> NDArray[np.complex128]:
        """What the filter passes of a block; full scale is 1."""
        if self._taps is None or self._state is None:
            low_hz, high_hz = self.parameters["low_cut"], self.parameters["high_cut"]
            num_taps, beta = scipy.signal.kaiserord(70.0, _TRANSITION_HZ / (self.output_rate_hz / 2))
            plain = scipy.signal.firwin(
                num_taps | 1, (high_hz - low_hz) / 2, window=("kaiser", beta), fs=self.output_rate_hz
            )
            turns = (low_hz + high_hz) / 2 / self.output_rate_hz * np.arange(plain.size)
            self._taps = plain * np.exp(2j * np.pi * turns)
            self._state = np.zeros(plain.size - 1, np.complex128)
        together = np.concatenate((self._state, iq), dtype=np.complex128)
        self._state = together[together.size - self._state.size :]
        return np.asarray(scipy.signal.oaconvolve(together, self._taps, mode="valid"), np.complex128)
