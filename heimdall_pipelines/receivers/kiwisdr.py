"""Client of KiwiSDRs: the websocket protocol of kiwirecorder 1.11, IQ mode, with GNSS time stamps."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote

import numpy as np

from heimdall_pipelines.formats.gnss_clock import NO_FIX_AGE
from heimdall_pipelines.formats.kiwi_chunks import STALE_BLOCKS
from heimdall_pipelines.formats.kiwi_stream import (
    MAX_MESSAGE_BYTES,
    MESSAGE_TAG,
    SEQUENCE_MODULUS,
    SOUND_TAG,
    KiwiStreamError,
    SoundFrame,
    parse_message,
    parse_sound,
)
from heimdall_pipelines.formats.samples import CI16_LE
from heimdall_pipelines.formats.stamp_diagnosis import FROZEN_STAMPS, NO_STAMPS
from heimdall_pipelines.receivers.addresses import receiver_url, shown
from heimdall_pipelines.receivers.kiwi_refusals import refusal, refusal_of_status
from heimdall_pipelines.receivers.pace import Pace
from heimdall_pipelines.receivers.requests import AnsweredError, RedirectedError, limited
from heimdall_pipelines.receivers.status_pages import is_status_page, request_page, status_of_page
from heimdall_pipelines.receivers.stream import (
    AppliedTuning,
    GnssStamp,
    IqBlock,
    LevelKind,
    ReceiverAddress,
    ReceiverError,
    ReceiverStatus,
    Tuning,
    WaitLimits,
)
from heimdall_pipelines.receivers.websockets import ClosedError, ReceiverWebsocket, websocket_to

PASSBAND_SHARE = 10 / 12  # of the sample rate: the flat part of the receiver's filters
KEEPALIVE_S = 1.0
_MAX_MESSAGES_BYTES = 8 << 20  # per connection, configuration included
_UNREAD_TAGS = (b"W/F", b"EXT", b"DAT")  # waterfall and extensions
_RATES_HZ = (1_000.0, 100_000.0)
# Streams of one client are told apart by this number. Programs that count seconds since 1970 stay below it, and
# receivers that read it as a floating-point number keep it exact.
_CONNECTION_IDS = range(1 << 33, 1 << 53)
# A KiwiSDR sends this instead of a frequency that its owner has masked, without any flag.
_MASKED_SAMPLE = np.complex64((1 + 1j) / CI16_LE.full_scale)
_MASKED_FRAMES = 8
_NO_CLOCK = "its owner has switched its time stamps off"


class KiwiSdr:
    """Client of KiwiSDRs.

    A password stands in the URL's user info, ``http://:password@host:8073``; a time-limit password, which lifts the
    limits of time, stands before the colon. The passband is 10 of 12 kHz, more where the tuning's bandwidth asks for
    it, and at most the receiver's sample rate. Without a fixed gain, of 0 to 120 dB, the receiver's automatic gain
    control is on, as kiwirecorder leaves it. The status page is read first: no stream is requested that the owner
    does not admit.

    Parameters
    ----------
    limits : WaitLimits
        Timeouts.
    """

    def __init__(self, limits: WaitLimits) -> None:
        self._limits = limits

    @asynccontextmanager
    async def stream(self, address: ReceiverAddress, tuning: Tuning) -> AsyncIterator["KiwiStream"]:
        """Open a stream of IQ; see `heimdall_pipelines.receivers.stream.Receiver.stream`."""
        page = await self._page_if_any(address)
        refused = _refusal_of_status(address, page)
        if refused is not None:
            raise refused
        async with self._connected(address) as connection:
            async with limited(address, self._limits.handshake_s, "began no stream"):
                applied = await connection.tune(tuning.frequency_hz, tuning.bandwidth_hz, tuning.manual_gain_db)
            if page.has_time_stamps is False:
                applied = replace(applied, clock_problem=_NO_CLOCK)
            async with connection.kept_alive():
                pace = Pace(address, tuning, connection.rate_hz, self._limits)
                yield KiwiStream(connection, pace, self._limits, applied)

    async def status(self, address: ReceiverAddress) -> ReceiverStatus:
        """Request its status page and, if a channel is free, the first samples, which carry the fix age.

        The page lacks the age of the latest GNSS fix, and is served even if a recording would be refused.
        """
        try:
            async with limited(address, self._limits.silence_s, "sent no status page"):
                status = await self._page(address)
            if not is_status_page(status):
                raise ReceiverError(address.rx_id, "has no status page of a KiwiSDR", is_transient=False)
            if not status.is_up:
                return status
            refused = _refusal_of_status(address, status)
            if refused is not None:
                return replace(status, reason=refused.reason)
            if status.has_time_stamps is False:
                return replace(status, reason=_NO_CLOCK)
            fix_age_s, reason = await self._fix_age_s(address)
            return replace(status, gnss_fix_age_s=fix_age_s, reason=reason)
        except ReceiverError as error:
            return ReceiverStatus(is_up=False, reason=error.reason)

    async def _page_if_any(self, address: ReceiverAddress) -> ReceiverStatus:
        """The status page, without any content where there is none, as with programs that imitate a KiwiSDR."""
        try:
            return await self._page(address)
        except ReceiverError as error:
            if isinstance(error.__cause__, AnsweredError) and not isinstance(error.__cause__, RedirectedError):
                return ReceiverStatus(is_up=True)  # the answer to the next request tells what is wrong
            raise

    async def _page(self, address: ReceiverAddress) -> ReceiverStatus:
        content, latency_s = await request_page(address, self._limits, "status")
        return status_of_page(content.decode(errors="replace"), latency_s)

    async def _fix_age_s(self, address: ReceiverAddress) -> tuple[float | None, str | None]:
        """Age of the latest fix, s, or None and why there is no clock."""
        limit = limited(address, self._limits.handshake_s, "sent no samples")
        async with self._connected(address) as connection, limit:
            await connection.tune(None, 0.0, None)
            for _ in range(STALE_BLOCKS):
                await connection.sound()
            first, second = await connection.sound(), await connection.sound()
        if not first.has_stamp:
            return None, NO_STAMPS
        if (first.gps_second, first.gps_nanosecond) == (second.gps_second, second.gps_nanosecond):
            return None, FROZEN_STAMPS
        return None if second.fix_age_s == NO_FIX_AGE else float(second.fix_age_s), None

    @asynccontextmanager
    async def _connected(self, address: ReceiverAddress) -> AsyncIterator["_Connection"]:
        connection_id = str(secrets.choice(_CONNECTION_IDS))
        async with websocket_to(
            address, self._limits, connection_id, "SND", max_message_bytes=MAX_MESSAGE_BYTES
        ) as websocket:
            yield _Connection(websocket)


class KiwiStream:
    """A running stream of a KiwiSDR; see `heimdall_pipelines.receivers.stream.IqStream`."""

    quantisation_step: float | None = 1 / CI16_LE.full_scale

    def __init__(self, connection: "_Connection", pace: Pace, limits: WaitLimits, applied: AppliedTuning) -> None:
        self.nominal_rate_hz = connection.rate_hz
        self.applied = applied
        self._connection = connection
        self._pace = pace
        self._limits = limits

    async def __aiter__(self) -> AsyncIterator[IqBlock]:
        """Give blocks as they arrive."""
        rx_id = self._connection.address.rx_id
        async with limited(self._connection.address, self._limits.handshake_s, "sent no samples"):
            for _ in range(STALE_BLOCKS):
                latest = await self._connection.sound()
        num_masked = 0
        while self._pace.num_missing > 0:
            async with self._pace.waiting():
                try:
                    frame = await self._connection.sound()
                except ClosedError as error:
                    raise self._pace.broke_off(error.reason) from error
            num_masked = num_masked + 1 if np.all(frame.iq == _MASKED_SAMPLE) else 0
            if num_masked == _MASKED_FRAMES:
                raise ReceiverError(
                    rx_id, "masks this frequency: its owner lets it send constant samples only", is_transient=False
                )
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
                stamp=_stamp(frame) if self.applied.clock_problem is None else None,
                adc_overflow=frame.adc_overflow,
                num_lost_before=num_lost,
                level_db=frame.s_meter_dbm,
            )


def _stamp(frame: SoundFrame) -> GnssStamp | None:
    return GnssStamp(frame.fix_age_s, frame.gps_second, frame.gps_nanosecond) if frame.has_stamp else None


class _Connection:
    """A websocket to a KiwiSDR, with the state that the receiver has reported."""

    def __init__(self, websocket: ReceiverWebsocket) -> None:
        self.address = websocket.address
        self.rate_hz = math.nan
        self._websocket = websocket
        self._messages_bytes = 0
        self._reported: dict[str, str | None] = {}

    async def tune(
        self, frequency_hz: float | None, bandwidth_hz: float, manual_gain_db: float | None
    ) -> AppliedTuning:
        """Log in and request IQ; without a frequency: the middle of its range. Gives what the receiver makes of it."""
        # An empty password is written as #, so that the receiver finds the second one.
        url = self._websocket.url
        password, limit_password = quote(url.password or "", safe=""), quote(url.user or "", safe="")
        login = f"p={password or '#'} ipl={limit_password}" if limit_password else f"p={password}"
        await self._websocket.send(f"SET auth t=kiwi {login}")
        while math.isnan(self.rate_hz):
            frame = await self._receive()
            if frame[:3] == SOUND_TAG:
                raise self._websocket.protocol_error("sends sound before it was requested")
            await self._read_message(frame)
        half_band_hz = round(min(max(bandwidth_hz, PASSBAND_SHARE * self.rate_hz), self.rate_hz) / 2)
        # It reads whole dB, and takes the frequency in kHz as a number of any length.
        gain_db = None if manual_gain_db is None else round(manual_gain_db)
        baseband_khz = f"{self._baseband_hz(frequency_hz) / 1e3:.6f}"
        for command in (
            "SET squelch=0 max=0",
            "SET genattn=0",
            "SET gen=0 mix=-1",
            "SET ident_user=heimdall",
            f"SET mod=iq low_cut={-half_band_hz} high_cut={half_band_hz} freq={baseband_khz}",
            f"SET agc={int(gain_db is None)} hang=0 thresh=-100 slope=6 decay=1000 "
            f"manGain={50 if gain_db is None else gain_db}",
            "SET compression=0",
            "SET keepalive",
        ):
            await self._websocket.send(command)
        return AppliedTuning(
            frequency_hz=float(baseband_khz) * 1e3 + self._offset_hz,
            passband_hz=(-float(half_band_hz), float(half_band_hz)),
            has_automatic_gain=gain_db is None,
            manual_gain_db=gain_db,
            level_kind=LevelKind.DBM,
            expects_stamps=True,
        )

    async def sound(self) -> SoundFrame:
        """Wait for the next sound frame; messages before it are read."""
        while True:
            frame = await self._receive()
            if frame[:3] == SOUND_TAG:
                try:
                    return parse_sound(frame)
                except KiwiStreamError as error:
                    raise self._websocket.protocol_error(str(error)) from error
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
        with contextlib.suppress(ReceiverError):  # the reader of sound frames reports it
            while True:
                await asyncio.sleep(KEEPALIVE_S)
                await self._websocket.send("SET keepalive")

    async def _receive(self) -> bytes:
        message = await self._websocket.receive()
        return message if isinstance(message, bytes) else message.encode()

    async def _read_message(self, frame: bytes) -> None:
        self._messages_bytes += len(frame)
        if self._messages_bytes > _MAX_MESSAGES_BYTES:
            raise self._websocket.protocol_error(f"sent more than {_MAX_MESSAGES_BYTES >> 20} MiB that are not samples")
        if frame[:3] in _UNREAD_TAGS:
            return
        if frame[:3] != MESSAGE_TAG:
            raise self._websocket.protocol_error(f"sent an unknown frame, which begins with {frame[:8]!r}")
        try:
            said = parse_message(frame)
        except KiwiStreamError as error:
            raise self._websocket.protocol_error(str(error)) from error
        refused = refusal(self.address.rx_id, said, self._reported, has_password=bool(self._websocket.url.password))
        if refused is not None:
            raise refused
        self._reported |= said
        if "audio_rate" in said:
            await self._websocket.send(f"SET AR OK in={self._number(said, 'audio_rate'):.0f} out=44100")
        if "sample_rate" in said and math.isnan(self.rate_hz):
            rate_hz = self._number(said, "sample_rate")
            if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
                raise self._websocket.protocol_error(f"reports a sample rate of {rate_hz:g} Hz")
            self.rate_hz = rate_hz

    @property
    def _offset_hz(self) -> float:
        """Frequency shift of a converter before the receiver."""
        return 1e3 * self._number(self._reported, "freq_offset", 0.0)

    def _baseband_hz(self, frequency_hz: float | None) -> float:
        """Frequency in the receiver's own range, after its frequency converter, if it has one."""
        range_hz = self._number(self._reported, "bandwidth", 30e6)
        if frequency_hz is None:
            return range_hz / 2
        offset_hz = self._offset_hz
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
            raise self._websocket.protocol_error(f"reports {key}={shown(str(text))}, which is not a number")
        return number


def _refusal_of_status(address: ReceiverAddress, status: ReceiverStatus) -> ReceiverError | None:
    return refusal_of_status(address.rx_id, status, has_password=bool(receiver_url(address).password))
