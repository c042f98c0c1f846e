"""IMA ADPCM: bytes as the standard says, and what comes back."""

import numpy as np
import pytest

from heimdall_pipelines.rf.ima_adpcm import AdpcmState


def reference(data: bytes) -> list[int]:
    """The standard's decoder, with its own words: (code + 1/2) * step / 4, each shift rounded down."""
    steps = [7]
    while len(steps) < 89:  # the table is known to be this but for rounding: only the first steps are used here
        steps.append(steps[-1] + max(1, steps[-1] // 10))
    index, value, samples = 0, 0, []
    for byte in data:
        for code in (byte & 15, byte >> 4):
            change = sum((steps[index] >> shift) for bit, shift in ((4, 0), (2, 1), (1, 2)) if code & bit) + (
                steps[index] >> 3
            )
            value = max(-32768, min(32767, value - change if code & 8 else value + change))
            index = max(0, min(88, index + (-1 if code & 7 < 4 else 2 * (code & 7) - 6)))
            samples.append(value)
    return samples


def test_small_codes_decode_as_the_standard_says():
    data = bytes([0x11, 0x94, 0x02, 0x8C, 0x35, 0x00, 0xFF, 0x10])
    assert AdpcmState().decode(data)[:10].tolist() == reference(data)[:10]


def test_the_largest_codes_reach_full_scale_and_stay_there():
    samples = AdpcmState().decode(b"\x77" * 40)
    assert samples[-1] == 32_767
    assert np.all(np.diff(samples.astype(int)) >= 0)
    assert AdpcmState().decode(b"\xff" * 40)[-1] == -32_768


def test_a_tone_comes_back_with_little_noise():
    tone = np.round(8_000 * np.sin(2 * np.pi * 700 * np.arange(12_000) / 12_000)).astype(np.int16)
    decoded = AdpcmState().decode(AdpcmState().encode(tone)).astype(float)
    noise_db = 10 * np.log10(np.mean((decoded - tone)[200:] ** 2) / np.mean(tone[200:].astype(float) ** 2))
    assert noise_db < -25.0  # 4 bits of a slow tone


def test_both_sides_are_in_the_same_state_after_any_samples():
    samples = np.random.default_rng(1).integers(-32_768, 32_768, 2_000).astype(np.int16)
    sender, receiver = AdpcmState(), AdpcmState()
    for begin in range(0, 2_000, 500):
        receiver.decode(sender.encode(samples[begin : begin + 500]))
        assert (sender.index, sender.predictor) == (receiver.index, receiver.predictor)


def test_an_odd_number_of_samples_is_refused():
    with pytest.raises(ValueError, match="3 samples do not fill whole bytes"):
        AdpcmState().encode(np.zeros(3, np.int16))
