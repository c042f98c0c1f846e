"""What extract_features takes, what it refuses with which words, and the form of what it gives back."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.signal.windows import tukey

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES
from heimdall_pipelines.rf.features import (
    InvalidIqError,
    SegmentFeatures,
    default_channel_bandwidth_hz,
    extract_features,
)
from heimdall_pipelines.rf.signals import complex_noise
from heimdall_pipelines.rf.spectrum import tukey_window
from heimdall_pipelines_tests.rf.signals import generator, received, voice_fm

SAMPLE_RATE_HZ = 200e3


def noise(num_chunks=2, samples_per_chunk=40_000):
    return complex_noise(generator(1), (num_chunks, samples_per_chunk), 1e-9)


def with_sample(value):
    iq = noise()
    iq[1, 7] = value
    return iq


@pytest.mark.parametrize(
    ("iq", "says"),
    [
        (noise().astype(np.complex128), "complex64 is needed, not complex128"),
        (noise().real, "complex64 is needed, not float32"),
        ([[1j, 1j]], "complex64 is needed, not list"),
        (noise()[0], r"shape must be \(num_chunks, samples_per_chunk\), none of them 0; it is \(40000,\)"),
        (noise()[:0], r"it is \(0, 40000\)"),
        (noise()[:, :0], r"it is \(2, 0\)"),
        (noise()[:, :3999], "a chunk must last 20 ms, not 19.995 ms"),
        (with_sample(np.nan), r"sample 7 of chunk 1 is \(?nan.*not finite in total: 1 of 80000"),
        (with_sample(complex(0, np.inf)), "sample 7 of chunk 1 is .*inf"),
        (with_sample(1e30), r"samples of 1e\+30 are too large for single precision"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_samples_that_cannot_be_measured_are_refused_with_what_and_where(iq, says):
    with pytest.raises(InvalidIqError, match=f"^Invalid IQ data format: .*({says})"):
        extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ)


@pytest.mark.parametrize("sample_rate_hz", [0.0, -200e3, 7999.0, 2.5e6, math.nan, math.inf])
def test_a_sample_rate_out_of_range_is_refused(sample_rate_hz):
    with pytest.raises(InvalidIqError, match=r"sample rate must lie within 8 kHz and 2\.4 MHz"):
        extract_features(noise(), sample_rate_hz=sample_rate_hz)


@pytest.mark.parametrize("channel_bandwidth_hz", [0.0, -12_500.0, 249.0, 160_001.0, math.nan])
def test_a_channel_out_of_range_is_refused_including_0(channel_bandwidth_hz):
    with pytest.raises(InvalidIqError, match=r"channel must be between 250 Hz .* and 160000 Hz"):
        extract_features(noise(), sample_rate_hz=SAMPLE_RATE_HZ, channel_bandwidth_hz=channel_bandwidth_hz)


def test_a_full_scale_that_is_no_number_is_refused():
    with pytest.raises(InvalidIqError, match="full_scale_dbm must be finite"):
        extract_features(noise(), sample_rate_hz=SAMPLE_RATE_HZ, full_scale_dbm=math.nan)


def test_the_error_is_one_that_people_can_act_on_and_a_value_error():
    assert issubclass(InvalidIqError, HeimdallError)
    assert issubclass(InvalidIqError, ValueError)


@pytest.mark.parametrize(
    ("sample_rate_hz", "bandwidth_hz"), [(200e3, 12_500), (15_625, 12_500), (12e3, 9600), (8e3, 6400)]
)
def test_the_channel_is_12500_hz_or_what_the_sample_rate_leaves_usable(sample_rate_hz, bandwidth_hz):
    assert default_channel_bandwidth_hz(sample_rate_hz) == pytest.approx(bandwidth_hz)


@pytest.mark.parametrize("sample_rate_hz", [8e3, 12_001.13, 15_625.0, 44_100.0, 48e3, 250e3, 2.4e6])
@pytest.mark.parametrize("duration_s", [0.02, 0.2])
@pytest.mark.filterwarnings("error")
def test_any_rate_and_duration_in_range_can_be_measured_with_its_default_channel(sample_rate_hz, duration_s):
    features = extract_features(noise(2, math.ceil(duration_s * sample_rate_hz)), sample_rate_hz=sample_rate_hz)
    assert np.isfinite(features.chunks["noise_floor_dbm"]).all()
    assert not features.signal_present


@pytest.mark.parametrize("channel_bandwidth_hz", [250.0, 25e3, 160e3])
@pytest.mark.filterwarnings("error")
def test_a_carrier_is_measured_in_the_narrowest_and_the_widest_channel(channel_bandwidth_hz):
    carrier = np.exp(2j * np.pi * 60 * np.arange(80_000) / SAMPLE_RATE_HZ)
    iq = received(generator(2), carrier, rssi_dbm=-80, snr_db=20, num_chunks=2)
    features = extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ, channel_bandwidth_hz=channel_bandwidth_hz)
    # Leakage of the carrier beyond +-125 Hz: 0.02 dB; 0.001 Hz rms from noise at 20 dB, more where filters ring.
    assert features.chunks["rssi_dbm"] == pytest.approx(-80, abs=0.05)
    assert features.chunks["frequency_offset_hz"] == pytest.approx(60, abs=0.05)


@pytest.mark.filterwarnings("error")
def test_digital_silence_has_no_levels_and_is_flagged():
    features = extract_features(np.zeros((3, 40_000), np.complex64), sample_rate_hz=SAMPLE_RATE_HZ)
    assert not features.signal_present
    assert np.all(features.detection_statistic == 0)
    assert features.flags == ("3 of 3 chunks are digital silence",)
    confidences = {"delay_spread_confidence", "confidence_score"}
    for name, values in features.chunks.items():
        assert np.all(values == 0) if name in confidences else np.isnan(values).all()


@pytest.mark.filterwarnings("error")
def test_a_silent_chunk_leaves_the_others_as_they_are():
    iq = received(generator(3), voice_fm(generator(4), 200_000, SAMPLE_RATE_HZ), rssi_dbm=-80, snr_db=20)
    whole = extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ)
    iq[2] = 0
    interrupted = extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ)
    assert interrupted.signal_present
    assert interrupted.flags == ("1 of 5 chunks are digital silence",)
    others = [0, 1, 3, 4]
    for name in FEATURE_NAMES:
        assert np.array_equal(interrupted.chunks[name][others], whole.chunks[name][others], equal_nan=True)
    assert np.isnan(interrupted.chunks["rssi_dbm"][2])


def test_samples_are_left_as_they_are_and_may_lie_anyhow_in_memory():
    spaced = np.zeros((2, 80_000), np.complex64)
    spaced[:, ::2] = noise()
    view = spaced[:, ::2]
    view.flags.writeable = False
    before = view.copy()
    features = extract_features(view, sample_rate_hz=SAMPLE_RATE_HZ)
    assert np.array_equal(view, before)
    assert np.array_equal(
        features.chunks["noise_floor_dbm"],
        extract_features(before, sample_rate_hz=SAMPLE_RATE_HZ).chunks["noise_floor_dbm"],
    )


def test_threads_that_measure_at_the_same_time_do_not_disturb_each_other():
    several = [
        received(generator(n), voice_fm(generator(n), 200_000, SAMPLE_RATE_HZ), rssi_dbm=-80 - n, snr_db=20)
        for n in range(4)
    ]

    def measure(iq):
        return extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ).summary()

    in_turn = [measure(iq) for iq in several]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(measure, several * 10)) == in_turn * 10


def test_one_chunk_is_a_segment_too():
    iq = received(generator(5), voice_fm(generator(6), 40_000, SAMPLE_RATE_HZ), rssi_dbm=-80, snr_db=20, num_chunks=1)
    features = extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ)
    assert features.signal_present
    assert features.summary()["rssi_dbm"]["std"] == 0.0


def test_every_feature_is_there_by_name_and_in_order():
    features = extract_features(noise(), sample_rate_hz=SAMPLE_RATE_HZ)
    assert tuple(features.chunks) == FEATURE_NAMES
    assert all(values.dtype == np.float64 and values.shape == (2,) for values in features.chunks.values())


def test_the_summary_is_json_with_six_digits_and_null_where_nothing_was_observed():
    nan = math.nan
    chunks = {
        "rssi_dbm": np.array([-100.123456789, -101.0, nan]),
        "bandwidth_hz": np.array([nan, nan, nan]),
    }
    summary = SegmentFeatures(
        True, chunks, np.array([9.0, 9.0, 9.0]), (), np.zeros((3, 0), np.complex64), 1.0
    ).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == {
        "rssi_dbm": {"mean": -100.562, "std": 0.438272, "min": -101.0, "max": -100.123},
        "bandwidth_hz": {"mean": None, "std": None, "min": None, "max": None},
    }
    assert all(type(value) is float for value in summary["rssi_dbm"].values())


def test_statistics_are_what_their_six_digits_are_read_as():
    rng = generator(3)
    values = rng.standard_normal(2000) * 10 ** rng.uniform(-11, 12, 2000)
    chunks = {str(n): np.array([value]) for n, value in enumerate(values)}
    found = SegmentFeatures(True, chunks, np.array([9.0]), (), np.zeros((1, 0), np.complex64), 1.0).summary()
    assert [statistics["mean"] for statistics in found.values()] == [float(f"{value:.6g}") for value in values]


@pytest.mark.parametrize("num_samples", [320, 2_400, 12_001, 40_000])
@pytest.mark.parametrize("taper", [0.05, 0.3])
def test_the_window_is_scipys_to_the_last_bit(num_samples, taper):
    np.testing.assert_array_equal(tukey_window(num_samples, taper), tukey(num_samples, taper, sym=False))
