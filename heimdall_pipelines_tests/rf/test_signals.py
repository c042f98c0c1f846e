"""Waveforms at exact instants, and noise of a stated power."""

import numpy as np
import pytest

from heimdall_pipelines.rf.signals import complex_noise, frequency_modulated_phase_rad
from heimdall_pipelines_tests.rf.signals import generator


def test_the_phases_slope_is_the_deviation_that_was_asked_for():
    # Central differences of 1 us over a 1 kHz tone err by (2 pi 1e3 * 1e-6)^2 / 6 = 7e-6 of the deviation.
    time_s = np.linspace(0, 3e-3, 500)
    later = frequency_modulated_phase_rad(time_s + 1e-6, tone_hz=1000.0, deviation_hz=2500.0)
    earlier = frequency_modulated_phase_rad(time_s - 1e-6, tone_hz=1000.0, deviation_hz=2500.0)
    frequency_hz = (later - earlier) / (2 * np.pi * 2e-6)
    assert frequency_hz == pytest.approx(2500 * np.cos(2 * np.pi * 1000 * time_s), abs=0.02)


def test_a_delay_far_below_a_sample_is_exact():
    time_s = np.arange(1000) / 200e3
    at_once = np.exp(1j * frequency_modulated_phase_rad(time_s, tone_hz=700.0, deviation_hz=2500.0))
    delayed = np.exp(1j * frequency_modulated_phase_rad(time_s - 1e-9, tone_hz=700.0, deviation_hz=2500.0))
    # The phase lags by 2 pi times the instantaneous frequency times 1 ns, at most 1.6e-5 rad, to second order.
    lag_rad = np.angle(at_once * delayed.conj())
    assert lag_rad == pytest.approx(2 * np.pi * 2500 * np.cos(2 * np.pi * 700 * time_s) * 1e-9, abs=1e-10)


def test_noise_has_the_power_asked_for_and_is_circular_and_white():
    noise = complex_noise(generator(1), (4, 250_000), 1e-13)
    assert noise.dtype == np.complex64
    assert noise.shape == (4, 250_000)
    mean_square = 1e-13
    # A million samples: four standard errors of 1e-3.
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(mean_square, rel=0.004)
    assert abs(np.mean(noise**2)) < 0.004 * mean_square
    assert abs(np.mean(noise[:, 1:] * noise[:, :-1].conj())) < 0.004 * mean_square
