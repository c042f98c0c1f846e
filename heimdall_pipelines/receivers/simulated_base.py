"""What simulated receivers share: faults, users, pace, status page."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.receivers.signal_sources import SentBlock, SignalSource

SOFTWARE = "KiwiSDR_v1.813_simulated"
_PAGE = "<!doctype html><title>Welcome</title>"


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


class SimulatedReceiver(Protocol):
    """A simulated receiver."""

    api_type: ReceiverKind

    def application(self) -> web.Application:
        """Make the server's application."""
        ...


class SimulatedBase(ABC):
    """A simulated receiver of any kind, but for its protocol."""

    api_type: ReceiverKind

    @abstractmethod
    def application(self) -> web.Application:
        """Make the server's application."""

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
        lines = self.status_lines()
        return web.Response(text="".join(f"{key}={value}\n" for key, value in lines.items()))

    def status_lines(self) -> dict[str, object]:
        """Content of the status page."""
        return {
            "status": "active",
            "offline": "no",
            "name": "simulated",
            "users": self.num_users,
            "users_max": self._max_users,
            "gps_good": 8,
            "sw_version": SOFTWARE,
        }

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
