"""Client of KiwiSDRs: the websocket protocol of kiwirecorder 1.11, IQ mode, with GNSS time stamps."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import aiohttp

from heimdall_pipelines.formats.gnss_clock import NO_FIX_AGE
from heimdall_pipelines.formats.kiwi_stream import (
    FULL_SCALE,
    MAX_MESSAGE_BYTES,
    MESSAGE_TAG,
    SEQUENCE_MODULUS,
    SOUND_TAG,
    KiwiStreamError,
    SoundFrame,
    parse_message,
    parse_sound,
)
from heimdall_pipelines.receivers.addresses import ReceiverUrl, receiver_url, shown, shown_url
from heimdall_pipelines.receivers.pace import Pace
from heimdall_pipelines.receivers.requests import connected, limited, named_errors, status_session
from heimdall_pipelines.receivers.status_pages import fetch_status, is_status_page
from heimdall_pipelines.receivers.stream import (
    GnssStamp,
    IqBlock,
    ReceiverAddress,
    ReceiverError,
    ReceiverStatus,
    Tuning,
    WaitLimits,
)

PASSBAND_HZ = 10_000.0  # around the frequency; the flat part of the receiver's filters at its usual 12 kHz
KEEPALIVE_S = 1.0
STALE_FRAMES = 2  # the first ones hold samples and stamps of the previous stream
_CLOSE_S = 0.5  # a KiwiSDR does not answer a close at once, and may go on sending
_MAX_MESSAGES_BYTES = 8 << 20  # per connection, configuration included
_UNREAD_TAGS = (b"W/F", b"EXT", b"DAT")  # waterfall and extensions
_RATES_HZ = (1_000.0, 100_000.0)
_PASSWORD_REFUSALS = {
    "1": ("refuses the password: give the right one in its URL, http://:password@host", False),
    "2": ("is still determining its own address", True),
    "3": ("does not allow this network address", False),
    "5": ("allows only one connection per address, and there is one already", True),
    "6": ("is updating its database", True),
}
_REFUSALS = {
    "too_busy": ("is busy: all {} channels are taken", True),
    "redirect": ("redirects to {}, which is not followed", False),
    "down": ("reports that it is down", True),
    "ip_limit": ("has no time left for this network address: {}", False),
    "password_timeout": ("closed the connection: it received no password in time", False),
    "inactivity_timeout": ("closed the connection for inactivity", True),
}


class KiwiSdr:
    """Client of KiwiSDRs.

    A password stands in the URL's user info, ``http://:password@host:8073``. The passband is 10 kHz, more where the
    tuning's bandwidth asks for it, and at most the receiver's sample rate. Without a fixed gain, of 0 to 120 dB, the
    receiver's automatic gain control is on, as kiwirecorder leaves it.

    Parameters
    ----------
    limits : WaitLimits, optional
        Timeouts.
    """

    def __init__(self, limits: WaitLimits | None = None) -> None:
        self._limits = limits or WaitLimits()

    @asynccontextmanager
    async def stream(self, address: ReceiverAddress, tuning: Tuning) -> AsyncIterator["KiwiStream"]:
        """Open a stream of IQ; see `heimdall_pipelines.receivers.stream.Receiver.stream`."""
        async with self._connected(address) as connection:
            async with limited(address, self._limits.handshake_s, "began no stream"):
                await connection.tune(tuning.frequency_hz, tuning.bandwidth_hz, tuning.manual_gain_db)
            async with connection.kept_alive():
                pace = Pace(address, tuning, connection.rate_hz, self._limits)
                yield KiwiStream(connection, pace, self._limits, has_automatic_gain=tuning.manual_gain_db is None)

    async def status(self, address: ReceiverAddress) -> ReceiverStatus:
        """Request its status page and, if a channel is free, the first samples, which carry the fix age.

        The page lacks the age of the latest GNSS fix, and is served even if a recording would be refused.
        """
        try:
            url = _url(address)
            async with status_session(address, self._limits.silence_s) as session:
                status = await fetch_status(session, url)
            if not is_status_page(status):
                raise ReceiverError(address.rx_id, "has no status page of a KiwiSDR", is_transient=False)
            if not status.is_up:
                return status
            if status.num_users is not None and status.num_users == status.max_users:
                return replace(status, reason=f"is busy: all {status.max_users} channels are taken")
            return replace(status, gnss_fix_age_s=await self._fix_age_s(address))
        except ReceiverError as error:
            return ReceiverStatus(is_up=False, reason=error.reason)

    async def _fix_age_s(self, address: ReceiverAddress) -> float | None:
        limit = limited(address, self._limits.handshake_s, "sent no samples")
        async with self._connected(address) as connection, limit:
            await connection.tune(None, PASSBAND_HZ, None)
            for _ in range(STALE_FRAMES):
                await connection.sound()
            age_s = (await connection.sound()).fix_age_s
        return None if age_s == NO_FIX_AGE else float(age_s)

    @asynccontextmanager
    async def _connected(self, address: ReceiverAddress) -> AsyncIterator["_Connection"]:
        url = _url(address)
        sound = url.websocket(str(int(time.time())), "SND")
        async with connected(
            address, self._limits.connect_s, lambda session: session.ws_connect(sound, max_msg_size=MAX_MESSAGE_BYTES)
        ) as websocket:
            try:
                yield _Connection(address, url, websocket)
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_S):
                        await websocket.close()


class KiwiStream:
    """A running stream of a KiwiSDR; see `heimdall_pipelines.receivers.stream.IqStream`."""

    quantisation_step: float | None = 1 / FULL_SCALE

    def __init__(self, connection: "_Connection", pace: Pace, limits: WaitLimits, *, has_automatic_gain: bool) -> None:
        self.nominal_rate_hz = connection.rate_hz
        self.has_automatic_gain: bool | None = has_automatic_gain
        self._connection = connection
        self._pace = pace
        self._limits = limits

    async def __aiter__(self) -> AsyncIterator[IqBlock]:
        """Give blocks as they arrive."""
        rx_id = self._connection.address.rx_id
        async with limited(self._connection.address, self._limits.handshake_s, "sent no samples"):
            for _ in range(STALE_FRAMES):
                latest = await self._connection.sound()
        while self._pace.num_missing > 0:
            async with self._pace.waiting():
                try:
                    frame = await self._connection.sound()
                except _ClosedError as error:
                    raise self._pace.broke_off(error.reason) from error
            num_lost_frames = (frame.sequence - latest.sequence - 1) % SEQUENCE_MODULUS
            num_lost = num_lost_frames * frame.iq.size
            if num_lost_frames and num_lost >= self._pace.num_missing:
                raise ReceiverError(
                    rx_id,
                    f"its frames are not in sequence: number {frame.sequence} follows {latest.sequence}",
                    is_transient=True,
                )
            latest = frame
            self._pace.count(num_lost + frame.iq.size)
            yield IqBlock(
                iq=frame.iq,
                stamp=GnssStamp(frame.fix_age_s, frame.gps_second, frame.gps_nanosecond),
                adc_overflow=frame.adc_overflow,
                num_lost_before=num_lost,
            )


class _ClosedError(ReceiverError):
    """The connection was closed by the receiver, or failed."""


class _Connection:
    """A websocket to a KiwiSDR, with the state that the receiver has reported."""

    def __init__(
        self, address: ReceiverAddress, url: ReceiverUrl, websocket: "aiohttp.ClientWebSocketResponse[Any]"
    ) -> None:
        self.address = address
        self.rate_hz = math.nan
        self._url = url
        self._websocket = websocket
        self._messages_bytes = 0
        self._reported: dict[str, str | None] = {}

    async def tune(self, frequency_hz: float | None, bandwidth_hz: float, manual_gain_db: float | None) -> None:
        """Log in and request IQ; without a frequency: the middle of its range."""
        await self._send(f"SET auth t=kiwi p={quote(self._url.password or '', safe='')}")
        while math.isnan(self.rate_hz):
            frame = await self._receive()
            if frame[:3] == SOUND_TAG:
                raise self._wrong("sends sound before it was requested")
            await self._read_message(frame)
        half_band_hz = min(max(bandwidth_hz, PASSBAND_HZ), self.rate_hz) / 2
        gain_db, agc = (50, 1) if manual_gain_db is None else (manual_gain_db, 0)
        for command in (
            "SET squelch=0 max=0",
            "SET genattn=0",
            "SET gen=0 mix=-1",
            "SET ident_user=heimdall",
            f"SET mod=iq low_cut={-half_band_hz:.0f} high_cut={half_band_hz:.0f} "
            f"freq={self._baseband_hz(frequency_hz) / 1e3:.3f}",
            f"SET agc={agc} hang=0 thresh=-100 slope=6 decay=1000 manGain={gain_db:g}",
            "SET compression=0",
            "SET keepalive",
        ):
            await self._send(command)

    async def sound(self) -> SoundFrame:
        """Wait for the next sound frame; messages before it are read."""
        while True:
            frame = await self._receive()
            if frame[:3] == SOUND_TAG:
                try:
                    return parse_sound(frame)
                except KiwiStreamError as error:
                    raise self._wrong(str(error)) from error
            await self._read_message(frame)

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Send a keepalive each second in the context; without them the receiver closes the connection."""
        task = asyncio.create_task(self._keep_alive())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_alive(self) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):  # the reader of sound frames reports it
            while True:
                await asyncio.sleep(KEEPALIVE_S)
                await self._websocket.send_str("SET keepalive")

    async def _send(self, command: str) -> None:
        with named_errors(self.address):
            await self._websocket.send_str(command)

    async def _receive(self) -> bytes:
        with named_errors(self.address):
            message = await self._websocket.receive()
        if message.type == aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type == aiohttp.WSMsgType.TEXT:
            return str(message.data).encode()
        if message.type == aiohttp.WSMsgType.ERROR:
            raise self._wrong(f"violates the websocket protocol: {shown(str(message.data))}")
        raise _ClosedError(self.address.rx_id, "closed the connection", is_transient=True)

    async def _read_message(self, frame: bytes) -> None:
        self._messages_bytes += len(frame)
        if self._messages_bytes > _MAX_MESSAGES_BYTES:
            raise self._wrong(f"sent more than {_MAX_MESSAGES_BYTES >> 20} MiB that are not samples")
        if frame[:3] in _UNREAD_TAGS:
            return
        if frame[:3] != MESSAGE_TAG:
            raise self._wrong(f"sent an unknown frame, which begins with {frame[:8]!r}")
        try:
            said = parse_message(frame)
        except KiwiStreamError as error:
            raise self._wrong(str(error)) from error
        self._refused(said)
        self._reported |= said
        if "audio_rate" in said:
            await self._send(f"SET AR OK in={self._number(said, 'audio_rate'):.0f} out=44100")
        if "sample_rate" in said and math.isnan(self.rate_hz):
            rate_hz = self._number(said, "sample_rate")
            if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
                raise self._wrong(f"reports a sample rate of {rate_hz:g} Hz")
            self.rate_hz = rate_hz

    def _refused(self, said: dict[str, str | None]) -> None:
        refusal = said.get("badp")
        if refusal is not None and refusal != "0":
            unknown = (f"refuses the connection (badp={shown(refusal)})", False)
            reason, is_transient = _PASSWORD_REFUSALS.get(refusal, unknown)
            raise ReceiverError(self.address.rx_id, reason, is_transient=is_transient)
        for key, (reason, is_transient) in _REFUSALS.items():
            if key in said and not (key == "too_busy" and said[key] == "0"):
                value = shown_url(said[key] or "")
                raise ReceiverError(self.address.rx_id, reason.format(value), is_transient=is_transient)

    def _baseband_hz(self, frequency_hz: float | None) -> float:
        """Frequency in the receiver's own range, after its frequency converter, if it has one."""
        range_hz = self._number(self._reported, "bandwidth", 30e6)
        if frequency_hz is None:
            return range_hz / 2
        offset_hz = 1e3 * self._number(self._reported, "freq_offset", 0.0)
        if not 0 <= frequency_hz - offset_hz <= range_hz:
            raise ReceiverError(
                self.address.rx_id,
                f"receives {offset_hz / 1e6:g} to {(offset_hz + range_hz) / 1e6:g} MHz, not {frequency_hz / 1e6:g} MHz",
                is_transient=False,
            )
        return frequency_hz - offset_hz

    def _number(self, said: dict[str, str | None], key: str, default: float | None = None) -> float:
        text = said.get(key)
        if text is None and default is not None:
            return default
        try:
            number = float(text or "")
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(f"reports {key}={shown(str(text))}, which is not a number")
        return number

    def _wrong(self, reason: str) -> ReceiverError:
        return ReceiverError(self.address.rx_id, reason, is_transient=False)


def _url(address: ReceiverAddress) -> ReceiverUrl:
    url = receiver_url(address)
    if url.user:
        raise ReceiverError(
            address.rx_id, "KiwiSDRs have no user names: give its URL as http://:password@host", is_transient=False
        )
    return url
