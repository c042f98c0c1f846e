"""Time differences of synthetic transmissions: right to the bound, or null with a reason."""

import math

import numpy as np
import pytest

from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.segment_tdoa import NO_PEAK, differences_on_grid
from heimdall_pipelines.rf.synthesis import receptions
from heimdall_pipelines.rf.tdoa import TimeDifference, TimeGrid, modulation, signal_on_grid

RATE_HZ = 200e3
NOISE_DBM = -107.0
START_NS = 5_000_000
GRID = TimeGrid.over(START_NS, 0.99, 12_500.0)
MAX_DELAY_S = 6e-4


def received(delays_s, snr_db, sample_idx=0, frequencies_hz=(0.0, 70.0)):
    """Samples of a transmission at two receivers."""
    links = [
        Link(
            delay_s=delay_s,
            received_power_dbm=NOISE_DBM + snr_db,
            noise_power_dbm=NOISE_DBM,
            rice_k_db=math.inf,
            doppler_hz=0.0,
            rms_delay_spread_s=0.0,
            frequency_offset_hz=frequency_hz,
        )
        for delay_s, frequency_hz in zip(delays_s, frequencies_hz, strict=True)
    ]
    return [
        reception.iq
        for reception in receptions(
            links, seed=1, sample_idx=sample_idx, sample_rate_hz=RATE_HZ, duration_s=1.0, channel_bandwidth_hz=12_500.0
        )
    ]


def difference_of(iq, max_delay_s=MAX_DELAY_S, rate_hz=RATE_HZ, grid=GRID) -> TimeDifference:
    """The whole way: grid, alignment, time difference."""
    signals = [signal_on_grid(one, -START_NS, rate_hz, grid) for one in iq]
    return pair_of(signals, max_delay_s, grid)


def pair_of(signals, max_delay_s=MAX_DELAY_S, grid=GRID) -> TimeDifference:
    (found,) = differences_on_grid(signals, grid, max_delays_s=np.full((2, 2), max_delay_s), reference=0)
    return found


def bound_us(sample_idx, snr_db):
    """Cramer-Rao bound of a transmission's time difference at two receivers of this SNR, from its own spectrum."""
    iq = received((100e-6, 100e-6), 60.0, sample_idx)[0]
    power = np.fft.fftshift(np.abs(np.fft.fft(iq)) ** 2)
    snr = power / power.mean() * 10 ** (snr_db / 10)
    snr = np.convolve(snr, np.full(101, 1 / 101), "same")
    frequencies_hz = np.arange(-RATE_HZ / 2, RATE_HZ / 2)
    in_channel = np.abs(frequencies_hz) < 6250
    weights = (snr**2 / (1 + 2 * snr))[in_channel]
    omega = 2 * np.pi * frequencies_hz[in_channel]
    omega -= np.sum(weights * omega) / weights.sum()
    return 1e6 / math.sqrt(2 * np.sum(weights * omega**2))


@pytest.mark.long
@pytest.mark.parametrize("snr_db", [10.0, 20.0])
def test_a_transmission_is_timed_to_the_bound(snr_db):
    rng = np.random.default_rng(7)
    ratios = []
    for sample_idx in range(16):
        delays_s = rng.uniform(10e-6, 500e-6, 2)
        found = difference_of(received(delays_s, snr_db, sample_idx))
        assert found.tdoa_us is not None
        error_us = found.tdoa_us - (delays_s[1] - delays_s[0]) * 1e6
        ratios.append(error_us / bound_us(sample_idx, snr_db))
    # Over 113 transmissions the estimator reaches 1.10 times the bound; the rms of 16 errors varies by a factor of 1.5.
    assert np.sqrt(np.mean(np.square(ratios))) < 1.1 * 1.5


def test_the_stated_deviation_covers_the_errors():
    rng = np.random.default_rng(3)
    ratios = []
    for sample_idx in range(12):
        delays_s = rng.uniform(10e-6, 500e-6, 2)
        found = difference_of(received(delays_s, 10.0, sample_idx))
        ratios.append((found.tdoa_us - (delays_s[1] - delays_s[0]) * 1e6) / found.std_us)
    assert 0.3 < np.sqrt(np.mean(np.square(ratios))) < 1.5  # it is the larger of two estimates


def test_oscillators_that_differ_do_not_matter():
    iq = received((100e-6, 350e-6), 20.0, frequencies_hz=(-210.0, 190.0))
    assert difference_of(iq).tdoa_us == pytest.approx(250.0, abs=0.3)


def test_another_sample_rate_and_start_are_taken_into_account():
    """The second receiver's samples are every tenth, of a clock that is 5 ppm off and starts between two samples."""
    iq = received((100e-6, 350e-6), 25.0)
    rate_hz = RATE_HZ * (1 + 5e-6)
    first = signal_on_grid(iq[0], -START_NS, RATE_HZ, GRID)
    direct = signal_on_grid(iq[1], -START_NS, RATE_HZ, GRID)
    # The same signal at the instants of the other clock, by the interpolation that is tested at RATE_HZ above.
    other = TimeGrid(2_000_123, rate_hz / 10, 19_900, 12_500.0)
    resampled = signal_on_grid(iq[1], -2_000_123, RATE_HZ, other)
    again = signal_on_grid(resampled, 2_000_123 - START_NS, rate_hz / 10, GRID)
    inner = slice(200, -200)
    error = np.abs(again[inner] - direct[inner]).max() / np.abs(direct[inner]).max()
    assert error < 1e-2  # two interpolations with 12 taps, and two filters
    assert pair_of([first, again]).tdoa_us == pytest.approx(250.0, abs=0.1)


def test_the_number_of_samples_does_not_matter():
    """Lengths with large prime factors are shortened, as far as the grid allows."""
    (iq,) = received((100e-6,), 25.0, frequencies_hz=(0.0,))
    grid = TimeGrid.over(START_NS, 0.97, 12_500.0)
    whole = signal_on_grid(iq, -START_NS, RATE_HZ, grid)
    for size in (199_999, 197_003, 195_900):
        cut = signal_on_grid(iq[:size], -START_NS, RATE_HZ, grid)
        assert np.abs(cut - whole)[100:-100].max() < 2e-3 * np.abs(whole).max()


def test_noise_has_no_time_difference():
    rng = np.random.default_rng(5)
    iq = [(rng.standard_normal(200_000) + 1j * rng.standard_normal(200_000)).astype(np.complex64) for _ in range(2)]
    found = difference_of(iq)
    assert (found.tdoa_us, found.std_us, found.reason) == (None, None, NO_PEAK)


def test_an_unmodulated_carrier_has_no_time_difference():
    rng = np.random.default_rng(6)
    time_s = np.arange(200_000) / RATE_HZ
    iq = [
        (
            np.exp(2j * np.pi * 30.0 * time_s)
            + 0.01 * (rng.standard_normal(200_000) + 1j * rng.standard_normal(200_000))
        ).astype(np.complex64)
        for _ in range(2)
    ]
    found = difference_of(iq)
    assert found.tdoa_us is None
    assert found.reason is not None


@pytest.mark.parametrize("gain_step_db", [0.0, 12.0])
def test_a_keyed_carrier_with_phase_modulation_is_timed_by_its_phase(gain_step_db):
    """As DCF77: keyed amplitude, pseudo-random phase; one receiver's gain control answers the keying."""
    rng = np.random.default_rng(8)
    rate_hz, delay_s = 12_000.0, 300e-6
    chips = rng.integers(0, 2, 1200) * 2 - 1

    def signal(late_s, step_db, noise_key):
        time_s = np.arange(24_000) / rate_hz - late_s
        fine = np.arange(1200) / 645.83
        phase = np.radians(15.6) * np.interp(time_s, fine, chips)
        amplitude = np.where((time_s % 1.0) < 0.1, 0.15 * 10 ** (step_db / 20), 1.0)
        noise = np.random.default_rng(noise_key).standard_normal((2, 24_000)) * 0.01
        return (amplitude * np.exp(1j * phase) + noise[0] + 1j * noise[1]).astype(np.complex64)

    grid = TimeGrid.over(0, 0.98, 9_000.0)
    iq = [signal(0.0, 0.0, 1), signal(delay_s, gain_step_db, 2)]
    found = pair_of([signal_on_grid(x, -500e6, rate_hz, grid) for x in iq], 1e-3, grid)
    assert found.tdoa_us == pytest.approx(300.0, abs=3.0)


def test_bursts_of_noise_do_not_decide_the_phase_of_a_carrier():
    """Lightning is heard by both receivers, but not with the transmission's delay."""
    rng = np.random.default_rng(12)
    rate_hz, delay_s = 12_000.0, 300e-6
    chips = rng.integers(0, 2, 1200) * 2 - 1
    strokes_s = rng.uniform(0.55, 1.45, 12)

    def signal(late_s, burst_late_s, noise_key):
        time_s = np.arange(24_000) / rate_hz
        phase = np.radians(15.6) * np.interp(time_s - late_s, np.arange(1200) / 645.83, chips)
        strokes = sum(5 * np.sinc((time_s - stroke_s - burst_late_s) * 6_000) for stroke_s in strokes_s)
        noise = np.random.default_rng(noise_key).standard_normal((2, 24_000)) * 0.05
        return (np.exp(1j * phase) + 1j * strokes + noise[0] + 1j * noise[1]).astype(np.complex64)

    grid = TimeGrid.over(0, 0.98, 9_000.0)
    iq = [signal(0.0, 0.0, 1), signal(delay_s, -400e-6, 2)]
    found = pair_of([signal_on_grid(x, -500e6, rate_hz, grid) for x in iq], 1e-3, grid)
    # Not cut off, the bursts have most of the power, and the peak is at -380 us.
    assert found.tdoa_us == pytest.approx(300.0, abs=70.0)


def gain_controlled(signal, rate_hz, attack_s, decay_s):
    """An automatic gain control: quick when the level rises, slow when it falls; its output's amplitude is about 1."""
    level, out = float(np.mean(np.abs(signal))), np.empty_like(signal)
    for n, value in enumerate(signal):
        size = abs(value)
        level += (size - level) / (rate_hz * (attack_s if size > level else decay_s))
        out[n] = value / level
    return out


def amplitude_modulated(carrier_share, snr_db, rng, is_phase_modulated=False):
    """Two receivers of an AM transmission, 300 us apart, each with its own gain control and oscillator."""
    rate_hz, delay_s, size = 12_000.0, 300e-6, 24_000
    frequencies_hz = rng.uniform(150, 3_500, 40)
    phases = rng.uniform(0, 2 * np.pi, 40)

    def audio(time_s, turned):
        angle = 2 * np.pi * frequencies_hz[:, None] * time_s + phases[:, None] + turned
        return np.cos(angle).sum(axis=0) / np.sqrt(20)

    sidebands = np.sqrt((1 - carrier_share) / carrier_share)  # relative to the carrier, in amplitude
    iq = []
    for late_s, offset_hz, attack_s, decay_s in ((0.0, 1.3, 0.002, 0.3), (delay_s, -2.1, 0.01, 0.8)):
        time_s = np.arange(size) / rate_hz
        envelope = 1 + sidebands * audio(time_s - late_s, 0.0)
        phase_rad = 0.2 * audio(time_s - late_s, 1.0) if is_phase_modulated else 0.0
        clean = envelope * np.exp(1j * (2 * np.pi * offset_hz * time_s + phase_rad))
        noise = rng.standard_normal((2, size)) * np.sqrt(np.mean(np.abs(clean) ** 2) / 2) * 10 ** (-snr_db / 20)
        iq.append(gain_controlled(clean + noise[0] + 1j * noise[1], rate_hz, attack_s, decay_s).astype(np.complex64))
    return iq


@pytest.mark.parametrize("snr_db", [10.0, 25.0])
@pytest.mark.parametrize("carrier_share", [0.45, 0.3, 0.1])
def test_amplitude_modulation_with_a_weak_carrier_is_timed_under_gain_control(carrier_share, snr_db):
    grid = TimeGrid.over(0, 0.98, 9_000.0)
    errors_us, normalised = [], []
    for key in range(5):
        iq = amplitude_modulated(carrier_share, snr_db, np.random.default_rng(key))
        signals = [signal_on_grid(x, -500e6, 12_000.0, grid) for x in iq]
        assert not modulation(signals[0], grid).is_real  # its sidebands tell time, not its phase
        found = pair_of(signals, 1e-3, grid)
        assert found.tdoa_us is not None
        errors_us.append(found.tdoa_us - 300.0)
        normalised.append(errors_us[-1] / found.std_us)
    assert np.abs(errors_us).max() < 3.0
    assert np.sqrt(np.mean(np.square(normalised))) < 2.0


def test_amplitude_modulation_with_a_strong_carrier_is_timed_by_its_phase_alone():
    grid = TimeGrid.over(0, 0.98, 9_000.0)
    for is_phase_modulated in (True, False):
        iq = amplitude_modulated(0.8, 25.0, np.random.default_rng(2), is_phase_modulated)
        signals = [signal_on_grid(x, -500e6, 12_000.0, grid) for x in iq]
        assert modulation(signals[0], grid).is_real
        found = pair_of(signals, 1e-3, grid)
        if is_phase_modulated:
            assert found.tdoa_us == pytest.approx(300.0, abs=3.0)
        else:
            assert (found.tdoa_us, found.reason) == (None, NO_PEAK)  # the amplitude is the gain control's
