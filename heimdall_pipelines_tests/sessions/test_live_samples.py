"""What is kept of a stream: time from the arrival of its blocks, however many they are; what measures its levels."""

import subprocess
import sys

import numpy as np
import pytest

from heimdall_pipelines.receivers.stream import IqBlock
from heimdall_pipelines.sessions.live_samples import LiveSamples

RATE_HZ = 12_000.0
BLOCK_SAMPLES = 120
BLOCK_NS = 10_000_000
START_NS = 1_760_000_000_000_000_000


@pytest.mark.parametrize("num_blocks", [500, 50_000])  # fewer and many more than are remembered one by one
def test_without_stamps_the_least_delayed_block_gives_the_start(num_blocks):
    delays_ns = np.random.default_rng(2).integers(1_000, 50_000_000, num_blocks)
    samples = LiveSamples("a", num_blocks * BLOCK_SAMPLES, RATE_HZ)
    block = IqBlock(np.zeros(BLOCK_SAMPLES, np.complex64))
    for number, delay_ns in enumerate(delays_ns.tolist(), start=1):
        list(samples.take(block, START_NS + number * BLOCK_NS + delay_ns))
    clock = samples.clock()
    assert clock.time_source == "arrival"
    assert clock.start_time_unix_ns == START_NS + delays_ns.min()
    # A median of 4096 of the delays at least scatters by 50 ms / (2 sqrt(4096)) = 0.4 ms: within five of that.
    truth_ns = BLOCK_NS + np.median(delays_ns) - delays_ns.min()
    assert clock.uncertainty_ns == pytest.approx(truth_ns, abs=1.0 if num_blocks == 500 else 2e6)


@pytest.mark.long
def test_nothing_is_compiled_or_loaded_while_levels_are_measured():
    process = [sys.executable, "-m", "heimdall_pipelines_tests.sessions.measuring_process"]
    printed = subprocess.run(process, stdout=subprocess.PIPE, text=True, check=True).stdout
    loaded_before, loaded_after = map(int, printed.split())
    assert 0 < loaded_before == loaded_after
