"""How long one receiver's second of samples takes to make and to measure, beside what no such work can avoid."""

import math
from concurrent.futures import ThreadPoolExecutor

import ducc0
import numpy as np

from benchmarks.bench_features import CHUNK_S, NUM_CHUNKS, median_ms
from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.philox import TILE_BLOCKS, Purpose, compiled, cos_sin_turns, counter_words, normal_tile
from heimdall_pipelines.rf.synthesis import receptions

SAMPLE_RATE_HZ = 200e3
NUM_RECEIVERS = 7


@compiled
def carrier(out, turns):
    """One pass of sines and cosines."""
    for i in range(turns.size):
        cosine, sine = cos_sin_turns(turns[i])
        out[2 * i] = cosine
        out[2 * i + 1] = sine


@compiled
def normals(out, words):
    """One pass of normals."""
    tile = np.empty(4 * TILE_BLOCKS, np.float32)
    random = np.empty((4, TILE_BLOCKS), np.uint32)
    for start in range(0, out.size, tile.size):
        normal_tile(tile, random, start // 4, words, np.float32(1.0))
        part = out[start : start + tile.size]
        for i in range(part.size):
            part[i] = tile[i]


def links(rice_k_db, doppler_hz, rms_delay_spread_s):
    """Seven receivers 2 km to 150 km away."""
    return [
        Link(delay_s, -100.0, -115.0, rice_k_db, doppler_hz, rms_delay_spread_s, 50.0)
        for delay_s in np.linspace(7e-6, 500e-6, NUM_RECEIVERS)
    ]


def run() -> list[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""

    sample = {
        "seed": 1,
        "sample_idx": 0,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "duration_s": NUM_CHUNKS * CHUNK_S,
        "channel_bandwidth_hz": 12_500.0,
    }

    num_samples = round(sample["duration_s"] * SAMPLE_RATE_HZ)
    row, other_row = np.empty((2, 1, num_samples), np.complex64)

    def generate(heard, out=row):
        for reception in receptions(heard, **sample, num_chunks=NUM_CHUNKS, out=out):
            assert reception.iq.size

    def extract(iq):
        chunks = iq.reshape(NUM_CHUNKS, -1)
        assert extract_features(chunks, sample_rate_hz=SAMPLE_RATE_HZ, channel_bandwidth_hz=12_500.0).summary()

    def generate_and_extract(out):
        for reception in receptions(echoes, **sample, num_chunks=NUM_CHUNKS, out=out):
            extract(reception.iq)

    clear, fading, echoes = links(math.inf, 0.0, 0.0), links(3.0, 10.0, 0.0), links(3.0, 10.0, 3e-6)
    iq = next(receptions(echoes, **sample)).iq
    parts = np.empty(2 * num_samples, np.float32)
    words = counter_words(seed=1, sample_idx=0, purpose=Purpose.NOISE)
    turns = np.linspace(-0.5, 0.5, num_samples, dtype=np.float32)
    chunks = iq.reshape(NUM_CHUNKS, -1)

    def floor():
        normals(parts, words)
        carrier(parts, turns)
        ducc0.fft.c2c(chunks, axes=(1,), nthreads=1)

    floor_ms = median_ms(floor)
    clear_ms = median_ms(lambda: generate(clear)) / NUM_RECEIVERS
    fading_ms = median_ms(lambda: generate(fading)) / NUM_RECEIVERS
    echoes_ms = median_ms(lambda: generate(echoes)) / NUM_RECEIVERS
    extract_ms = median_ms(lambda: extract(iq))
    both_ms = median_ms(lambda: generate_and_extract(row)) / NUM_RECEIVERS
    with ThreadPoolExecutor(2) as pool:
        threads_ms = median_ms(lambda: list(pool.map(generate_and_extract, (row, other_row)))) / NUM_RECEIVERS
    all_rows = (NUM_RECEIVERS, num_samples)
    at_once_ms = median_ms(lambda: generate(echoes, np.empty(all_rows, np.complex64))) / NUM_RECEIVERS
    return [
        ("generate, clear", clear_ms, "ms per receiver-second"),
        ("generate, flat fading", fading_ms, "ms per receiver-second"),
        ("generate, echoes", echoes_ms, "ms per receiver-second"),
        ("extract and summarise", extract_ms, "ms per receiver-second"),
        ("generate, echoes, extract", both_ms, "ms per receiver-second"),
        ("the same, two threads", threads_ms / 2, "ms per receiver-second"),
        ("the same, two threads", threads_ms / both_ms, "times one thread's time: 1 in parallel, 2 in turn"),
        ("generate, echoes, in one array", at_once_ms, "ms per receiver-second"),
        ("normals, sin/cos, five FFTs", floor_ms, "ms, the floor"),
        ("generate, echoes, extract", both_ms / floor_ms, "times the floor"),
    ]
