"""Decimation to a channel."""

import numpy as np
import pytest

from heimdall_pipelines.rf.decimation import plan_decimator


def decimated(iq, rate_hz, channel_hz, block=100_000):
    decimator = plan_decimator(rate_hz, channel_hz)
    blocks = [iq[start : start + block].astype(np.complex64) for start in range(0, iq.size, block)]
    return decimator, np.concatenate([*decimator.output(blocks), np.zeros(0, np.complex64)])


@pytest.mark.parametrize("block", [1_000, 65_536, 1 << 20])
@pytest.mark.parametrize(("rate_hz", "channel_hz"), [(2.4e6, 200e3), (10e6, 200e3), (250e3, 100e3), (61.44e6, 48e3)])
def test_a_tone_in_the_channel_keeps_amplitude_phase_and_time(rate_hz, channel_hz, block):
    n = 1_500_000
    tone_hz = 0.3 * channel_hz
    decimator, found = decimated(
        0.5 * np.exp(2j * np.pi * tone_hz / rate_hz * np.arange(n)), rate_hz, channel_hz, block
    )
    assert found.size == decimator.num_output(n)
    times = decimator.lead + decimator.factor * np.arange(found.size)
    np.testing.assert_allclose(found, 0.5 * np.exp(2j * np.pi * tone_hz / rate_hz * times), atol=1e-4)


@pytest.mark.parametrize("offset", [0.61, 0.75, 1.0, 1.3, 5.7, -3.2])
def test_a_tone_beyond_the_channel_is_80_db_lower(offset):
    rate_hz, channel_hz = 2.4e6, 200e3
    _, found = decimated(np.exp(2j * np.pi * offset * channel_hz / rate_hz * np.arange(500_000)), rate_hz, channel_hz)
    assert 20 * np.log10(np.abs(found).max()) < -78.0


def test_the_noise_density_stays():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(2_000_000) + 1j * rng.standard_normal(2_000_000)
    decimator, found = decimated(noise, 2e6, 100e3)
    density = np.mean(np.abs(np.fft.fft(found)) ** 2 / found.size)
    assert decimator.factor == 20
    assert density == pytest.approx(2 / 20, rel=0.05)  # 100,000 samples: 0.5 %, and the filter's edges


@pytest.mark.parametrize("size", [0, 1, 100, 1_300])
def test_too_few_samples_give_none(size):
    decimator, found = decimated(np.ones(size), 10e6, 200e3)
    assert found.size == decimator.num_output(size) == 0


def test_a_rate_near_the_channel_is_left_as_it_is():
    assert plan_decimator(250e3, 200e3) is None
