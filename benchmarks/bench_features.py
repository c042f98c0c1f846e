"""How long one receiver's second of samples takes to become features, beside the Fourier transforms in it."""

import ducc0
import numpy as np

from benchmarks.rounds import in_turn
from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines.rf.signals import complex_noise, frequency_modulated_phase_rad

NUM_CHUNKS = 5
CHUNK_S = 0.2


def tone_fm(sample_rate_hz):
    """One second of a tone-modulated carrier at 20 dB: (NUM_CHUNKS, samples) complex64."""
    samples_per_chunk = round(CHUNK_S * sample_rate_hz)
    time_s = np.arange(NUM_CHUNKS * samples_per_chunk) / sample_rate_hz
    phase_rad = frequency_modulated_phase_rad(time_s, tone_hz=1000.0, deviation_hz=2500.0)
    signal = np.exp(1j * phase_rad).astype(np.complex64).reshape(NUM_CHUNKS, -1)
    return signal + complex_noise(np.random.Generator(np.random.Philox(key=1)), signal.shape, 0.01)


def run() -> list[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    fast, slow = tone_fm(200e3), tone_fm(12e3)
    found = extract_features(fast, sample_rate_hz=200e3)
    rounds = in_turn(
        {
            "transforms": lambda: ducc0.fft.c2c(fast, axes=(1,), nthreads=1),
            "fast": lambda: extract_features(fast, sample_rate_hz=200e3),
            "slow": lambda: extract_features(slow, sample_rate_hz=12e3),
            "summary": found.summary,
        }
    )
    return [
        ("features, 200 kHz", rounds.minimum_ms("fast"), "ms per receiver-second"),
        ("features, 12 kHz", rounds.minimum_ms("slow"), "ms per receiver-second"),
        ("features, 200 kHz", rounds.minimum_ms("fast") / NUM_CHUNKS, "ms per chunk"),
        ("summary of features", rounds.minimum_ms("summary"), "ms per receiver-second"),
        ("five FFTs of 40,000", rounds.minimum_ms("transforms"), "ms"),
        rounds.comparison("fast", "transforms").row("features, 200 kHz", "times the FFTs"),
    ]
