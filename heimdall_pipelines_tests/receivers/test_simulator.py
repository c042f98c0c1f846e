"""Played receivers as servers of their own."""

import asyncio

import pytest

from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.players import HttpIqPlayer, KiwiPlayer
from heimdall_pipelines.receivers.simulator import SimulatorError, playing, serving
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError

from .support import FAST, LIMITS, TUNING, recorded_from, synthetic


def test_players_in_a_thread_are_there_until_the_context_ends():
    players = [KiwiPlayer(synthetic(), speed=FAST), HttpIqPlayer(synthetic(), speed=FAST)]
    with playing(*players) as urls:
        for player, url in zip(players, urls, strict=True):
            assert asyncio.run(recorded_from(url, player.api_type)).blocks
    for player, url in zip(players, urls, strict=True):
        with pytest.raises(ReceiverError, match="torino: cannot be reached"):
            asyncio.run(recorded_from(url, player.api_type))


def test_players_in_a_thread_end_while_somebody_listens():
    with playing(KiwiPlayer(synthetic(), speed=0.01)) as [url]:

        async def listen():
            async with receiver_of("kiwisdr", LIMITS).stream(ReceiverAddress("a", url, "kiwisdr"), TUNING):
                pass

        asyncio.run(listen())


def test_a_port_that_is_taken_is_an_error_that_says_so():
    async def run():
        async with serving(KiwiPlayer(synthetic())) as url:
            port = int(url.rpartition(":")[2])
            async with serving(KiwiPlayer(synthetic()), port=port):
                pass

    with pytest.raises(SimulatorError, match=r"cannot listen at 127.0.0.1:\d+: .*; give another --port"):
        asyncio.run(run())


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(ValueError, match="speed must be positive"):
        KiwiPlayer(synthetic(), speed=speed)


def test_a_live_player_gives_samples_no_sooner_than_a_receiver_would():
    async def run():
        loop = asyncio.get_running_loop()
        async with serving(KiwiPlayer(synthetic(), speed=4.0)) as url:
            began = loop.time()
            recorded = await recorded_from(url, "kiwisdr")
            return loop.time() - began, recorded.iq.size

    elapsed_s, num_samples = asyncio.run(run())
    assert elapsed_s >= num_samples / 12_001 / 4.0
