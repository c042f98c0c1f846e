"""Test signals whose truth is known: voice over FM, noise at a stated SNR, neighbours and interferers."""

import numpy as np

from heimdall_pipelines.rf.signals import complex_noise

DEVIATION_HZ = 2500.0


def generator(seed):
    """Counter-based random numbers of this test alone."""
    return np.random.Generator(np.random.Philox(key=seed))


def band_limited_noise(rng, num_samples, sample_rate_hz, low_hz, high_hz):
    """Real Gaussian noise between two frequencies, no DC: unit variance, (num_samples,) float64."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency_hz = np.fft.rfftfreq(num_samples, 1 / sample_rate_hz)
    spectrum[(frequency_hz < low_hz) | (frequency_hz > high_hz)] = 0
    audio = np.fft.irfft(spectrum, num_samples)
    return audio / audio.std()


def voice(rng, num_samples, sample_rate_hz):
    """Voice-like audio as a transmitter limits it: 300 to 3000 Hz, clipped at 2 sigma, filtered again, peak 1."""
    frequency_hz = np.fft.rfftfreq(num_samples, 1 / sample_rate_hz)
    clipped = np.clip(band_limited_noise(rng, num_samples, sample_rate_hz, 300, 3000), -2, 2)
    spectrum = np.fft.rfft(clipped)
    spectrum[(frequency_hz < 300) | (frequency_hz > 3000)] = 0
    audio = np.fft.irfft(spectrum, num_samples)
    return audio / np.abs(audio).max()


def frequency_modulated(audio, sample_rate_hz, *, offset_hz=0.0, deviation_hz=DEVIATION_HZ):
    """Unit carrier whose frequency follows the audio, (num_samples,) complex128."""
    frequency_hz = offset_hz + deviation_hz * audio
    return np.exp(2j * np.pi * np.cumsum(frequency_hz) / sample_rate_hz)


def voice_fm(rng, num_samples, sample_rate_hz, *, offset_hz=0.0, deviation_hz=DEVIATION_HZ):
    """Unit carrier with voice, (num_samples,) complex128."""
    audio = voice(rng, num_samples, sample_rate_hz)
    return frequency_modulated(audio, sample_rate_hz, offset_hz=offset_hz, deviation_hz=deviation_hz)


def received(rng, waveform, *, rssi_dbm, snr_db, full_scale_dbm=30.0, num_chunks=5):
    """Bring a waveform of unit power to a level, add white noise: (num_chunks, samples) complex64."""
    power = 10 ** ((rssi_dbm - full_scale_dbm) / 10)
    noise = complex_noise(rng, waveform.shape, power / 10 ** (snr_db / 10))
    return (np.sqrt(power) * waveform + noise).astype(np.complex64).reshape(num_chunks, -1)
