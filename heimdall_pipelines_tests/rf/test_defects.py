"""Samples that hold no reception."""

import numpy as np
import pytest

from heimdall_pipelines.rf.defects import CLIPPED_SHARE, clipped_share, defect_of


def noise(num_samples=10_000, scale=0.1):
    rng = np.random.default_rng(1)
    return (scale * (rng.standard_normal(num_samples) + 1j * rng.standard_normal(num_samples))).astype(np.complex64)


@pytest.mark.parametrize(
    ("iq", "reason"),
    [
        (np.full(1000, (1 + 1j) / 32768), "all samples are the same number"),
        (np.full(1000, 0.5), "all samples are the same number"),
        (noise().real, "Q is constant"),
        (1j * noise().imag + 0.25, "I is constant"),
        (noise().real * (1 + 1j), "I = Q in every sample"),
        (noise().real * (1 - 1j), "I = -Q in every sample"),
    ],
)
def test_what_is_no_reception_is_named(iq, reason):
    assert defect_of(iq.astype(np.complex64)).startswith(reason)


@pytest.mark.parametrize(
    "iq",
    [
        noise(),
        np.zeros(1000),  # digital silence has a flag of its own
        np.exp(2j * np.pi * 1e-6 * np.arange(10_000)) + noise(scale=1e-5),  # a carrier at 0 Hz
        np.zeros(1),
        np.zeros(0),
    ],
)
def test_reception_and_silence_are_no_defect(iq):
    assert defect_of(iq.astype(np.complex64)) is None


@pytest.mark.parametrize("step", [2**-15, 2**-7, 1 / 127.5])
def test_integers_at_the_edge_of_full_scale_are_clipped(step):
    for scale, is_clipped in ((0.1, False), (1.0, True)):
        iq = noise(scale=scale).view(np.float32)
        iq = np.clip(np.rint(iq / step) * step, -1, 1 - step).astype(np.float32).view(np.complex64)
        assert (clipped_share(iq, step) > CLIPPED_SHARE) == is_clipped


def test_floats_are_clipped_where_the_greatest_number_is_frequent():
    clipped = np.clip(noise(scale=1000).view(np.float32), -900, 900)
    assert clipped_share(clipped.view(np.complex64), None) == pytest.approx(0.368, abs=0.02)
    assert clipped_share(noise(scale=1000), None) == 0.0
    assert clipped_share(np.zeros(10, np.complex64), None) == 0.0
