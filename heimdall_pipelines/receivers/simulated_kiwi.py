"""A simulated KiwiSDR: what its own server does with kiwirecorder and with our client."""

import asyncio
import contextlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from aiohttp import WSMsgType, web

from heimdall_pipelines.formats.gnss_clock import NO_FIX_AGE
from heimdall_pipelines.formats.kiwi_stream import write_audio, write_message, write_sound
from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.receivers.signal_sources import SentBlock, SignalSource
from heimdall_pipelines.receivers.simulated_audio import STEREO_MODES, AudioEncoder, known_mode
from heimdall_pipelines.receivers.simulated_base import NO_FAULTS, Faults, SimulatedReceiver, end_stream, sending
from heimdall_pipelines.receivers.stream import GnssStamp

RECEIVED_HZ = 30_000_000
JUMP_S = 7
_JUMPS_AT_BLOCK = 20
_SAID_VERSION: dict[str, str | None] = {"version_maj": "1", "version_min": "813"}
_SAID_RANGE = {"center_freq": str(RECEIVED_HZ // 2), "bandwidth": str(RECEIVED_HZ), "adc_clk_nom": "66666600"}
_NEEDED = frozenset({"AR", "mod", "agc"})
_MODE = re.compile(
    r"SET mod=(\S{1,16}) low_cut=(-?[0-9.]+) high_cut=(-?[0-9.]+) freq=([0-9.]+)(?: param=-?[0-9]+)?\s*$"
)
_GAIN = re.compile(r"SET agc=([01]) hang=\S+ thresh=\S+ slope=\S+ decay=\S+ manGain=(-?[0-9]+)")
_LOGIN = re.compile(r"SET auth t=kiwi p=(\S*)(?: ipl=(\S*))?")
_SOFTWARE = "KiwiSDR_v1.813_simulated"
_WIDE_RATE_HZ = 15_000.0  # rates above are those of the 20.25 kHz mode


class SimulatedClock(StrEnum):
    """What the time stamps of a simulated KiwiSDR are."""

    GNSS = "gnss"
    UNSTAMPED = "unstamped"  # frames without stamps, as programs send that imitate a KiwiSDR
    FROZEN = "frozen"  # switched off by the owner: all stamps are zero
    NO_FIX = "no-fix"
    JUMPS = "jumps"  # the seconds change by JUMP_S in the middle


class SimulatedKiwiSdr(SimulatedReceiver):
    """A simulated KiwiSDR: sound in its modes, its status page, and camping on a stream that is there.

    Parameters
    ----------
    signal_source : SignalSource
        Played to each client from its beginning.
    password : str, optional
        None: no password is needed.
    max_users : int
        Further clients are refused as busy.
    speed : float
        Multiple of real time; infinite: as fast as the client reads.
    keepalive_s : float
        Timeout after the client's last keepalive, at which the stream ends; the real one has 60 s.
    converter_hz : float
        Frequency shift of a converter before the receiver, which is 30 MHz wide.
    faults : Faults
        None by default.
    clock : SimulatedClock
        What its time stamps are.
    num_open : int, optional
        Channels that need no password; None: all, or none if there is a password.
    max_programs : int, optional
        Channels that its owner gives to programs, as the status page states it.
    time_limit_password : str, optional
        Clients that know it pass the refusal of `faults`.

    Attributes
    ----------
    commands : list of str
        What clients have sent.
    connection_ids : list of str
        By which clients told their streams apart.
    num_users, num_requests : int
        Streams now, and requests so far.
    """

    api_type = ReceiverKind.KIWISDR

    def __init__(
        self,
        signal_source: SignalSource,
        *,
        password: str | None = None,
        max_users: int = 4,
        speed: float = 1.0,
        keepalive_s: float = 60.0,
        converter_hz: float = 0.0,
        faults: Faults = NO_FAULTS,
        clock: SimulatedClock = SimulatedClock.GNSS,
        num_open: int | None = None,
        max_programs: int | None = None,
        time_limit_password: str | None = None,
    ) -> None:
        super().__init__(signal_source, password=password, max_users=max_users, speed=speed, faults=faults)
        self.commands: list[str] = []
        self.connection_ids: list[str] = []
        self._keepalive_s = keepalive_s
        self._converter_hz = converter_hz
        self._clock = clock
        self._num_open = num_open if num_open is not None else (0 if password is not None else max_users)
        self._max_programs = max_programs
        self._time_limit_password = time_limit_password
        self._channels: dict[int, _Channel] = {}

    def _routes(self) -> list[web.RouteDef]:
        prefixes = ("", "/kiwi", "/ws/kiwi", "/no_wf", "/ws/no_wf")
        sound = [web.get(prefix + r"/{id:[0-9]+}/SND", self._sound) for prefix in prefixes]
        return [web.get("/status", self._status_page), *sound]

    async def _status_page(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        return web.Response(text="".join(f"{key}={value}\n" for key, value in self.status_lines().items()))

    def status_lines(self) -> dict[str, object]:
        """Content of the status page."""
        lines: dict[str, object] = {
            "status": "active",
            "offline": "no",
            "name": "simulated",
            "users": min(self.num_users, self._num_open),
            "users_max": self._num_open,
            "gps_good": 8,
            "sw_version": _SOFTWARE,
            "tdoa_ch": -1 if self._clock is SimulatedClock.FROZEN else self._max_users,
        }
        if self._num_open == 0:
            lines["auth"] = "password"
        if self._max_programs is not None:
            lines["ext_api"] = self._max_programs
        return lines

    async def _sound(self, request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(timeout=1.0)
        await websocket.prepare(request)
        connection_id = request.match_info["id"]
        is_taken = any(channel.connection_id == connection_id for channel in self._channels.values())
        self.connection_ids.append(connection_id)
        if is_taken:  # two streams of one client: the server drops the second without a word
            await websocket.close()
            return websocket
        if "camp" in request.query:
            await self._camp(websocket)
            return websocket
        number = next((number for number in range(self._max_users) if number not in self._channels), None)
        if number is None:
            await _say(websocket, {"too_busy": str(self._max_users)})
            await websocket.close()
            return websocket
        channel = self._channels[number] = _Channel(connection_id)
        self.num_users += 1
        try:
            if await self._logs_in(websocket):
                await self._serve_client(request, websocket, channel)
        finally:
            self.num_users -= 1
            del self._channels[number]
            channel.end()
            if not websocket.closed:
                await websocket.close()
        return websocket

    async def _logs_in(self, websocket: web.WebSocketResponse) -> bool:
        login = await self._command(websocket)
        while login is not None and not login.startswith("SET auth"):
            login = await self._command(websocket)
        given = _LOGIN.match(login or "")
        limit_password = unquote(given[2] or "") if given else ""
        is_exempt = self._time_limit_password is not None and limit_password == self._time_limit_password
        if self.faults.refusal is not None and not is_exempt:
            await _say(websocket, self.faults.refusal)
            return False
        password = unquote(given[1]) if given and given[1] != "#" else ""
        is_admitted = given is not None and self._admits(password)
        await _say(
            websocket,
            {"client_public_ip": "127.0.0.1", "rx_chans": str(self._max_users)},
            {"chan_no_pwd": str(self._num_open), "chan_no_pwd_true": str(self._num_open)},
            {"badp": "0" if is_admitted else "1"},
        )
        return is_admitted

    def _admits(self, password: str) -> bool:
        if self._password is None or self.num_users <= self._num_open:
            return True
        # The real one compares without regard to case.
        return hmac.compare_digest(password.casefold().encode(), self._password.casefold().encode())

    async def _serve_client(self, request: web.Request, websocket: web.WebSocketResponse, channel: "_Channel") -> None:
        audio_rate, sample_rate = self._said_rates()
        await _say(
            websocket,
            _SAID_VERSION | {"freq_offset": f"{self._converter_hz / 1e3:.3f}"},
            {"load_cfg": "%7B%22rx_gps%22%3A%22(0.000000%2C%200.000000)%22%7D"},
            _SAID_RANGE,
            {"audio_init": "0"} | audio_rate,
            sample_rate,
        )
        for _ in range(self.faults.num_messages):
            await _say(websocket, {"load_cfg_x": "x" * 65_536})
        while not channel.is_complete:
            command = await self._command(websocket)
            if command is None:
                return
            channel.take(command)
        async with sending(self._send_sound(request, websocket, channel)):
            with contextlib.suppress(TimeoutError):
                while (command := await self._command(websocket, self._keepalive_s)) is not None:
                    channel.take(command)

    def _said_rates(self) -> tuple[dict[str, str | None], dict[str, str | None]]:
        """The rate of the audio, and that of the samples."""
        rate_hz = self._signal_source.rate_hz()
        audio_rate = "20250" if rate_hz > _WIDE_RATE_HZ else "12000"
        return {"audio_rate": audio_rate}, {"sample_rate": f"{rate_hz:.6f}"}

    async def _command(self, websocket: web.WebSocketResponse, timeout_s: float | None = None) -> str | None:
        message = await websocket.receive(timeout_s)
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return None
        text = message.data if isinstance(message.data, str) else bytes(message.data).decode(errors="replace")
        self.commands.append(text)
        return text

    async def _send_sound(self, request: web.Request, websocket: web.WebSocketResponse, channel: "_Channel") -> None:
        async for number, frame in self._frames(channel):
            if number == self.faults.breaks_at and request.transport is not None:
                header = b"\x82\x7e" + len(frame).to_bytes(2, "big")  # binary, whole, length in 16 bits
                request.transport.write(header + frame[: len(frame) // 2])
                request.transport.close()
                return
            await websocket.send_bytes(frame)
            channel.pass_on(frame)
        await end_stream(websocket)

    async def _frames(self, channel: "_Channel") -> AsyncIterator[tuple[int, bytes]]:
        sequence = 0
        async for number, block in self._paced(channel.frequency_hz + self._converter_hz, None):
            if number in self.faults.lost:
                sequence += 1
                continue
            frame = self.faults.replaced.get(number)
            if frame is not None:
                sequence += 1
                yield number, frame
                continue
            if channel.mode in STEREO_MODES:
                yield number, self._iq_frame(number, sequence, block, channel)
                sequence += 1
                continue
            for audio in channel.audio.frames(block.stored, channel.mode, is_compressed=channel.is_compressed):
                yield (
                    number,
                    write_audio(
                        audio,
                        sequence=sequence,
                        s_meter_dbm=block.level_dbfs,
                        little_endian=channel.is_little_endian,
                    ),
                )
                sequence += 1

    def _iq_frame(self, number: int, sequence: int, block: SentBlock, channel: "_Channel") -> bytes:
        stamp = self._stamp(number, block.stamp)
        return write_sound(
            block.stored,
            sequence=sequence,
            s_meter_dbm=block.level_dbfs,
            fix_age_s=stamp.age_s,
            gps_second=stamp.second,
            gps_nanosecond=stamp.nanosecond,
            adc_overflow=number in self.faults.overdriven,
            little_endian=channel.is_little_endian,
            has_stamp=self._clock is not SimulatedClock.UNSTAMPED,
        )

    def _stamp(self, number: int, stamp: GnssStamp) -> GnssStamp:
        if self._clock is SimulatedClock.FROZEN:
            return GnssStamp(0, 0, 0)
        if self._clock is SimulatedClock.NO_FIX:
            return GnssStamp(NO_FIX_AGE, stamp.second, stamp.nanosecond)
        if self._clock is SimulatedClock.JUMPS and number >= _JUMPS_AT_BLOCK:
            return GnssStamp(stamp.age_s, stamp.second + JUMP_S, stamp.nanosecond)
        return stamp

    async def _camp(self, websocket: web.WebSocketResponse) -> None:
        """Let a client listen to the stream of another one, whose mode and frequency it cannot change."""
        if await self._command(websocket) is None:
            return
        await _say(websocket, {"badp": "0"}, _SAID_VERSION, {"monitor": None})
        frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        channel: _Channel | None = None
        sending: asyncio.Task[None] | None = None
        try:
            while (command := await self._command(websocket, self._keepalive_s)) is not None:
                wanted = re.match(r"SET MON_CAMP=([0-9]+)", command)
                if wanted is None or sending is not None:
                    continue
                channel = self._channels.get(int(wanted[1]))
                if channel is None:
                    await _say(websocket, {"camp_disconnect": None})
                    continue
                audio_rate, sample_rate = self._said_rates()
                await _say(
                    websocket,
                    {"camp": f"1,{wanted[1]}"},
                    _SAID_RANGE,
                    {"audio_camp": "0,0"} | audio_rate | sample_rate,
                    {"audio_adpcm_state": channel.audio.adpcm_state()},
                )
                channel.campers.append(frames)
                sending = asyncio.create_task(_forward(frames, websocket))
        except TimeoutError:
            pass
        finally:
            if channel is not None and frames in channel.campers:
                channel.campers.remove(frames)
            if sending is not None:
                sending.cancel()
                await asyncio.wait([sending])


async def _say(websocket: web.WebSocketResponse, *messages: Mapping[str, str | None]) -> None:
    for message in messages:
        await websocket.send_bytes(write_message(message))


async def _forward(frames: "asyncio.Queue[bytes | None]", websocket: web.WebSocketResponse) -> None:
    with contextlib.suppress(OSError):
        while (frame := await frames.get()) is not None:
            await websocket.send_bytes(frame)
        await _say(websocket, {"camp_disconnect": None})


@dataclass(eq=False)
class _Channel:
    """State of one of the receiver's channels, set by its client's commands."""

    connection_id: str
    mode: str = "am"
    frequency_hz: float = 0.0
    is_compressed: bool = True
    is_little_endian: bool = False
    missing: set[str] = field(default_factory=lambda: set(_NEEDED))
    audio: AudioEncoder = field(default_factory=AudioEncoder)
    campers: list["asyncio.Queue[bytes | None]"] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether everything has come without which the receiver does not stream."""
        return not self.missing

    def take(self, command: str) -> None:
        """Do what a command says; what a KiwiSDR cannot read it ignores."""
        tuned = _MODE.match(command)
        if tuned is not None:
            self.mode = known_mode(tuned[1])
            self.frequency_hz = float(tuned[4]) * 1e3
            self.missing.discard("mod")
        elif _GAIN.match(command):
            self.missing.discard("agc")
        elif command.startswith("SET AR OK in="):
            self.missing.discard("AR")
        elif command.startswith("SET compression="):
            self.is_compressed = command.strip() != "SET compression=0"
        elif command.strip() == "SET little-endian":
            self.is_little_endian = True

    def pass_on(self, frame: bytes) -> None:
        """Send a frame to those who listen in."""
        for frames in self.campers:
            frames.put_nowait(frame)

    def end(self) -> None:
        """Tell those who listen in that the stream is over."""
        for frames in self.campers:
            frames.put_nowait(None)
