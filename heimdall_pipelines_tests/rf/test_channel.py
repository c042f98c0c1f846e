"""Fading has the spectrum and the K asked for, echoes their delays, imperfect hardware its imperfections."""

import math

import numpy as np
import pytest
from scipy.special import j0

from heimdall_pipelines.rf.channel import Impairments, channel_gain, draw_fading, echo_delays_s, impaired, num_gains
from heimdall_pipelines.rf.modulation import cubic_delay, transmitted_phase
from heimdall_pipelines_tests.rf.signals import generator

RATE_HZ = 200e3
NUM_SAMPLES = 40_000


def fading(sample_idx=0, *, rice_k_db=-math.inf, doppler_hz=10.0, rms_delay_spread_s=0.0, num_samples=NUM_SAMPLES):
    return draw_fading(
        rice_k_db=rice_k_db,
        doppler_hz=doppler_hz,
        rms_delay_spread_s=rms_delay_spread_s,
        sample_rate_hz=RATE_HZ,
        num_samples=num_samples,
        seed=3,
        sample_idx=sample_idx,
        receiver=0,
    )


def phase(seed=1, num_samples=NUM_SAMPLES):
    return transmitted_phase(generator(seed), sample_rate_hz=RATE_HZ, num_samples=num_samples, deviation_hz=2500.0)


def gains(drawn, transmitted, delay_s=0.0):
    real, imag = channel_gain(drawn, transmitted, delay_s, NUM_SAMPLES)
    return real + 1j * imag


def gain_at(samples, drawn, transmitted, delay_s=0.0):
    """The channel's gain at samples that are multiples of four."""
    return gains(drawn, transmitted, delay_s)[np.asarray(samples) // 4 + 1]


@pytest.mark.long
def test_fading_has_the_autocorrelation_of_jakes():
    transmitted, lags = phase(), np.arange(0, NUM_SAMPLES, 2000)
    gains = np.array([gain_at(lags, fading(n), transmitted) for n in range(4000)])
    correlation = np.mean(gains * gains[:, :1].conj(), axis=0)
    # 4000 independent draws: four standard errors of 1 / sqrt(4000).
    assert correlation == pytest.approx(j0(2 * np.pi * 10 * lags / RATE_HZ), abs=0.065)


@pytest.mark.long
@pytest.mark.parametrize("rice_k_db", [-math.inf, 0.0, 6.0, 12.0])
def test_fading_has_the_rice_k_and_the_mean_power_asked_for(rice_k_db):
    transmitted = phase()
    gains = np.array([gain_at([0], fading(n, rice_k_db=rice_k_db), transmitted)[0] for n in range(4000)])
    k = 10 ** (rice_k_db / 10)
    assert np.mean(gains) == pytest.approx(math.sqrt(k / (1 + k)), abs=0.065)
    assert np.var(gains) == pytest.approx(1 / (1 + k), rel=0.065)  # complex Gaussian: standard error 1 / sqrt(4000)
    if rice_k_db == -math.inf:  # Rayleigh: the power is exponential
        assert np.mean(np.abs(gains) ** 4) == pytest.approx(2, rel=0.15)


def test_fading_is_smooth_across_its_knots():
    # A process of 10 Hz changes within 20 us by at most 2 pi 10 20e-6 of its few-sigma amplitude.
    made = gains(fading(), phase())
    assert np.abs(np.diff(made)).max() < 2 * np.pi * 10 * 20e-6 * 4
    assert np.abs(np.diff(made, n=2)).max() < (2 * np.pi * 10 * 20e-6) ** 2 * 4 + 1e-6  # float32 rounding


def test_without_scatter_the_gain_is_one():
    assert np.all(gain_at([0, 400], fading(rice_k_db=math.inf), phase()) == 1)


def test_echoes_have_the_rms_spread_asked_for_and_delays_between_samples():
    for seed in range(50):
        delays = echo_delays_s(generator(seed), 2e-6)
        assert delays.std() == pytest.approx(2e-6)
        assert np.all(delays > 0)
        assert np.any(np.abs(delays * RATE_HZ - np.round(delays * RATE_HZ)) > 0.05)
    assert echo_delays_s(generator(0), 0.0).tolist() == [0.0]


def test_echoes_add_up_as_delayed_copies_of_the_transmission():
    transmitted = phase()
    drawn = fading(rice_k_db=0.0, doppler_hz=0.0, rms_delay_spread_s=4e-6)
    delay_s = 123.4e-6

    def heard(extra_s):
        first, weights = cubic_delay((delay_s + extra_s) * RATE_HZ)
        around = np.lib.stride_tricks.sliding_window_view(transmitted.turns[transmitted.guard_samples + first :], 4)
        return np.exp(2j * np.pi * (around[:NUM_SAMPLES] @ weights).astype(np.float64))

    expected = drawn.steady * heard(0.0)
    for echo_s, knots in zip(drawn.echo_delays_s, drawn.knots, strict=True):
        expected = expected + knots[0] * heard(echo_s)
    samples = np.arange(0, NUM_SAMPLES, 4)
    made = heard(0.0)[samples] * gain_at(samples, drawn, transmitted, delay_s)
    assert np.abs(made - expected[samples]).max() < 3e-6  # float32


@pytest.mark.long
def test_echoes_keep_the_mean_power():
    transmitted = phase()
    powers = [
        np.mean(np.abs(gain_at(np.arange(0, NUM_SAMPLES, 400), fading(n, rms_delay_spread_s=5e-6), transmitted)) ** 2)
        for n in range(2000)
    ]
    assert np.mean(powers) == pytest.approx(1, abs=4 * float(np.std(powers)) / math.sqrt(2000))


def test_a_delay_of_a_fraction_of_a_sample_errs_by_less_than_100_db():
    time_s = np.arange(4000) / RATE_HZ
    tone = np.sin(2 * np.pi * 3000 * time_s)
    for delay_samples in (0.0, 0.25, 0.5, 7.9, 30.0):
        first, weights = cubic_delay(delay_samples)
        n = np.arange(100, 3900)
        delayed = sum(float(w) * tone[n + first + i] for i, w in enumerate(weights))
        truth = np.sin(2 * np.pi * 3000 * (n - delay_samples) / RATE_HZ)
        assert np.abs(delayed - truth).max() < 1e-5


def test_the_transmission_has_its_deviation_and_no_other_audio():
    kinds = {}
    for seed in range(300):
        transmitted = phase(seed, 8000)
        kinds[transmitted.audio] = kinds.get(transmitted.audio, 0) + 1
        if seed < 20:
            frequency_hz = np.diff(transmitted.turns.astype(np.float64)) * RATE_HZ
            assert np.abs(frequency_hz).max() == pytest.approx(2500, rel=0.02)  # peaks lie between the audio's samples
            spectrum = np.abs(np.fft.rfft(transmitted.turns)) ** 2
            bins_hz = np.arange(spectrum.size) * RATE_HZ / transmitted.turns.size
            assert spectrum[(bins_hz < 290) | (bins_hz > 3010)].sum() < 1e-9 * spectrum.sum()
    # Binomial, 300 draws of 5 %: 15 expected, standard deviation 3.8.
    assert 0 < kinds["tone"] < 31
    assert 0 < kinds["dual_tone"] < 31
    assert kinds["voice"] > 240


@pytest.mark.parametrize(
    "wrong", [{"doppler_hz": -1.0}, {"doppler_hz": 1e5}, {"rms_delay_spread_s": -1e-6}, {"rice_k_db": math.nan}]
)
def test_impossible_channels_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        fading(**wrong)


def test_perfect_hardware_returns_the_samples_themselves():
    iq = np.ones(10, np.complex64)
    assert impaired(iq, Impairments()) is iq


def test_hardware_adds_the_image_the_constant_and_the_quantisation_asked_for():
    n = np.arange(65_536)
    iq = np.exp(2j * np.pi * 1001 * n / n.size).astype(np.complex64)
    spectrum = np.abs(np.fft.fft(impaired(iq, Impairments(iq_gain_db=1.0)))) / n.size
    assert spectrum[-1001] / spectrum[1001] == pytest.approx(math.tanh(math.log(10) / 40), rel=1e-3)
    spectrum = np.abs(np.fft.fft(impaired(iq, Impairments(iq_phase_deg=5.0)))) / n.size
    assert spectrum[-1001] / spectrum[1001] == pytest.approx(math.tan(math.radians(2.5)), rel=1e-3)
    constant = impaired(iq, Impairments(dc_offset_db=-20.0)).mean()
    assert abs(constant) == pytest.approx(0.1, rel=1e-3)
    coarse = impaired(iq, Impairments(adc_bits=8))
    step = 10 ** (12 / 20) * math.sqrt(0.5) / 128
    assert np.mean(np.abs(coarse - iq) ** 2) == pytest.approx(step**2 / 6, rel=0.05)
    assert len(np.unique(coarse.real)) <= 256


def test_the_last_sample_has_gains_on_both_sides():
    assert num_gains(1) == 4
    assert num_gains(8) == 5
