"""Client of OpenWebRX and OpenWebRX+ (websocket of version 1.2): one sideband's audio as an analytic baseband.

A server has no IQ for its clients and no clock: what comes is audio after automatic gain control. Its own level meter
tells the level before that, relative to full scale. The receiver's profile, shared by all listeners, is never changed.
"""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.receivers.addresses import receiver_url, shown
from heimdall_pipelines.receivers.openwebrx_audio import (
    ADPCM,
    FULL_SCALE,
    MAX_BANDWIDTH_HZ,
    AnalyticBaseband,
    AudioDecoder,
    OpenWebRxAudioError,
    SidebandPlan,
)
from heimdall_pipelines.receivers.pace import Pace
from heimdall_pipelines.receivers.requests import limited
from heimdall_pipelines.receivers.status_pages import request_page
from heimdall_pipelines.receivers.stream import (
    RETRY_AFTER_S,
    AppliedTuning,
    IqBlock,
    LevelKind,
    ReceiverAddress,
    ReceiverError,
    ReceiverStatus,
    StreamLimitError,
    Tuning,
    WaitLimits,
)
from heimdall_pipelines.receivers.websockets import ClosedError, ReceiverWebsocket, websocket_to

HELLO = "SERVER DE CLIENT client=heimdall type=receiver"
ANSWER = "CLIENT DE SERVER"
AUDIO_TAG = 2
OPEN_SQUELCH_DB = -150
NO_CLOCK = "OpenWebRX sends no time stamps"
_MAX_MESSAGE_BYTES = 4 << 20  # lists of bookmarks and modes take some 100 kB
_MAX_UNREAD_BYTES = 64 << 20  # before the audio begins: waterfalls come meanwhile
_SETTLING_S = 0.5  # the server's filter and gain control after they are set
_UNREAD_TAGS = (1, 3, 4)  # waterfalls and audio of wide FM
_NOTE = "audio of one sideband after automatic gain control: the server has no IQ, and losses are not visible"


class OpenWebRx:
    """Client of OpenWebRX.

    It receives up to 17 kHz as upper sideband, within the profile that is active. There are no passwords for listeners.

    Parameters
    ----------
    limits : WaitLimits
        Timeouts.
    """

    def __init__(self, limits: WaitLimits) -> None:
        self._limits = limits

    @asynccontextmanager
    async def stream(self, address: ReceiverAddress, tuning: Tuning) -> AsyncIterator["OpenWebRxStream"]:
        """Open a stream; see `heimdall_pipelines.receivers.stream.Receiver.stream`."""
        plan = SidebandPlan.of(tuning.bandwidth_hz)
        headers = receiver_url(address).authorization()
        async with websocket_to(
            address, self._limits, "ws", "", max_message_bytes=_MAX_MESSAGE_BYTES, headers=headers
        ) as websocket:
            connection = _Connection(websocket)
            async with limited(address, self._limits.handshake_s, "began no stream"):
                applied = await connection.tune(tuning, plan)
            pace = Pace(address, tuning, plan.sample_rate_hz, self._limits)
            yield OpenWebRxStream(connection, pace, self._limits, plan, applied)

    async def status(self, address: ReceiverAddress) -> ReceiverStatus:
        """Request ``status.json``, which tells version and profiles, but not how many listen."""
        try:
            async with limited(address, self._limits.silence_s, "sent no status page"):
                content, latency_s = await request_page(
                    address, self._limits, "status.json", receiver_url(address).authorization()
                )
        except ReceiverError as error:
            return ReceiverStatus(is_up=False, reason=error.reason)
        page = _object(content)
        if page is None or "sdrs" not in page:
            return ReceiverStatus(is_up=False, reason="has no status page of OpenWebRX")
        max_users = page.get("max_clients")
        return ReceiverStatus(
            is_up=True,
            latency_s=latency_s,
            max_users=max_users if isinstance(max_users, int) else None,
            software=f"OpenWebRX {shown(str(page.get('version', '')))}".rstrip(),
            reason=None if page["sdrs"] else "has no receiver that works",
            has_time_stamps=False,
        )


class OpenWebRxStream:
    """A running stream; see `heimdall_pipelines.receivers.stream.IqStream`."""

    def __init__(
        self,
        connection: "_Connection",
        pace: Pace,
        limits: WaitLimits,
        plan: SidebandPlan,
        applied: AppliedTuning,
    ) -> None:
        self.nominal_rate_hz = plan.sample_rate_hz
        # Compressed samples have steps that follow the signal.
        self.quantisation_step: float | None = None if connection.compression == ADPCM else 1 / FULL_SCALE
        self.applied = applied
        self._connection = connection
        self._pace = pace
        self._limits = limits
        self._plan = plan

    async def __aiter__(self) -> AsyncIterator[IqBlock]:
        """Give blocks as they arrive."""
        baseband = AnalyticBaseband(self._plan)
        address = self._connection.address
        num_settling = round(_SETTLING_S * self.nominal_rate_hz)
        async with limited(address, self._limits.handshake_s, "sent no samples"):
            while num_settling > 0:
                iq = baseband.of(await self._connection.audio())
                iq, num_settling = iq[num_settling:], num_settling - iq.size
        while True:
            if iq.size:
                self._pace.count(iq.size)
                yield IqBlock(iq, level_db=self._connection.take_level_dbfs())
            if self._pace.num_missing <= 0:
                return
            async with self._pace.waiting():
                try:
                    iq = baseband.of(await self._connection.audio())
                except ClosedError as error:
                    raise self._pace.broke_off(error.reason) from error


class _Connection:
    """A websocket to an OpenWebRX server, with the configuration that it has sent."""

    def __init__(self, websocket: ReceiverWebsocket) -> None:
        self.address = websocket.address
        self._websocket = websocket
        self._config: dict[str, Any] = {}
        self._decoder: AudioDecoder | None = None
        self._level_dbfs: float | None = None
        self._tuned_to: tuple[object, object] | None = None
        self._unread_bytes = 0

    @property
    def compression(self) -> str:
        """Codec of the audio."""
        return str(self._config.get("audio_compression"))

    async def tune(self, tuning: Tuning, plan: SidebandPlan) -> AppliedTuning:
        """Introduce ourselves and request the sideband; gives what the server makes of it."""
        await self._websocket.send(HELLO)
        answer = await self._websocket.receive()
        if not isinstance(answer, str) or not answer.startswith(ANSWER):
            raise self._websocket.protocol_error(
                "answers the websocket with something else than OpenWebRX does: is the api_type right?"
            )
        rates = {"output_rate": plan.audio_rate_hz, "hd_output_rate": 48_000}
        await self._send_json({"type": "connectionproperties", "params": rates})
        while not {"center_freq", "samp_rate", "audio_compression"} <= self._config.keys():
            self._read(await self._websocket.receive())
        centre_hz = self._number("center_freq")
        offset_hz = round(tuning.frequency_hz - centre_hz) - plan.centre_hz
        self._check_within_profile(tuning.frequency_hz, plan.bandwidth_hz)
        try:
            self._decoder = AudioDecoder(self.compression)
        except OpenWebRxAudioError as error:
            raise self._websocket.protocol_error(str(error)) from error
        low_hz, high_hz = plan.cuts_hz
        self._tuned_to = self._profile
        await self._send_json(
            {
                "type": "dspcontrol",
                "params": {
                    "low_cut": low_hz,
                    "high_cut": high_hz,
                    "offset_freq": offset_hz,
                    "mod": "usb",
                    "secondary_mod": False,
                    "squelch_level": OPEN_SQUELCH_DB,
                    "nr_enabled": False,
                },
            }
        )
        await self._send_json({"type": "dspcontrol", "action": "start"})
        half_hz = plan.bandwidth_hz / 2
        too_wide = tuning.bandwidth_hz > MAX_BANDWIDTH_HZ
        return AppliedTuning(
            frequency_hz=centre_hz + offset_hz + plan.centre_hz,
            passband_hz=(-half_hz, half_hz),
            has_automatic_gain=True,
            has_phase=False,
            level_kind=LevelKind.DBFS,
            clock_problem=NO_CLOCK,
            notes=(_NOTE, f"received over {MAX_BANDWIDTH_HZ} Hz, the widest sideband") if too_wide else (_NOTE,),
        )

    async def audio(self) -> NDArray[np.int16]:
        """Wait for the next audio; other messages before it are read."""
        assert self._decoder is not None
        while True:
            message = await self._websocket.receive()
            if not isinstance(message, bytes) or message[:1] != bytes([AUDIO_TAG]):
                self._read(message)
                continue
            self._unread_bytes = 0
            try:
                samples = self._decoder.decode(message[1:])
            except OpenWebRxAudioError as error:
                raise self._websocket.protocol_error(str(error)) from error
            if samples.size:
                return samples

    def take_level_dbfs(self) -> float | None:
        """Reading of the level meter since the last call, dB relative to full scale; None without a new one."""
        level_dbfs, self._level_dbfs = self._level_dbfs, None
        return level_dbfs

    @property
    def _profile(self) -> tuple[object, object]:
        return self._config.get("center_freq"), self._config.get("samp_rate")

    def _read(self, message: str | bytes) -> None:
        self._unread_bytes += len(message)
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            raise self._websocket.protocol_error(f"sent more than {_MAX_UNREAD_BYTES >> 20} MiB without audio")
        if isinstance(message, bytes):
            if message[:1] and message[0] not in (AUDIO_TAG, *_UNREAD_TAGS):
                raise self._websocket.protocol_error(f"sent an unknown frame, which begins with {message[:8]!r}")
            return
        said = _object(message)
        if said is None:
            raise self._websocket.protocol_error("sent a message that is not a JSON object")
        kind, value = said.get("type"), said.get("value")
        if kind == "config" and isinstance(value, dict):
            self._configured(value)
        elif kind == "smeter" and isinstance(value, int | float) and 0 < value < math.inf:
            self._level_dbfs = 10 * math.log10(value)
        elif kind == "backoff":
            raise self._refused(str(said.get("reason")))
        elif kind in ("sdr_error", "demodulator_error"):
            reason = f"reports an error: {shown(str(value))}"
            raise ReceiverError(self.address.rx_id, reason, is_transient=True, retry_after_s=RETRY_AFTER_S)

    def _configured(self, changes: dict[str, Any]) -> None:
        self._config |= {key: value for key, value in changes.items() if value is not None}
        if self._tuned_to is not None and self._tuned_to != self._profile:
            raise StreamLimitError(
                self.address.rx_id,
                "another listener or its owner chose another profile, so that the frequency is no longer received",
                is_transient=True,
                retry_after_s=RETRY_AFTER_S,
            )
        if self._decoder is not None and "audio_compression" in changes:
            self._decoder = AudioDecoder(self.compression)

    def _refused(self, reason: str) -> ReceiverError:
        is_banned = "ban" in reason.lower()
        return ReceiverError(
            self.address.rx_id,
            f"refuses the connection: {shown(reason)}",
            is_transient=not is_banned,
            retry_after_s=RETRY_AFTER_S,
        )

    def _check_within_profile(self, frequency_hz: float, bandwidth_hz: float) -> None:
        centre_hz, width_hz = self._number("center_freq"), self._number("samp_rate")
        low_hz, high_hz = centre_hz - width_hz / 2, centre_hz + width_hz / 2
        if low_hz <= frequency_hz - bandwidth_hz / 2 and frequency_hz + bandwidth_hz / 2 <= high_hz:
            return
        raise ReceiverError(
            self.address.rx_id,
            f"its active profile covers {low_hz / 1e6:g} to {high_hz / 1e6:g} MHz, not {bandwidth_hz / 1e3:g} kHz at "
            f"{frequency_hz / 1e6:g} MHz; the profile is not changed from here, since all listeners share it",
            is_transient=False,
        )

    def _number(self, key: str) -> float:
        value = self._config.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._websocket.protocol_error(f"reports {key}={shown(str(value))}, which is not a number")
        return float(value)

    async def _send_json(self, message: dict[str, object]) -> None:
        await self._websocket.send(json.dumps(message))


def _object(text: str | bytes) -> dict[str, Any] | None:
    """Parse a JSON object; None for anything else."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
