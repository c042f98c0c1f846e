import numpy as np

from heimdall_pipelines.rf.spectrogram import spectrogram_dbm_per_hz

RATE_HZ = 12_000.0


def test_white_noise_has_its_density_everywhere():
    rng = np.random.Generator(np.random.Philox(key=3))
    noise = (rng.standard_normal(120_000) + 1j * rng.standard_normal(120_000)).astype(np.complex64) / np.sqrt(2)
    picture = spectrogram_dbm_per_hz(noise, sample_rate_hz=RATE_HZ, full_scale_dbm=30.0, num_times=20)
    assert picture.shape == (20, 128)
    # 1 W in 12 kHz; 20 x 128 x 8 averages leave 0.03 dB.
    assert abs(10 * np.log10(np.mean(10 ** (picture / 10))) - (30 - 10 * np.log10(RATE_HZ))) < 0.1


def test_a_carrier_stands_in_its_row_and_time_runs_along_the_first_axis():
    time_s = np.arange(24_000) / RATE_HZ
    tone = np.exp(2j * np.pi * 3_000 * time_s) * (time_s >= 1)
    picture = spectrogram_dbm_per_hz(
        tone.astype(np.complex64) + np.complex64(1e-4), sample_rate_hz=RATE_HZ, full_scale_dbm=0.0, num_times=10
    )
    assert set(np.argmax(picture[5:], axis=1)) == {64 + 32}  # +3 kHz of 12 kHz in 128 rows
    assert picture[:5, 96].max() < picture[5:, 96].min() - 40


def test_silence_is_minus_infinity_without_a_warning():
    picture = spectrogram_dbm_per_hz(
        np.zeros(2_400, np.complex64), sample_rate_hz=RATE_HZ, full_scale_dbm=0.0, num_times=4
    )
    assert np.all(np.isneginf(picture))
