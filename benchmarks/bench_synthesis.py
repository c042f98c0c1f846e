"""How long one receiver's second of samples takes to make and to measure, beside what no such work can avoid."""

import math
from concurrent.futures import ThreadPoolExecutor

import ducc0
import numpy as np

from benchmarks.bench_features import CHUNK_S, NUM_CHUNKS
from benchmarks.rounds import NUM_ROUNDS, in_turn
from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.philox import TILE_BLOCKS, Purpose, compiled, cos_sin_turns, counter_words, normal_tile
from heimdall_pipelines.rf.segment_tdoa import segment_time_differences
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

    extracted = [
        extract_features(
            reception.iq.reshape(NUM_CHUNKS, -1), sample_rate_hz=SAMPLE_RATE_HZ, channel_bandwidth_hz=12_500.0
        )
        for reception in receptions(echoes, **sample)
    ]

    def time_differences():
        segment_time_differences(
            [one.channel_signal for one in extracted],
            rate_hz=extracted[0].channel_rate_hz,
            bandwidth_hz=12_500.0,
            max_delays_s=np.full((NUM_RECEIVERS, NUM_RECEIVERS), 6.5e-4),
            reference=0,
            frequencies_hz=[50.0] * NUM_RECEIVERS,
        )

    all_rows = np.empty((NUM_RECEIVERS, num_samples), np.complex64)
    rounds = in_turn(
        {
            "floor": floor,
            "extract": lambda: extract(iq),
            "clear": lambda: generate(clear),
            "fading": lambda: generate(fading),
            "echoes": lambda: generate(echoes),
            "both": lambda: generate_and_extract(row),
            "array": lambda: generate(echoes, all_rows),
            "differences": time_differences,
        }
    )
    with ThreadPoolExecutor(2) as pool:
        threads = in_turn(
            {
                "one": lambda: generate_and_extract(row),
                "two": lambda: list(pool.map(generate_and_extract, (row, other_row))),
            },
            NUM_ROUNDS // 4,
        )

    def per_receiver(name, measured=rounds):
        return measured.minimum_ms(name) / NUM_RECEIVERS

    return [
        ("generate, clear", per_receiver("clear"), "ms per receiver-second"),
        ("generate, flat fading", per_receiver("fading"), "ms per receiver-second"),
        ("generate, echoes", per_receiver("echoes"), "ms per receiver-second"),
        ("extract and summarise", rounds.minimum_ms("extract"), "ms per receiver-second"),
        ("generate, echoes, extract", per_receiver("both"), "ms per receiver-second"),
        ("the same, two threads", per_receiver("two", threads) / 2, "ms per receiver-second"),
        threads.comparison("two", "one").row("the same, two threads", "times one thread's (1 in parallel, 2 in turn)"),
        ("generate, echoes, in one array", per_receiver("array"), "ms per receiver-second"),
        rounds.comparison("differences", "both").row("time differences, 21 pairs", "of generate, echoes, extract"),
        ("normals, sin/cos, five FFTs", rounds.minimum_ms("floor"), "ms, the floor"),
        rounds.comparison("both", "floor", 1 / NUM_RECEIVERS).row("generate, echoes, extract", "times the floor"),
    ]
