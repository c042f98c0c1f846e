"""Detection of a receiver's filter in its noise."""

import numpy as np
import pytest

from heimdall_pipelines.rf.passband import detect_passband

from .signals import band_limited_noise, generator, voice_fm


def filtered_noise(seed, num_samples, rate_hz, low_hz, high_hz, *, stop_db=60.0):
    """White noise of density 1 / rate in the passband, `stop_db` less outside."""
    rng = generator(seed)
    spectrum = rng.standard_normal(num_samples) + 1j * rng.standard_normal(num_samples)
    frequency = np.fft.fftfreq(num_samples, 1 / rate_hz)
    spectrum[(frequency < low_hz) | (frequency > high_hz)] *= 10 ** (-stop_db / 20)
    return np.fft.ifft(spectrum) * np.sqrt(num_samples / 2)


def tone(num_samples, rate_hz, hz):
    return np.exp(2j * np.pi * hz * np.arange(num_samples) / rate_hz)


@pytest.mark.parametrize("carrier_db", [-10.0, 10.0, 30.0])
@pytest.mark.parametrize("stop_db", [15.0, 30.0, 60.0])
@pytest.mark.parametrize(
    ("rate_hz", "low_hz", "high_hz"),
    [(12_000.0, -3_300.0, 3_300.0), (12_000.0, -1_500.0, 3_000.0), (250_000.0, -80_000.0, 80_000.0)],
)
def test_the_edges_of_a_filter_are_found_beside_a_carrier(rate_hz, low_hz, high_hz, stop_db, carrier_db):
    n = 60_000
    iq = filtered_noise(1, n, rate_hz, low_hz, high_hz, stop_db=stop_db)
    iq = iq + 10 ** (carrier_db / 20) * tone(n, rate_hz, rate_hz / 12)
    found = detect_passband(iq.astype(np.complex64), sample_rate_hz=rate_hz)
    tolerance_hz = 0.006 * rate_hz  # three of 512 bins
    assert found.low_hz == pytest.approx(low_hz, abs=tolerance_hz)
    assert found.high_hz == pytest.approx(high_hz, abs=tolerance_hz)
    assert found.step_db == pytest.approx(stop_db, abs=3.0)
    assert found.width_around_centre_hz == pytest.approx(2 * min(-low_hz, high_hz), abs=2 * tolerance_hz)


@pytest.mark.parametrize("seed", range(3))
def test_voice_within_a_filter_does_not_hide_it(seed):
    n, rate_hz = 120_000, 24_000.0
    iq = filtered_noise(seed, n, rate_hz, -8_500.0, 8_500.0)
    iq = iq + 0.5 * voice_fm(generator(seed), n, rate_hz, deviation_hz=1_000.0)
    found = detect_passband(iq.astype(np.complex64), sample_rate_hz=rate_hz)
    assert found.low_hz == pytest.approx(-8_500.0, abs=150.0)
    assert found.high_hz == pytest.approx(8_500.0, abs=150.0)


@pytest.mark.parametrize("snr_db", [0.0, 20.0, 40.0, 60.0])
@pytest.mark.parametrize("rate_hz", [12_000.0, 48_000.0, 200_000.0])
@pytest.mark.parametrize("deviation_hz", [1_000.0, 2_400.0])
def test_the_skirt_of_a_voice_signal_is_no_filter(rate_hz, snr_db, deviation_hz):
    n = int(3 * rate_hz)
    noise = filtered_noise(2, n, rate_hz, -rate_hz, rate_hz)
    iq = noise + 10 ** (snr_db / 20) * voice_fm(generator(3), n, rate_hz, deviation_hz=deviation_hz)
    assert detect_passband(iq.astype(np.complex64), sample_rate_hz=rate_hz) is None


@pytest.mark.parametrize("snr_db", [10.0, 30.0])
def test_a_phase_modulated_signal_of_flat_spectrum_is_no_filter(snr_db):
    n, rate_hz, symbols = 192_000, 48_000.0, 24_000
    rng = generator(4)
    impulses = np.zeros(n, complex)
    impulses[:: n // symbols] = np.exp(1j * np.pi / 4 * (2 * rng.integers(0, 4, symbols) + 1))
    shape = np.abs(np.fft.fftfreq(n, 1 / rate_hz)) < 3_300
    signal = np.fft.ifft(np.fft.fft(impulses) * shape)
    signal *= 10 ** (snr_db / 20) / np.sqrt(np.mean(np.abs(signal) ** 2))
    iq = signal + filtered_noise(5, n, rate_hz, -rate_hz, rate_hz)
    assert detect_passband(iq.astype(np.complex64), sample_rate_hz=rate_hz) is None


@pytest.mark.parametrize("carrier_db", [-100.0, 0.0, 60.0])
@pytest.mark.parametrize("rate_hz", [8_000.0, 12_000.0, 2_400_000.0])
def test_noise_that_fills_the_band_has_no_edges(rate_hz, carrier_db):
    n = 40_000
    iq = filtered_noise(6, n, rate_hz, -rate_hz, rate_hz) + 10 ** (carrier_db / 20) * tone(n, rate_hz, 1_000.0)
    assert detect_passband(iq.astype(np.complex64), sample_rate_hz=rate_hz) is None


@pytest.mark.parametrize("iq", [np.zeros(60_000), np.ones(60_000), np.ones(10), np.zeros(0)])
def test_samples_without_noise_have_no_edges(iq):
    assert detect_passband(iq.astype(np.complex64), sample_rate_hz=12_000.0) is None


def test_a_burst_of_noise_is_no_filter():
    n, rate_hz = 60_000, 12_000.0
    burst = band_limited_noise(generator(7), n, rate_hz, 10.0, 2_000.0).astype(complex) * 30
    burst *= (np.arange(n) // 5_000) % 2
    iq = burst + filtered_noise(8, n, rate_hz, -rate_hz, rate_hz)
    assert detect_passband(iq.astype(np.complex64), sample_rate_hz=rate_hz) is None


def test_steady_amplitude_modulation_is_no_filter():
    n, rate_hz = 60_000, 12_000.0
    audio = band_limited_noise(generator(9), n, rate_hz, 10.0, 3_000.0)
    iq = 100 * (1 + 0.2 * audio) + filtered_noise(10, n, rate_hz, -rate_hz, rate_hz)
    assert detect_passband(iq.astype(np.complex64), sample_rate_hz=rate_hz) is None


def test_a_filter_beside_the_centre_has_no_width_around_it():
    iq = filtered_noise(11, 60_000, 12_000.0, 300.0, 2_700.0, stop_db=40.0).astype(np.complex64)
    found = detect_passband(iq, sample_rate_hz=12_000.0)
    assert (found.low_hz, found.high_hz) == pytest.approx((300.0, 2_700.0), abs=70.0)
    assert found.width_around_centre_hz == 0.0
