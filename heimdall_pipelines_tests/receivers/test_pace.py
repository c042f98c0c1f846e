"""Whether samples come as fast as they should."""

import asyncio

import pytest

from heimdall_pipelines.receivers.pace import Pace
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError
from heimdall_pipelines_tests.receivers.support import TUNING, impatient, in_steady_time

RATE_HZ = 12_000.0
BLOCK_SAMPLES = 600  # of 50 ms


async def received(block_comes_after_s: float, stored_in_s: float) -> Pace:
    """Take blocks, none of which is there before it is waited for, until no sample is missing."""
    pace = Pace(ReceiverAddress("torino", "http://torino", "kiwisdr"), TUNING, RATE_HZ, impatient(lag_s=0.3))
    while pace.num_missing > 0:
        async with pace.waiting():
            await asyncio.sleep(block_comes_after_s)
        pace.count(BLOCK_SAMPLES)
        await asyncio.sleep(stored_in_s)
    return pace


@pytest.mark.long
def test_a_store_that_is_slow_is_not_taken_for_a_slow_receiver():
    assert in_steady_time(received(0.01, 0.2)).num_missing <= 0


def test_a_receiver_that_is_slow_is_given_up_when_it_lags_too_far():
    # It lags by 100 ms more with each block: of the third, 300 ms behind, nothing is left to wait for.
    with pytest.raises(ReceiverError, match=r"sends too slowly: more than 0.3 s behind, after 0.1 s of 0.5 s"):
        in_steady_time(received(0.15, 0.0))
