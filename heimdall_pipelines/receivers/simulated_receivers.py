"""Simulated receivers: servers that speak the protocol of a KiwiSDR or HTTP IQ; `Faults` makes them misbehave."""

import asyncio
import contextlib
import hmac
import re
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

from aiohttp import WSCloseCode, WSMsgType, web

from heimdall_pipelines.formats.kiwi_stream import write_message, write_sound
from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.receivers.http_iq import RATE_HEADER
from heimdall_pipelines.receivers.signal_sources import SentBlock, SignalSource

SOFTWARE = "KiwiSDR_v1.550_simulated"
RECEIVED_HZ = 30_000_000
_NEEDED = frozenset({"AR", "mod", "agc", "compression"})
_MODE = re.compile(r"SET mod=iq low_cut=-?[0-9.]+ high_cut=-?[0-9.]+ freq=([0-9.]+)")
_CLOSE_CODE = WSCloseCode.OK.to_bytes(2, "big")
_PAGE = "<!doctype html><title>Welcome</title>"


@dataclass(frozen=True)
class Faults:
    """Faults of a simulated receiver; none by default. Blocks count from 0, the two stale ones of a KiwiSDR included.

    Attributes
    ----------
    redirect_to : str or None
        Target of a redirect of the first request.
    answers_page : bool
        Answers the first request with an HTML page.
    status : int or None
        Answers the first request with this HTTP status.
    says_nothing : bool
        Accepts the connection and never answers.
    refusal : mapping or None
        KiwiSDR: sent instead of a login's success, such as ``{"down": None}`` or ``{"redirect": "http://…"}``.
    silent_from : int or None
        Sends nothing from this block on.
    closes_at : int or None
        Closes the connection before this block.
    breaks_at : int or None
        Closes the connection after half of this block, in the middle of a sample.
    delay_s : float
        Delay before each block, at any speed.
    replaced : mapping of int to bytes
        KiwiSDR: frames sent instead of these blocks.
    lost : frozenset of int
        KiwiSDR: blocks that are left out, with their sequence numbers.
    overdriven : frozenset of int
        KiwiSDR: blocks with the flag for an overdriven converter.
    num_messages : int
        KiwiSDR: messages of 64 kB sent before the samples.
    headers : mapping of str to str
        HTTP IQ: headers to set.
    """

    redirect_to: str | None = None
    answers_page: bool = False
    status: int | None = None
    says_nothing: bool = False
    refusal: Mapping[str, str | None] | None = None
    silent_from: int | None = None
    closes_at: int | None = None
    breaks_at: int | None = None
    delay_s: float = 0.0
    replaced: Mapping[int, bytes] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()
    overdriven: frozenset[int] = frozenset()
    num_messages: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


NO_FAULTS = Faults()


class SimulatedReceiver(Protocol):
    """A simulated receiver."""

    api_type: ReceiverKind

    def application(self) -> web.Application:
        """Make the server's application."""
        ...


class _SimulatedBase:
    """What both kinds of simulated receivers share."""

    def __init__(
        self,
        signal_source: SignalSource,
        *,
        password: str | None = None,
        max_users: int = 4,
        speed: float = 1.0,
        faults: Faults = NO_FAULTS,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be positive, is {speed}")
        self.faults = faults
        self.num_users = 0
        self.num_requests = 0
        self._signal_source = signal_source
        self._password = password
        self._max_users = max_users
        self._speed = speed

    @property
    def needs_password(self) -> bool:
        """Whether clients must give one."""
        return self._password is not None

    async def _status(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        fault = await self._fault()
        if fault is not None:
            return fault
        lines = {
            "status": "active",
            "offline": "no",
            "name": "simulated",
            "users": self.num_users,
            "users_max": self._max_users,
            "gps_good": 8,
            "sw_version": SOFTWARE,
        }
        return web.Response(text="".join(f"{key}={value}\n" for key, value in lines.items()))

    async def _fault(self) -> web.Response | None:
        """Return the answer of a fault, None without such a fault."""
        self.num_requests += 1
        if self.faults.says_nothing:
            await asyncio.Event().wait()
        if self.faults.redirect_to is not None:
            return web.Response(status=302, headers={"Location": self.faults.redirect_to})
        if self.faults.status is not None:
            return web.Response(status=self.faults.status)
        if self.faults.answers_page:
            return web.Response(text=_PAGE, content_type="text/html")
        return None

    async def _paced(self, frequency_hz: float, requested_hz: float | None) -> AsyncIterator[tuple[int, SentBlock]]:
        """Give blocks at the receiver's pace; ends, or stalls, if a fault says so."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        num_samples = 0
        rate_hz = self._signal_source.rate_hz(requested_hz) * self._speed
        for number, block in enumerate(self._signal_source.blocks(frequency_hz, requested_hz)):
            num_samples += block.num_samples
            if self.faults.delay_s:
                await asyncio.sleep(self.faults.delay_s)
            if number == self.faults.silent_from:
                await asyncio.Event().wait()
            if number == self.faults.closes_at:
                return
            # At infinite speed too, other tasks run between two blocks.
            await asyncio.sleep(max(began + num_samples / rate_hz - loop.time(), 0.0))
            yield number, block


class SimulatedKiwiSdr(_SimulatedBase):
    """A simulated KiwiSDR: its IQ stream and its status page.

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

    Attributes
    ----------
    commands : list of str
        What clients have sent.
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
    ) -> None:
        super().__init__(signal_source, password=password, max_users=max_users, speed=speed, faults=faults)
        self.commands: list[str] = []
        self._keepalive_s = keepalive_s
        self._converter_hz = converter_hz

    def application(self) -> web.Application:
        """Make the server's application."""
        application = web.Application()
        application.router.add_get("/status", self._status)
        application.router.add_get(r"/{time:[0-9]+}/SND", self._sound)
        return application

    async def _sound(self, request: web.Request) -> web.StreamResponse:
        fault = await self._fault()
        if fault is not None:
            return fault
        websocket = web.WebSocketResponse(timeout=1.0)
        await websocket.prepare(request)
        login = await self._command(websocket)
        refusal = self._refusal(login)
        await websocket.send_bytes(write_message(refusal or {"badp": "0"}))
        if refusal is not None:
            await websocket.close()
            return websocket
        self.num_users += 1
        try:
            await self._serve_client(request, websocket)
        finally:
            self.num_users -= 1
        return websocket

    def _refusal(self, login: str | None) -> Mapping[str, str | None] | None:
        if self.faults.refusal is not None:
            return self.faults.refusal
        if self.num_users >= self._max_users:
            return {"too_busy": str(self._max_users)}
        given = unquote(login.rpartition(" p=")[2]) if login and login.startswith("SET auth t=kiwi p=") else None
        if given is None or not hmac.compare_digest(given.encode(), (self._password or given).encode()):
            return {"badp": "1"}
        return None

    async def _serve_client(self, request: web.Request, websocket: web.WebSocketResponse) -> None:
        rate = f"{self._signal_source.rate_hz():.6f}"
        for said in (
            {"version_maj": "1", "version_min": "550"},
            {"center_freq": str(RECEIVED_HZ // 2), "bandwidth": str(RECEIVED_HZ), "adc_clk_nom": "66666600"},
            {"freq_offset": f"{self._converter_hz / 1e3:.3f}"},
            {"audio_init": "0", "audio_rate": "12000", "sample_rate": rate},
        ):
            await websocket.send_bytes(write_message(said))
        for _ in range(self.faults.num_messages):
            await websocket.send_bytes(write_message({"load_cfg": "x" * 65_536}))
        frequency_hz = await self._tuned(websocket)
        if frequency_hz is None:
            return
        sending = asyncio.create_task(self._send_sound(request, websocket, frequency_hz))
        try:
            with contextlib.suppress(TimeoutError):
                while await self._command(websocket, self._keepalive_s) is not None:
                    pass
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        if not sending.cancelled():
            with contextlib.suppress(OSError):  # the client has left
                sending.result()
        await websocket.close()

    async def _tuned(self, websocket: web.WebSocketResponse) -> float | None:
        """Wait for all commands that a KiwiSDR needs before it streams; gives the frequency, None if it leaves."""
        missing = set(_NEEDED)
        frequency_hz = 0.0
        while missing:
            command = await self._command(websocket)
            if command is None:
                return None
            mode = _MODE.match(command)
            if mode is not None:
                frequency_hz = float(mode[1]) * 1e3 + self._converter_hz
            missing -= {word for word in _NEEDED if command.startswith(f"SET {word}")}
        return frequency_hz

    async def _command(self, websocket: web.WebSocketResponse, timeout_s: float | None = None) -> str | None:
        message = await websocket.receive(timeout_s)
        if message.type is not WSMsgType.TEXT:
            return None
        self.commands.append(message.data)
        return str(message.data)

    async def _send_sound(self, request: web.Request, websocket: web.WebSocketResponse, frequency_hz: float) -> None:
        async for number, block in self._paced(frequency_hz, None):
            if number in self.faults.lost:
                continue
            frame = self.faults.replaced.get(number)
            if frame is None:
                frame = write_sound(
                    block.stored,
                    sequence=number,
                    s_meter_dbm=block.level_dbfs,
                    fix_age_s=block.stamp.age_s,
                    gps_second=block.stamp.second,
                    gps_nanosecond=block.stamp.nanosecond,
                    adc_overflow=number in self.faults.overdriven,
                )
            if number == self.faults.breaks_at and request.transport is not None:
                header = b"\x82\x7e" + len(frame).to_bytes(2, "big")  # binary, whole, length in 16 bits
                request.transport.write(header + frame[: len(frame) // 2])
                request.transport.close()
                return
            await websocket.send_bytes(frame)
        # Not close(): with a concurrent receive() it closes the connection at once; a keepalive of the client then
        # resets the connection, and the client loses unread samples. `_serve_client` waits for the client to leave.
        await websocket.send_frame(_CLOSE_CODE, WSMsgType.CLOSE)


class SimulatedHttpIq(_SimulatedBase):
    """A receiver that streams IQ over HTTP; parameters as of `SimulatedKiwiSdr`; user names are ignored."""

    api_type = ReceiverKind.HTTP_IQ

    def application(self) -> web.Application:
        """Make the server's application."""
        application = web.Application()
        application.router.add_get("/status", self._status)
        application.router.add_get("/iq", self._iq)
        return application

    async def _iq(self, request: web.Request) -> web.StreamResponse:
        fault = await self._fault() or self._refusal(request)
        if fault is not None:
            return fault
        try:
            frequency_hz, requested_hz = float(request.query["tune"]), float(request.query["rate"])
        except (KeyError, ValueError):
            return web.Response(status=400, text="tune and rate in Hz are needed")
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                RATE_HEADER: f"{self._signal_source.rate_hz(requested_hz):.3f}",
                **self.faults.headers,
            }
        )
        response.force_close()
        self.num_users += 1
        try:
            await response.prepare(request)
            async for number, block in self._paced(frequency_hz, requested_hz):
                if block.is_stale:
                    continue
                stored = block.stored.astype("<i2").tobytes()
                if number == self.faults.breaks_at:
                    await response.write(stored[: len(stored) // 2 + 1])
                    break
                await response.write(stored)
            await response.write_eof()
        except OSError:  # the client has all its samples
            pass
        finally:
            self.num_users -= 1
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.num_users >= self._max_users:
            return web.Response(status=503)
        given = request.headers.get("Authorization", "")
        if self._password is not None and not _has_password(given, self._password):
            return web.Response(status=401)
        return None


def _has_password(authorization: str, password: str) -> bool:
    scheme, _, encoded = authorization.partition(" ")
    try:
        given = b64decode(encoded).partition(b":")[2]
    except ValueError:
        return False
    return scheme == "Basic" and hmac.compare_digest(given, password.encode())
