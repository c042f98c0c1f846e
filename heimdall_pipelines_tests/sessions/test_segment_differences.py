"""Time differences in the rows of recorded sessions: right, and only where clocks carry them."""

import os
from pathlib import Path

import numpy as np
import pytest

from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.locating import LocateOptions, locate_session
from heimdall_pipelines_tests.datasets.support import query
from heimdall_pipelines_tests.older_features import make_older
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, quiet

RECORDINGS = os.environ.get("HEIMDALL_TEST_RECORDINGS")
PAIRS = "SELECT * FROM heimdall.measurement_time_differences ORDER BY segment_idx, pair_idx"
COLUMN = "SELECT time_differences FROM heimdall.measurement_features ORDER BY segment_idx"


@pytest.fixture
def example(example_session):
    """The example session: three stations with GNSS clocks, a transmitter of known position."""
    return example_session(source=SOURCE, extracted=False).slug


def test_the_example_has_the_time_differences_of_its_transmitter(stores, example):
    report = extract_session(stores, example, quiet)
    rows = query(stores, PAIRS)
    positions = {
        row["rx_id"]: (row["rx_lat"], row["rx_lon"])
        for row in query(stores, "SELECT DISTINCT rx_id, rx_lat, rx_lon FROM heimdall.receiver_features")
    }
    away_m = {rx_id: float(distance_m(SOURCE.latitude, SOURCE.longitude, *at)) for rx_id, at in positions.items()}
    assert len(rows) == 3 * report.num_rows
    for row in rows:
        expected_us = (away_m[row["rx_b"]] - away_m[row["rx_a"]]) / 299.792458
        # Paths in the example are straight lines, 4 m shorter than the geodesic; its signals are voice.
        assert row["tdoa_us"] == pytest.approx(expected_us, abs=0.2 + 5 * row["std_us"])
        assert row["std_us"] < 2
    assert [(pair.num, pair.num_known, pair.reason) for pair in report.pairs] == [(report.num_rows,) * 2 + (None,)] * 3
    for pair in report.pairs:
        expected_us = (away_m[pair.rx_b] - away_m[pair.rx_a]) / 299.792458
        assert pair.median_us == pytest.approx(expected_us, abs=0.5)


def test_the_rows_agree_with_what_locates_the_session(stores, example):
    extract_session(stores, example, quiet)
    rows = query(stores, PAIRS)
    for pair in locate_session(stores, example, LocateOptions(), quiet).pairs:
        ours = [row["tdoa_us"] for row in rows if (row["rx_a"], row["rx_b"]) == (pair.rx_a, pair.rx_b)]
        assert np.median(ours) == pytest.approx(pair.tdoa_us, abs=0.3)


def test_an_extraction_again_gives_the_same_to_the_last_digit(stores, example):
    extract_session(stores, example, quiet)
    before = query(stores, COLUMN)
    make_older(stores, version=2)
    assert query(stores, COLUMN) == [{"time_differences": None}] * len(before)
    extract_session(stores, example, quiet)
    assert query(stores, COLUMN) == before


def modulated(seed):
    """Two and a half seconds of frequency modulation at 12 kHz, in noise of its own."""
    message = np.convolve(np.random.default_rng(7).standard_normal(30_000), np.ones(12) / 12, "same")
    carrier = np.exp(2j * np.pi * np.cumsum(1500 * message / message.std()) / 12_000)
    return (0.3 * carrier + 0.1 * noise(30_000, seed)).astype(np.complex64)


def test_times_given_by_hand_carry_no_time_difference(stores, tmp_path):
    names = ("torino", "genova", "aquila-di-giaveno")
    files = npy_files(tmp_path, {name: modulated(seed) for seed, name in enumerate(names)})
    session = import_files(
        stores, files, sample_rate_hz=12_000.0, frequency_hz=7.05e6, start_time_unix_ns=1_767_268_800 * 10**9
    )
    report = extract_session(stores, session.slug, quiet)
    rows = query(stores, PAIRS)
    assert len(rows) == 3 * report.num_rows
    for row in rows:
        assert (row["tdoa_us"], row["std_us"], row["ambiguity"]) == (None, None, None)
        assert row["reason"] == f"{row['rx_a']}: its time was given by hand: nothing says that it is right to 20 us"
    assert {pair.reason for pair in report.pairs} == {row["reason"] for row in rows}


@pytest.mark.skipif(RECORDINGS is None, reason="HEIMDALL_TEST_RECORDINGS does not name the real recordings")
def test_the_carrier_of_a_real_transmitter_is_timed_by_its_phase(stores):
    session = import_files(stores, sorted(Path(RECORDINGS or "").glob("*.wav")), known_source="DCF77")
    report = extract_session(stores, session.slug, quiet)
    by_pair = {(pair.rx_a, pair.rx_b): pair for pair in report.pairs}
    for pair in locate_session(stores, session.slug, LocateOptions(), quiet).pairs:
        ours = by_pair[pair.rx_a, pair.rx_b]
        assert ours.num_known == ours.num
        # Both scatter by 4 to 18 us from second to second.
        assert ours.median_us == pytest.approx(pair.tdoa_us, abs=5)
