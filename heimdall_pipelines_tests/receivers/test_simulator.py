"""Played receivers as servers of their own."""

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from heimdall_pipelines.formats.kiwi_chunks import BLOCK_SAMPLES
from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.receivers import kiwisdr
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.signal_sources import WavSource
from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr, SimulatedOpenWebRx
from heimdall_pipelines.receivers.simulator import SimulatorError, run_simulated, serving
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError

from ..formats.support import kiwi_file
from .support import FAST, LIMITS, TUNING, in_steady_time, recorded_from, synthetic, whole


def test_players_in_a_thread_are_there_until_the_context_ends():
    simulated = [SimulatedKiwiSdr(synthetic(), speed=FAST), SimulatedOpenWebRx(synthetic(), speed=FAST)]
    with run_simulated(*simulated) as urls:
        for receiver, url in zip(simulated, urls, strict=True):
            assert asyncio.run(recorded_from(url, receiver.api_type)).blocks
    for receiver, url in zip(simulated, urls, strict=True):
        with pytest.raises(ReceiverError, match="torino: cannot be reached"):
            asyncio.run(recorded_from(url, receiver.api_type))


def test_players_in_a_thread_end_while_somebody_listens():
    with run_simulated(SimulatedKiwiSdr(synthetic(), speed=0.01)) as [url]:

        async def listen():
            async with receiver_of("kiwisdr", LIMITS).stream(ReceiverAddress("a", url, "kiwisdr"), TUNING):
                pass

        asyncio.run(listen())


def test_a_port_that_is_taken_is_an_error_that_says_so():
    async def run():
        async with serving(SimulatedKiwiSdr(synthetic())) as url:
            port = int(url.rpartition(":")[2])
            async with serving(SimulatedKiwiSdr(synthetic()), port=port):
                pass

    with pytest.raises(SimulatorError, match=r"cannot listen at 127.0.0.1:\d+: .*; give another --port"):
        asyncio.run(run())


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_an_invalid_speed_is_refused(speed):
    with pytest.raises(ValueError, match="speed must be positive"):
        SimulatedKiwiSdr(synthetic(), speed=speed)


def test_a_live_player_gives_samples_no_sooner_than_a_receiver_would():
    async def run():
        loop = asyncio.get_running_loop()
        async with serving(SimulatedKiwiSdr(synthetic(), speed=4.0)) as url:
            began = loop.time()
            recorded = await recorded_from(url, "kiwisdr")
            return loop.time() - began, recorded.iq.size

    elapsed_s, num_samples = asyncio.run(run())
    assert elapsed_s >= num_samples / 12_001 / 4.0


@pytest.mark.long
def test_a_slow_client_receives_the_complete_signal(tmp_path, monkeypatch):
    # Whatever the client sends when the server has closed already resets the connection, and unread samples are lost.
    monkeypatch.setattr(kiwisdr, "KEEPALIVE_S", 0.01)
    path = kiwi_file(tmp_path, seconds=20.0)
    simulated = [SimulatedKiwiSdr(WavSource(path), speed=FAST) for _ in range(4)]

    async def read_slowly(receiver, url):
        iq = []
        async with receiver_of(receiver.api_type, LIMITS).stream(
            ReceiverAddress("torino", url, receiver.api_type), whole(path)
        ) as stream:
            async for block in stream:
                iq.append(block.iq)
                await asyncio.sleep(0.002)
        return np.concatenate(iq)

    async def run():
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(serving(receiver)) for receiver in simulated]
            return await asyncio.gather(*map(read_slowly, simulated, urls))

    sent = np.concatenate(list(open_recording(path).blocks()))
    for iq in in_steady_time(run()):
        np.testing.assert_array_equal(iq, sent[: iq.size])
        assert sent.size - iq.size < BLOCK_SAMPLES
