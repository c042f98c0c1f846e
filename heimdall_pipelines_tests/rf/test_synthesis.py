"""Synthetic samples are a function of seed and index, and hold the truth that their links state."""

import dataclasses
import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

from heimdall_pipelines.rf import synthesis
from heimdall_pipelines.rf.channel import Impairments
from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.synthesis import receptions

from .heard import hear

RATE_HZ = 200e3
NO_FADING = {"rice_k_db": math.inf, "doppler_hz": 0.0, "rms_delay_spread_s": 0.0}
FADING = {"rice_k_db": 3.0, "doppler_hz": 8.0, "rms_delay_spread_s": 2e-6}
# SHA-256 of four fading receivers of 0.1 s, by version of the generator: the same on every processor.
GOLDEN = {2: "968f50b1344dd9e1fe047bbeb0549dd9a32b28bcd506be131d7199f6bf8ffefd"}
# The same of one receiver of 0.02 s in sixteen samples.
GOLDEN_MANY = {2: "f6a7af43e86e1e55adb5512faf76ccaabefd38ffa1ccf8a4108a07a0d429e1a8"}


def link(delay_s=100e-6, *, power_dbm=-100.0, noise_dbm=-120.0, offset_hz=0.0, **channel):
    return Link(delay_s, power_dbm, noise_dbm, frequency_offset_hz=offset_hz, **(NO_FADING | channel))


def make_with_truth(links, *, seed=7, sample_idx=0, duration_s=1.0, bandwidth_hz=12_500.0, by=hear, **more):
    return by(
        links,
        seed=seed,
        sample_idx=sample_idx,
        sample_rate_hz=RATE_HZ,
        duration_s=duration_s,
        channel_bandwidth_hz=bandwidth_hz,
        **more,
    )


def make(links, **arguments):
    return make_with_truth(links, **arguments).iq


def four_fading_links():
    return [link(50e-6 * n + 10e-6, power_dbm=-90.0 - 5 * n, offset_hz=40.0 * n - 50, **FADING) for n in range(4)]


def features(iq):
    return extract_features(iq.reshape(5, -1), sample_rate_hz=RATE_HZ)


def test_a_receiver_made_alone_or_in_another_order_has_the_same_bytes():
    links = four_fading_links()
    together = make(links, duration_s=0.1)
    alone = np.concatenate([make([links[n]], duration_s=0.1, receiver_indices=[n]) for n in range(4)])
    assert together.tobytes() == alone.tobytes()
    backwards = make(links[::-1], duration_s=0.1, receiver_indices=[3, 2, 1, 0])
    assert backwards[::-1].tobytes() == together.tobytes()


def test_a_longer_segment_begins_with_the_same_noise():
    silent = [link(power_dbm=-3000.0)]  # of amplitude 0 in float32
    whole = make(silent, duration_s=10_001 / RATE_HZ)[0]
    for num_samples in (1, 3, 1023, 1024, 1025, 5000):  # around a kernel's tile
        assert np.array_equal(make(silent, duration_s=num_samples / RATE_HZ)[0], whole[:num_samples])


def test_receivers_made_one_by_one_have_the_same_bytes_and_truth():
    links = four_fading_links()
    together = make_with_truth(links, num_chunks=5)
    reused = np.empty((1, together.iq.shape[1]), np.complex64)
    for row, heard in enumerate(make_with_truth(links, by=receptions, num_chunks=5, out=reused)):
        assert heard.iq.tobytes() == together.iq[row].tobytes()
        assert np.array_equal(heard.signal_power_dbm, together.signal_power_dbm[row])
        assert heard.audio == together.audio


@pytest.mark.long
def test_another_process_makes_the_same_bytes():
    code = (
        "from heimdall_pipelines_tests.rf.test_synthesis import *\n"
        "print(hashlib.sha256(make(four_fading_links(), duration_s=0.1).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(make(four_fading_links(), duration_s=0.1).tobytes()).hexdigest()


def test_the_golden_checksum_of_this_generator_version():
    made = make(four_fading_links(), seed=2024, sample_idx=17, duration_s=0.1)
    digest = hashlib.sha256(made.tobytes()).hexdigest()
    assert digest == GOLDEN[synthesis.GENERATOR_VERSION], "other samples from the same seed: count GENERATOR_VERSION up"


def test_the_golden_checksum_of_many_waveforms():
    # One waveform may keep its bytes by luck where a factor is rounded otherwise; sixteen don't.
    made = [make(four_fading_links()[:1], sample_idx=n, duration_s=0.02).tobytes() for n in range(16)]
    assert hashlib.sha256(b"".join(made)).hexdigest() == GOLDEN_MANY[synthesis.GENERATOR_VERSION]


@pytest.mark.parametrize("change", [{"seed": 8}, {"sample_idx": 1}, {"receiver_indices": [1]}])
def test_another_seed_sample_or_receiver_has_other_noise(change):
    silent = [link(power_dbm=-300.0)]
    one, other = make(silent)[0], make(silent, **change)[0]
    correlation = np.vdot(one, other) / math.sqrt(np.vdot(one, one).real * np.vdot(other, other).real)
    assert abs(correlation) < 4 / math.sqrt(one.size)


def test_another_sample_has_another_waveform():
    one, other = (make([link(noise_dbm=-300.0)], sample_idx=n)[0] for n in (0, 1))
    assert abs(np.vdot(one, other)) < 0.5 * np.vdot(one, one).real


@pytest.mark.parametrize("power_dbm", [-140.0, -100.0, 0.0])
def test_signal_and_noise_have_the_power_asked_for(power_dbm):
    signal = make([link(power_dbm=power_dbm, noise_dbm=-300.0)])[0].astype(np.complex128)
    assert 10 * np.log10(np.mean(np.abs(signal) ** 2)) + 30 == pytest.approx(power_dbm, abs=1e-3)
    noise = make([link(power_dbm=-300.0, noise_dbm=power_dbm)])[0].astype(np.complex128)
    # 200,000 samples: standard error 0.0097 dB.
    assert 10 * np.log10(np.mean(np.abs(noise) ** 2)) + 30 == pytest.approx(power_dbm, abs=0.05)


def test_the_faded_power_of_each_chunk_is_returned():
    made = make_with_truth(
        [dataclasses.replace(heard, noise_power_dbm=-300.0) for heard in four_fading_links()], num_chunks=5
    )
    power = np.mean(np.abs(made.iq.reshape(4, 5, -1).astype(np.complex128)) ** 2, axis=2)
    assert made.signal_power_dbm == pytest.approx(10 * np.log10(power) + 30, abs=0.002)
    assert made.signal_power_dbm.std(axis=1).min() > 0.1


@pytest.mark.long
def test_fading_has_the_mean_power_asked_for():
    faded = [
        make_with_truth([link(**FADING)], sample_idx=n, duration_s=0.02).signal_power_dbm[0, 0] for n in range(3000)
    ]
    power = 10 ** ((np.array(faded) + 100) / 10)
    assert np.mean(power) == pytest.approx(1, abs=4 * float(np.std(power)) / math.sqrt(power.size))


def test_snr_and_frequency_are_measured_as_they_are():
    errors_db, errors_hz = [], []
    for n in range(24):
        snr_db = 10.0 + 5 * (n % 3) + 0.5
        heard = link(delay_s=10e-6 * n, power_dbm=-130.0 + n, noise_dbm=-130.0 + n - snr_db, offset_hz=25.0 * n - 300)
        found = features(make([heard], sample_idx=n)[0])
        errors_db.append(found.chunks["snr_db"].mean() - snr_db)
        errors_hz.append(found.chunks["frequency_offset_hz"].mean() - heard.frequency_offset_hz)
        assert found.signal_present
    assert abs(np.mean(errors_db)) < 0.03  # the estimator's own bias is 0.02 dB
    assert np.abs(errors_db).max() < 0.1
    assert (
        np.abs(errors_hz).max() < 0.2
    )  # means over chunks see neither tones nor voice, but for the window's sidelobes


def test_snr_of_fading_receivers_agrees_with_the_power_that_fading_left():
    errors_db = []
    for n in range(10):
        links = four_fading_links()
        made = make_with_truth(links, sample_idx=n, num_chunks=5)
        for iq, heard, truth_dbm in zip(made.iq, links, made.signal_power_dbm, strict=True):
            errors_db.append(features(iq).chunks["snr_db"] - (truth_dbm - heard.noise_power_dbm))
    # Within a chunk the estimator's window weights fades otherwise than the plain mean: scatter, but no bias.
    assert abs(np.mean(errors_db)) < 0.05


def test_noise_alone_is_no_signal():
    assert not any(features(make([link(power_dbm=-300.0)], sample_idx=n)[0]).signal_present for n in range(20))


def band_limited(iq):
    """Spectrum within 8 kHz of the carrier, and the frequencies."""
    spectrum, frequency_hz = np.fft.fft(iq.astype(np.complex128)), np.fft.fftfreq(iq.size, 1 / RATE_HZ)
    inside = np.abs(frequency_hz) <= 8000
    return spectrum[inside], frequency_hz[inside]


def time_difference_s(one, other, expected_s):
    """By how much ``other`` is later than ``one``: the peak of the correlation's envelope near where it is expected."""
    whole = int(expected_s * RATE_HZ)  # taken off first, so that both hold the same part of the transmission
    expected_s -= whole / RATE_HZ
    (a, frequency_hz), (b, _) = band_limited(one[: one.size - whole]), band_limited(other[whole:])
    product = b * a.conj()

    def envelope(lag_s):
        return abs(np.sum(product * np.exp(2j * np.pi * frequency_hz * lag_s)))

    step_s = 2e-6
    lags_s = expected_s + step_s * np.arange(-20, 21)
    heights = np.array([envelope(lag_s) for lag_s in lags_s])
    peak = int(np.argmax(heights))
    lags_s, heights = lags_s[peak - 1 : peak + 2], heights[peak - 1 : peak + 2]
    a, b, c = heights
    return whole / RATE_HZ + lags_s[1] + step_s / 2 * (a - c) / (a - 2 * b + c)


@pytest.mark.long
@pytest.mark.parametrize(("snr_db", "rmse_us"), [(10.0, 0.120), (20.0, 0.041)])
def test_two_receivers_give_the_geometric_time_difference(snr_db, rmse_us):
    errors_us, sample_idx = [], 0
    while len(errors_us) < 16:
        early_s, late_s = 6.7e-6 + 1.3e-6 * sample_idx, 481.3e-6 - 17.9e-6 * sample_idx
        links = [link(delay_s, noise_dbm=-100.0 - snr_db) for delay_s in (early_s, late_s)]
        made = make_with_truth(links, sample_idx=sample_idx)
        sample_idx += 1
        if made.audio != "voice":  # the figures are those of voice; a tone's correlation repeats
            continue
        true_s = late_s - early_s
        errors_us.append(1e6 * (time_difference_s(made.iq[0], made.iq[1], true_s) - true_s))
    # Twice the RMSE of science.md, section 3, for 1 s and 2.5 kHz deviation.
    assert math.sqrt(np.mean(np.square(errors_us))) < 2 * rmse_us


@pytest.mark.parametrize("delay_s", [1.0e-6, 2.5e-6, 4.9e-6, 333.3e-6])
def test_delays_of_fractions_of_a_sample_are_kept(delay_s):
    made = make([link(0.0, noise_dbm=-300.0), link(delay_s, noise_dbm=-300.0)])
    assert time_difference_s(made[0], made[1], delay_s) == pytest.approx(delay_s, abs=5e-9)


def test_a_wider_channel_has_twice_the_deviation():
    for bandwidth_hz, deviation_hz in ((12_500.0, 2500.0), (25_000.0, 5000.0)):
        iq = make([link(noise_dbm=-300.0)], bandwidth_hz=bandwidth_hz)[0].astype(np.complex128)
        frequency_hz = np.angle(iq[1:] * iq[:-1].conj()) / (2 * np.pi) * RATE_HZ
        assert 0.9 * deviation_hz < np.abs(frequency_hz).max() < 1.001 * deviation_hz + 0.5


def test_hardware_is_applied_receiver_by_receiver():
    links = [link(), link()]
    perfect = make(links, duration_s=0.1)
    coarse = make(links, duration_s=0.1, impairments=[Impairments(), Impairments(adc_bits=8)])
    assert np.array_equal(coarse[0], perfect[0])
    assert len(np.unique(coarse[1].real)) <= 256


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"links": [link(-1e-6)]}, "delay_s of"),
        ({"links": [link(0.02)]}, "delay_s of"),
        ({"links": [link()], "receiver_indices": [0, 1]}, "1 links need as many"),
        ({"links": [link()], "duration_s": 0.0}, "equal chunks"),
        ({"links": [link()], "num_chunks": 3}, "equal chunks"),
        ({"links": [link()], "bandwidth_hz": 0.0}, "channel_bandwidth_hz"),
        ({"links": [link()], "seed": -1}, "seed must be between"),
    ],
)
def test_what_cannot_be_made_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)
