"""What simulated receivers share: faults, users, pace, status page."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.typedefs import Handler

from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.receivers.signal_sources import SentBlock, SignalSource

_PAGE = "<!doctype html><title>Welcome</title>"
_CLOSE_CODE = WSCloseCode.OK.to_bytes(2, "big")


@dataclass(frozen=True)
class Faults:
    """Faults of a simulated receiver; none by default. Blocks count from 0, the two stale ones of a KiwiSDR included.

    Attributes
    ----------
    redirect_to : str or None
        Target of a redirect of every request.
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


NO_FAULTS = Faults()


class SimulatedReceiver(ABC):
    """A simulated receiver of any kind, but for its protocol.

    Attributes
    ----------
    api_type : ReceiverKind
    faults : Faults
        May be exchanged while the server runs.
    num_users, num_requests : int
        Streams now, and requests so far.
    """

    api_type: ReceiverKind

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

    def application(self) -> web.Application:
        """Make the server's application."""
        application = web.Application(middlewares=[self._answer_by_fault])
        application.add_routes(self._routes())
        return application

    @abstractmethod
    def _routes(self) -> list[web.RouteDef]:
        """Paths of the server, with what answers them."""

    @web.middleware
    async def _answer_by_fault(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer as a fault says, else as the receiver does."""
        self.num_requests += 1
        if self.faults.says_nothing:
            await asyncio.Event().wait()
        if self.faults.redirect_to is not None:
            return web.Response(status=302, headers={"Location": self.faults.redirect_to})
        if self.faults.status is not None:
            return web.Response(status=self.faults.status)
        if self.faults.answers_page:
            return web.Response(text=_PAGE, content_type="text/html")
        return await handler(request)

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


async def end_stream(websocket: web.WebSocketResponse) -> None:
    """Tell the client that the stream is over, and leave it to the client to close the connection.

    Not ``close()``: with a concurrent ``receive()`` it closes the connection at once; a keepalive of the client then
    resets the connection, and the client loses unread samples.
    """
    await websocket.send_frame(_CLOSE_CODE, WSMsgType.CLOSE)


@asynccontextmanager
async def sending(stream: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Send a stream while the context reads what the client says; ends it with the context."""
    task = asyncio.create_task(stream)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        with contextlib.suppress(OSError):  # the client has left
            task.result()
