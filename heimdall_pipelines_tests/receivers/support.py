"""Played receivers on loopback, and what a client gets from them."""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from aiohttp import web

from heimdall_pipelines.formats.gnss_clock import GnssStamps
from heimdall_pipelines.formats.kiwi_chunks import BLOCK_SAMPLES
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.signal_sources import Place, SyntheticSource, Transmission, WavSource
from heimdall_pipelines.receivers.simulator import serving
from heimdall_pipelines.receivers.stream import (
    AppliedTuning,
    IqBlock,
    Receiver,
    ReceiverAddress,
    ReceiverError,
    ReceiverStatus,
    Tuning,
    WaitLimits,
)

FAST = float("inf")
FREQUENCY_HZ = 7_050_000.0
START_NS = 1_767_268_800 * 10**9 + 123_456_789
TRANSMISSION = Transmission(FREQUENCY_HZ, Place(45.05, 8.2, 150.0))
TORINO = Place(45.044, 7.672, 250.0)
GENOVA = Place(44.395, 8.956, 100.0)
TUNING = Tuning(FREQUENCY_HZ, 8_000.0, 0.5)
# Long enough for a machine that stands still for a while, where nothing is to be waited for in vain.
LIMITS = WaitLimits(connect_s=100.0, handshake_s=100.0, silence_s=100.0, lag_s=100.0)

_Result = TypeVar("_Result")


def impatient(**limits: float) -> WaitLimits:
    """The same but for one limit, so that a machine that is slow runs into no other."""
    return replace(LIMITS, **limits)


def patient(api_type: str, _limits: WaitLimits) -> Receiver:
    """A client that waits longer than a station's own limits allow, where it runs beside the receiver in real time."""
    return receiver_of(api_type, LIMITS)


class _WaitingCounted(selectors.DefaultSelector):
    """Counts the time that it was to wait, and no more of it where the machine stands still."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = super().select(timeout)
        took_s = time.monotonic() - began
        self.waited_s += took_s if timeout is None else min(took_s, max(timeout, 0.0))
        return ready


class _SteadyLoop(asyncio.SelectorEventLoop):
    """By its clock only waiting takes time, and all work, or a machine that stands still, none."""

    def __init__(self) -> None:
        self._waiting = _WaitingCounted()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.waited_s


def in_steady_time(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run simulated and their clients in one loop, where no limit runs out because the machine stands still."""
    with asyncio.Runner(loop_factory=_SteadyLoop) as runner:
        return runner.run(main)


def synthetic(rx_id: str = "torino", place: Place = TORINO, **options) -> SyntheticSource:
    """A signal_source that begins at START_NS for every client."""
    return SyntheticSource(rx_id, place, TRANSMISSION, clock=lambda: START_NS, **options)


def whole(path: Path) -> Tuning:
    """What records a KiwiSDR file to its end."""
    num_samples = WavSource(path).num_samples
    return Tuning(77_500.0, 8_000.0, (num_samples - BLOCK_SAMPLES / 2) / 12_001 / 1.0001)


@dataclass
class Recorded:
    """What a stream gave."""

    nominal_rate_hz: float
    quantisation_step: float | None
    applied: AppliedTuning
    blocks: list[IqBlock] = field(repr=False)  # asyncio writes out what a task gives

    @property
    def iq(self) -> np.ndarray:
        return np.concatenate([block.iq for block in self.blocks])

    @property
    def stamps(self) -> GnssStamps:
        sizes = [block.num_lost_before + block.iq.size for block in self.blocks]
        samples = np.cumsum(sizes) - [block.iq.size for block in self.blocks]
        return GnssStamps(
            samples.astype(np.int64),
            np.array([block.stamp.age_s for block in self.blocks], np.uint8),
            np.array([block.stamp.second for block in self.blocks], np.uint32),
            np.array([block.stamp.nanosecond for block in self.blocks], np.uint32),
        )


async def recorded_from(url: str, api_type: str, *, tuning: Tuning = TUNING, limits: WaitLimits = LIMITS) -> Recorded:
    """Record from an address."""
    address = ReceiverAddress("torino", url, api_type)
    async with receiver_of(api_type, limits).stream(address, tuning) as stream:
        blocks = [block async for block in stream]
        return Recorded(stream.nominal_rate_hz, stream.quantisation_step, stream.applied, blocks)


def record(receiver, *, tuning: Tuning = TUNING, limits: WaitLimits = LIMITS, user_info: str = "") -> Recorded:
    """Run a receiver, record from it."""

    async def run() -> Recorded:
        async with serving(receiver) as url:
            return await recorded_from(
                url.replace("//", f"//{user_info}"), receiver.api_type, tuning=tuning, limits=limits
            )

    return in_steady_time(run())


def status_of(receiver, *, limits: WaitLimits = LIMITS) -> ReceiverStatus:
    """Run a receiver, ask for its status."""

    async def run() -> ReceiverStatus:
        async with serving(receiver) as url:
            return await receiver_of(receiver.api_type, limits).status(
                ReceiverAddress("torino", url, receiver.api_type)
            )

    return in_steady_time(run())


def failure(receiver, **options) -> ReceiverError:
    """Record in vain; gives the error, which names the receiver."""
    with pytest.raises(ReceiverError) as caught:
        record(receiver, **options)
    error = caught.value
    assert str(error) == f"torino: {error.reason}"
    return error


@asynccontextmanager
async def answering(handler):
    """A server whose /iq and /status answer as a test wants."""
    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
