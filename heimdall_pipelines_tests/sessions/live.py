"""What tests of recordings share: receivers that do as told, and simulated that speak the real protocols."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from heimdall_pipelines.receivers.stream import AppliedTuning, IqBlock, ReceiverStatus
from heimdall_pipelines.sessions.record_request import RecordRequest
from heimdall_pipelines.sessions.recording import RecordingEnvironment, RecordReport, record_session
from heimdall_pipelines.store.stations import Station, add_station
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.sessions.support import noise, quiet

RATE_HZ = 12_000.0
FREQUENCY_HZ = 77_500.0
BLOCK_SAMPLES = 512

Play = Callable[[str, int], AsyncIterator[IqBlock]]


def signal(duration_s: float, rate_hz: float = RATE_HZ, key: int = 0) -> np.ndarray:
    """A carrier 100 Hz off in noise, both parts well below full scale."""
    num_samples = round(duration_s * rate_hz)
    carrier = 0.1 * np.exp(2j * np.pi * 100.0 * np.arange(num_samples) / rate_hz)
    return (carrier + 0.01 * noise(num_samples, key)).astype(np.complex64)


async def blocks_of(iq: np.ndarray) -> AsyncIterator[IqBlock]:
    """Samples as a receiver without GNSS sends them."""
    for begin in range(0, iq.size, BLOCK_SAMPLES):
        yield IqBlock(iq[begin : begin + BLOCK_SAMPLES])


class ScriptedStream:
    """A stream of given blocks."""

    quantisation_step = 1 / 32768
    applied = AppliedTuning(FREQUENCY_HZ, (-RATE_HZ / 2, RATE_HZ / 2))

    def __init__(self, blocks, rate_hz):
        self.nominal_rate_hz = rate_hz
        self._blocks = blocks

    def __aiter__(self):
        return self._blocks


class ScriptedReceiver:
    """Plays what ``play(rx_id, attempt)`` gives, attempts counted from 1; raising is not being reachable."""

    def __init__(self, play: Play, rate_hz: float = RATE_HZ) -> None:
        self._play = play
        self._rate_hz = rate_hz
        self.attempts: dict[str, int] = {}
        self.asked = []

    @asynccontextmanager
    async def stream(self, address, tuning):
        self.asked.append((address, tuning))
        self.attempts[address.rx_id] = self.attempts.get(address.rx_id, 0) + 1
        yield ScriptedStream(self._play(address.rx_id, self.attempts[address.rx_id]), self._rate_hz)

    async def status(self, _address):
        return ReceiverStatus(is_up=True)

    def __call__(self, _api_type, _limits):
        return self


def add_receivers(stores: Stores, *rx_ids: str, **values) -> None:
    """Add active stations that can be recorded.

    By default they are waited for so long that a machine that stands still for a while, or compiles what measures
    levels for the first time (45 s where it is busy), runs into no limit.
    """
    given = {"api_type": "kiwisdr", "url": "http://127.0.0.1:1", "timeout_seconds": 300.0} | values
    for number, rx_id in enumerate(rx_ids):
        add_station(stores.database, Station(rx_id, rx_id, 45.0 + number / 10, 8.0, 100.0, **given))


def let_pass(seconds: float) -> None:
    """Move the clock of the running event loop on: limits run out when a test wants it, on a busy machine too."""
    loop = asyncio.get_running_loop()
    clock_s = loop.time
    loop.time = lambda: clock_s() + seconds


async def no_pause(_delay_s: float) -> None:
    """A back-off without delay."""


def record(stores: Stores, receiver, *rx_ids: str, progress=quiet, **values) -> RecordReport:
    """Record one second from scripted receivers."""
    environment = {"sleep": no_pause, "rng": np.random.default_rng(0)}
    environment |= {name: values.pop(name) for name in ("sleep", "wall_clock_ns") if name in values}
    request = RecordRequest(**({"frequency_hz": FREQUENCY_HZ, "duration_s": 1.0, "rx_ids": rx_ids or None} | values))
    return record_session(stores, request, progress, RecordingEnvironment(receiver_of=receiver, **environment))
