"""Numbers that look right and are wrong: each test fails on an extractor that an earlier Heimdall would have."""

import numpy as np
import pytest

from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines.rf.signals import complex_noise, frequency_modulated_phase_rad
from heimdall_pipelines_tests.rf.signals import band_limited_noise, generator, received, voice, voice_fm

SAMPLE_RATE_HZ = 200e3
NUM_SAMPLES = 200_000
TIME_S = np.arange(NUM_SAMPLES) / SAMPLE_RATE_HZ


def features_of(iq, **options):
    return extract_features(iq, sample_rate_hz=SAMPLE_RATE_HZ, **options)


def through(waveform, transfer):
    """Send a waveform through a channel of given transfer function, and bring it back to unit power."""
    frequency_hz = np.fft.fftfreq(waveform.size, 1 / SAMPLE_RATE_HZ)
    sent = np.fft.ifft(np.fft.fft(waveform) * transfer(frequency_hz))
    return sent / np.sqrt(np.mean(np.abs(sent) ** 2))


# --- levels


@pytest.mark.parametrize("level_dbm", [-90, -120, -150])
def test_signals_weaker_than_a_picowatt_are_told_apart(level_dbm):
    # Adding 1e-12 W read -90 dBm and 0 dB for all of these. 0.05 dB: five times the rmse at 10 dB SNR.
    measured = features_of(
        received(generator(1), voice_fm(generator(2), NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=level_dbm, snr_db=10)
    )
    assert measured.chunks["rssi_dbm"] == pytest.approx(level_dbm, abs=0.05)
    assert measured.chunks["snr_db"] == pytest.approx(10, abs=0.15)


@pytest.mark.long
@pytest.mark.parametrize(
    ("sample_rate_hz", "num_chunks", "num_segments"),
    [(8e3, 5, 200), (12e3, 5, 200), (12e3, 1, 400), (200e3, 5, 60), (200e3, 1, 300), (2.4e6, 1, 10)],
)
def test_pure_noise_is_no_signal_and_its_floor_is_not_biased(sample_rate_hz, num_chunks, num_segments):
    rng = generator(3)
    shape = (num_chunks, round(0.2 * sample_rate_hz))
    found = [
        extract_features(complex_noise(rng, shape, 1e-15), sample_rate_hz=sample_rate_hz) for _ in range(num_segments)
    ]
    assert not any(features.signal_present for features in found)
    floor_dbm = np.array([features.chunks["noise_floor_dbm"] for features in found])
    # The lowest 30 % of the bins would be 7.8 dB too low. One chunk's rms is 4.34 / sqrt(0.8 fs T) dB.
    one_chunk_db = 4.34 / np.sqrt(0.8 * shape[1])
    assert floor_dbm.mean() == pytest.approx(-120, abs=0.002 + 4 * one_chunk_db / np.sqrt(floor_dbm.size))
    assert floor_dbm.std() < 1.3 * one_chunk_db


@pytest.mark.long
def test_the_detection_statistic_of_noise_has_unit_deviation_so_that_five_means_five_sigma():
    rng = generator(4)
    statistic = np.concatenate(
        [features_of(complex_noise(rng, (5, 40_000), 1e-9)).detection_statistic for _ in range(60)]
    )
    assert statistic.mean() == pytest.approx(0, abs=4 / np.sqrt(statistic.size))
    assert statistic.std() == pytest.approx(1, abs=4 / np.sqrt(2 * statistic.size))


def test_features_that_need_a_signal_are_not_invented_from_noise():
    measured = features_of(complex_noise(generator(5), (5, 40_000), 1e-9))
    for name in (
        "frequency_offset_hz",
        "bandwidth_hz",
        "spectral_centroid_hz",
        "spectral_rolloff_hz",
        "multipath_delay_spread_us",
        "coherence_bandwidth_khz",
    ):
        assert np.isnan(measured.chunks[name]).all()
    assert np.all(measured.chunks["confidence_score"] == 0)
    assert np.all(measured.chunks["delay_spread_confidence"] == 0)
    assert np.isfinite(measured.chunks["noise_floor_dbm"]).all()
    # What is left of the noise after its mean was taken off is no power where it is negative.
    assert np.array_equal(np.isnan(measured.chunks["rssi_dbm"]), measured.detection_statistic < 0)
    assert np.array_equal(np.isnan(measured.chunks["snr_db"]), measured.detection_statistic < 0)


@pytest.mark.parametrize("snr_db", [-10, 0])
def test_snr_is_that_of_the_signal_without_the_noise_beneath_it(snr_db):
    # (S + N) / N reads +0.4 dB at -10 dB and 3 dB at 0 dB; tolerance 3 rmse over the mean of five chunks.
    iq = received(generator(6), voice_fm(generator(7), NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-100, snr_db=snr_db)
    assert features_of(iq).chunks["snr_db"].mean() == pytest.approx(snr_db, abs=0.2)


def test_a_full_scale_of_0_dbm_is_not_taken_for_a_missing_one():
    iq = received(generator(8), voice_fm(generator(9), NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-70, snr_db=20)
    calibrated, uncalibrated = features_of(iq).chunks, features_of(iq, full_scale_dbm=0.0).chunks
    assert uncalibrated["rssi_dbm"] == pytest.approx(calibrated["rssi_dbm"] - 30, abs=1e-9)
    assert uncalibrated["envelope_mean"] == pytest.approx(calibrated["envelope_mean"] * 10**-1.5, rel=1e-9)


# --- the noise floor beneath other stations


def neighbours(rng):
    """Five stations, each 20 dB above the wanted signal."""
    return sum(
        10 * voice_fm(rng, NUM_SAMPLES, SAMPLE_RATE_HZ, offset_hz=offset_hz)
        for offset_hz in (-75e3, -50e3, -25e3, 25e3, 62.5e3)
    )


def spurs(rng):
    """Twenty carriers between 10 dB below and 40 dB above the wanted signal."""
    amplitudes = 10 ** (rng.uniform(-10, 40, 20) / 20)
    offsets_hz = np.sign(rng.uniform(-1, 1, 20)) * rng.uniform(8e3, 95e3, 20)
    return sum(a * np.exp(2j * np.pi * f * TIME_S) for a, f in zip(amplitudes, offsets_hz, strict=True))


def wide_interferer(rng):
    """Noise 90 kHz wide, from 7 kHz to 97 kHz above the wanted signal, 20 dB above the noise floor's density."""
    baseband = band_limited_noise(rng, NUM_SAMPLES, SAMPLE_RATE_HZ, 0, 45e3)
    quadrature = band_limited_noise(rng, NUM_SAMPLES, SAMPLE_RATE_HZ, 0, 45e3)
    noise_power = 100 * 90e3 / SAMPLE_RATE_HZ
    return np.sqrt(noise_power / 2) * (baseband + 1j * quadrature) * np.exp(2j * np.pi * 52e3 * TIME_S)


@pytest.mark.parametrize("others", [neighbours, spurs, wide_interferer])
def test_the_noise_floor_holds_beneath_other_stations(others):
    rng = generator(10)
    iq = received(rng, voice_fm(rng, NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-100, snr_db=0)
    iq += np.float32(10 ** (-130 / 20)) * others(rng).astype(np.complex64).reshape(iq.shape)
    measured = features_of(iq).chunks
    # 0.15 dB as shown for FCME (a median is 1 dB off, a fixed guard band 38 dB): the skirts of the five neighbours,
    # where too low to be told from noise, make up 0.13 dB of it. One chunk's rms of 0.03 dB is averaged over five.
    assert measured["noise_floor_dbm"].mean() == pytest.approx(-100, abs=0.15)
    # 0.1 dB: the neighbours' own skirts in the channel, and twice the rmse at 0 dB.
    assert measured["rssi_dbm"] == pytest.approx(-100, abs=0.1)


def test_the_noise_floor_does_not_follow_the_receivers_roll_off():
    rng = generator(11)
    iq = received(rng, voice_fm(rng, NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-100, snr_db=10).ravel()
    frequency_hz = np.abs(np.fft.fftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE_HZ))
    roll_off_db = np.clip((frequency_hz - 80e3) / 20e3, 0, 1) * 60
    rolled_off = np.fft.ifft(np.fft.fft(iq) * 10 ** (-roll_off_db / 20)).astype(np.complex64)
    measured = features_of(rolled_off.reshape(5, -1)).chunks
    assert measured["noise_floor_dbm"] == pytest.approx(-110, abs=0.15)
    assert measured["snr_db"] == pytest.approx(10, abs=0.15)


def test_a_signal_that_leaves_hardly_any_band_free_is_flagged():
    rng = generator(12)
    voice_at_12_khz = received(rng, voice_fm(rng, 12_000, 12e3), rssi_dbm=-80, snr_db=30)
    flags = extract_features(voice_at_12_khz, sample_rate_hz=12e3).flags
    assert "noise_floor_dbm from less than 5 kHz of free band: may be too high" in flags


# --- carrier and bandwidth


@pytest.mark.parametrize("snr_db", [0, 20])
def test_the_carrier_of_a_tone_modulated_signal_is_not_its_strongest_line(snr_db):
    # The strongest lines of FM by 1 kHz at 2.5 kHz deviation are 1 and 2 kHz off. Tolerance: 4 times 0.012 Hz.
    phase = frequency_modulated_phase_rad(TIME_S, tone_hz=1000.0, deviation_hz=2500.0)
    waveform = np.exp(1j * (phase + 2 * np.pi * 123.4 * TIME_S))
    measured = features_of(received(generator(13), waveform, rssi_dbm=-100, snr_db=snr_db)).chunks
    assert measured["frequency_offset_hz"] == pytest.approx(123.4, abs=0.05)


@pytest.mark.parametrize("snr_db", [0, 10, 40])
def test_the_bandwidth_of_fm_is_that_of_its_sidebands_not_of_its_strongest_line(snr_db):
    # FM by 1 kHz with index 2: the lines up to the 2nd carry 96.4 %, those up to the 3rd 99.75 % of the power, thus
    # 6 kHz. Bins above half of the peak gave 5 to 20 Hz. Tolerance: two bins of 5 Hz at either end.
    phase = frequency_modulated_phase_rad(TIME_S, tone_hz=1000.0, deviation_hz=2000.0)
    measured = features_of(received(generator(14), np.exp(1j * phase), rssi_dbm=-100, snr_db=snr_db)).chunks
    assert measured["bandwidth_hz"] == pytest.approx(6000, abs=20)


def test_bandwidth_is_withheld_with_a_reason_where_noise_decides_it():
    iq = received(generator(15), voice_fm(generator(16), NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-100, snr_db=-6)
    measured = features_of(iq)
    assert measured.signal_present
    assert np.isnan(measured.chunks["bandwidth_hz"]).all()
    assert "bandwidth_hz not valid below 10 dB carrier-to-noise ratio" in measured.flags


def test_a_weak_carrier_is_not_pulled_to_the_middle_of_the_channel():
    # At 4 kHz and 2 dB carrier to noise the noise's own correlation would pull it by 1.1 kHz. What the noise leaves is
    # B / sqrt(12) / CNR / sqrt(B T) = 46 Hz rms; five times that.
    waveform = np.exp(2j * np.pi * 4000 * TIME_S)
    measured = features_of(received(generator(17), waveform, rssi_dbm=-100, snr_db=-10)).chunks
    assert measured["frequency_offset_hz"] == pytest.approx(4000, abs=250)


@pytest.mark.parametrize("snr_db", [0, 20])
def test_a_keyed_carrier_is_not_pulled_by_its_gaps(snr_db):
    # Averaging the instantaneous frequency over the gaps would give half of the 3 kHz. Noise leaves
    # B / sqrt(12) / CNR / sqrt(B T) = 5 Hz rms at 0 dB; five times that and 5 Hz for sidebands beyond the channel.
    keyed = np.where(np.sin(2 * np.pi * 12.5 * TIME_S) > 0, np.sqrt(2), 0) * np.exp(2j * np.pi * 3000 * TIME_S)
    measured = features_of(received(generator(18), keyed, rssi_dbm=-100, snr_db=snr_db)).chunks
    assert measured["frequency_offset_hz"] == pytest.approx(3000, abs=30)


@pytest.mark.parametrize("offset_hz", [0.0, 400.0])
def test_a_one_sided_fade_does_not_bias_the_frequency(offset_hz):
    # Notch 1.2 kHz beside the carrier: weighted by power the mean frequency is off by 700 Hz. The phase is off
    # by the channel's own modulation only, whose mean over the audio is under 1 Hz; noise leaves 0.01 Hz at 30 dB.
    waveform = voice_fm(generator(23), NUM_SAMPLES, SAMPLE_RATE_HZ, offset_hz=offset_hz)
    faded = through(waveform, lambda f_hz: 1 + 0.95 * np.exp(-2j * np.pi * ((f_hz - 1200) * 40e-6 + 0.5)))
    measured = features_of(received(generator(24), faded, rssi_dbm=-80, snr_db=30)).chunks
    assert np.all(measured["envelope_std"] > 0.5 * measured["envelope_mean"])  # such a fade it is
    assert measured["frequency_offset_hz"] == pytest.approx(offset_hz, abs=1.0)


# --- propagation


def test_one_path_shows_no_delay_spread():
    # The signal's own autocorrelation is 17 to 27 ms long. Standard error at 20 dB: 0.07 us; tolerance 5 of them.
    iq = received(generator(19), voice_fm(generator(20), NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-80, snr_db=20)
    measured = features_of(iq).chunks
    assert np.all(measured["multipath_delay_spread_us"] < 0.35)
    assert np.all(measured["delay_spread_confidence"] > 0.9)


@pytest.mark.parametrize("echo_phase_rad", [0.5, 2.0, 4.0])
def test_an_echo_shows_as_the_slope_of_the_amplitude_over_frequency(echo_phase_rad):
    delay_s, strength = 5e-6, 0.7

    def two_rays(frequency_hz):
        return 1 + strength * np.exp(-1j * (2 * np.pi * frequency_hz * delay_s + echo_phase_rad))

    # Truth: Im(tau_c) = d ln(abs(H)) / df / (2 pi) at the carrier.
    step_hz = 1.0
    truth_us = np.log(np.abs(two_rays(step_hz) / two_rays(-step_hz))) / (2 * step_hz) / (2 * np.pi) * 1e6
    waveform = through(voice_fm(generator(21), NUM_SAMPLES, SAMPLE_RATE_HZ), two_rays)
    measured = features_of(received(generator(22), waveform, rssi_dbm=-80, snr_db=30)).chunks
    # 8 %: 3 % from the frequency's smoothing, the rest curvature of the transfer function. 0.1 us: 4 standard errors.
    assert measured["multipath_delay_spread_us"] == pytest.approx(abs(truth_us), rel=0.08, abs=0.1)
    assert measured["coherence_bandwidth_khz"] == pytest.approx(200 / measured["multipath_delay_spread_us"])


@pytest.mark.parametrize("snr_db", [0, 20, 60])
def test_a_carrier_without_sweep_gives_no_delay_spread(snr_db):
    measured = features_of(received(generator(23), np.exp(2j * np.pi * 700 * TIME_S), rssi_dbm=-80, snr_db=snr_db))
    assert np.isnan(measured.chunks["multipath_delay_spread_us"]).all()
    assert np.isnan(measured.chunks["coherence_bandwidth_khz"]).all()
    assert np.all(measured.chunks["delay_spread_confidence"] == 0)


def test_amplitude_modulation_is_not_taken_for_multipath():
    rng = generator(24)
    waveform = (1 + 0.8 * voice(rng, NUM_SAMPLES, SAMPLE_RATE_HZ)) * np.exp(2j * np.pi * 700 * TIME_S)
    measured = features_of(received(rng, waveform / np.sqrt(np.mean(np.abs(waveform) ** 2)), rssi_dbm=-80, snr_db=20))
    assert np.isnan(measured.chunks["multipath_delay_spread_us"]).all()
    assert measured.chunks["frequency_offset_hz"] == pytest.approx(700, abs=0.1)


def test_flat_fading_is_not_taken_for_multipath():
    # One path fades at 10 Hz by 19 dB: the amplitude follows time, not frequency. At 40 dB SNR the rms is 0.009 us, and
    # 0.2 us if the fading's slope is left in; tolerance 0.05 us.
    fading = 1 + 0.8 * np.cos(2 * np.pi * 10 * TIME_S)
    waveform = fading * voice_fm(generator(25), NUM_SAMPLES, SAMPLE_RATE_HZ)
    measured = features_of(received(generator(26), waveform / np.sqrt(np.mean(fading**2)), rssi_dbm=-80, snr_db=40))
    assert np.all(measured.chunks["multipath_delay_spread_us"] < 0.05)


def test_a_fading_unmodulated_carrier_gives_no_delay_spread():
    # Two paths 12 Hz of Doppler apart: in each fade amplitude and frequency move together, by some tens of hertz.
    waveform = (1 + 0.9 * np.exp(2j * np.pi * 12 * TIME_S)) / np.sqrt(1.81)
    measured = features_of(received(generator(32), waveform, rssi_dbm=-80, snr_db=70)).chunks
    assert np.isnan(measured["multipath_delay_spread_us"]).all()


@pytest.mark.long
def test_the_confidence_in_the_delay_spread_tells_its_true_error():
    # One path: what is measured is error alone. 150 errors over their standard errors have an rms of 1 +- 6 %; 15 %.
    over_standard_error = []
    for segment in range(30):
        rng = generator(100 + segment)
        iq = received(rng, voice_fm(rng, NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-80, snr_db=10)
        measured = features_of(iq).chunks
        standard_error_us = np.sqrt(1 / measured["delay_spread_confidence"] - 1)
        over_standard_error.append(measured["multipath_delay_spread_us"] / standard_error_us)
    assert np.sqrt(np.mean(np.square(over_standard_error))) == pytest.approx(1, abs=0.15)


# --- the envelope


def test_envelope_and_zero_crossings_are_those_of_the_channel_not_of_the_whole_band():
    # At 0 dB over 200 kHz the carrier is 12 dB above the noise of its channel: a Rice distribution whose deviation is
    # 0.173 of its mean (over the whole band 0.46), known to 1 / sqrt(2 B T) = 1.4 %. 1.5 kHz cross zero 0.12 times a
    # sample (over the whole band 0.3).
    carrier = np.exp(2j * np.pi * 1500 * TIME_S)
    measured = features_of(received(generator(27), carrier, rssi_dbm=-80, snr_db=0)).chunks
    assert measured["envelope_std"] / measured["envelope_mean"] == pytest.approx(0.173, abs=0.01)
    assert measured["zero_crossing_rate"] == pytest.approx(0.12, abs=0.01)
    assert np.all(measured["peak_to_avg_ratio_db"] < 5)  # 4 sigma: 20 log10(1 + 4 * 0.18)
    assert np.all(measured["envelope_max"] > measured["envelope_mean"])


# --- repeatability


def test_features_are_deterministic_and_draw_no_random_numbers():
    iq = received(generator(28), voice_fm(generator(29), NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-80, snr_db=5)
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = features_of(iq).chunks, features_of(iq.copy()).chunks
    assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_each_chunk_is_measured_for_itself():
    iq = received(generator(30), voice_fm(generator(31), NUM_SAMPLES, SAMPLE_RATE_HZ), rssi_dbm=-80, snr_db=5)
    together = features_of(iq).chunks
    for chunk in range(5):
        alone = features_of(iq[chunk : chunk + 1]).chunks
        for name, values in alone.items():
            # The sums of a chunk run in another order where it has other neighbours.
            assert values[0] == pytest.approx(together[name][chunk], rel=1e-5, abs=1e-6, nan_ok=True)


def test_a_receiver_with_a_narrow_filter_is_measured_against_the_noise_inside_it():
    # 12 kHz of samples of which the receiver lets 4 kHz through: beyond lies rounding, 60 dB lower.
    rate_hz, passband_hz = 12_000.0, 4_000.0
    rng = np.random.Generator(np.random.Philox(key=77))
    noise = rng.standard_normal((25, 2_400)) + 1j * rng.standard_normal((25, 2_400))
    spectrum = np.fft.fft(noise, axis=1)
    spectrum[:, np.abs(np.fft.fftfreq(2_400, 1 / rate_hz)) > 1.1 * passband_hz / 2] *= 1e-3
    carrier = np.exp(2j * np.pi * 300.0 * np.arange(2_400) / rate_hz) * np.sqrt(2 * 10**1.0)  # 14.77 dB in 4 kHz
    iq = (np.fft.ifft(spectrum, axis=1) + carrier).astype(np.complex64)
    seen = extract_features(iq, sample_rate_hz=rate_hz, usable_bandwidth_hz=passband_hz)
    # 20 bins of 39 averages: 0.16 dB per chunk, 0.03 dB over 25; the carrier's skirts take a few bins.
    assert abs(seen.chunks["snr_db"].mean() - 14.77) < 0.2
    assert abs(seen.chunks["cn0_dbhz"].mean() - 10.0 - 10 * np.log10(rate_hz)) < 0.2  # whatever the band
    blind = extract_features(iq, sample_rate_hz=rate_hz)
    assert blind.chunks["snr_db"].mean() > 50  # the estimate without knowledge of the filter
