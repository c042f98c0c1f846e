"""Stored positions of sessions: rows with digests, honest where there is none, checked against clocks and sources."""

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from heimdall_pipelines.model.position import METHOD, MeasuredDifference
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.rf.positioning import Receiver, locate
from heimdall_pipelines.rf.tdoa import TimeDifference
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.completed import NotCompletedError
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.positions import locate_and_store
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.stations.network import Network, load_network, sync_network
from heimdall_pipelines.store.positions import replace_positions
from heimdall_pipelines.store.session_revisions import SessionRevision
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, quiet, unlocated_rows
from heimdall_pipelines_tests.stored_positions import read_positions

SEVEN = tuple(
    Receiver(x.rx_id, x.latitude, x.longitude, x.altitude_m) for x in load_network().stations if x.antenna_height_m
)[:7]


@pytest.fixture
def example(example_session):
    """The example session, extracted: three stations with GNSS clocks, a transmitter of known position."""
    return example_session(source=SOURCE).slug


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values)


def outcomes(stores, slug):
    return {outcome.name: outcome for outcome in check_session(stores, slug).outcomes}


def failed(stores, slug):
    return {name: outcome for name, outcome in outcomes(stores, slug).items() if not outcome.passed}


def seven_stations(stores, tmp_path, times_us, *, std_us=0.3, source=None, seed=0):
    """A session of seven stations, with stored time differences of these arrival times."""
    files = npy_files(tmp_path, {x.rx_id: noise(24_000, seed + key) for key, x in enumerate(SEVEN)})
    options = {"known_source": source} if source else {}
    report = import_files(
        stores,
        files,
        sample_rate_hz=12_000.0,
        frequency_hz=SOURCE.frequency_hz,
        start_time_unix_ns=1_767_268_800 * 10**9,
        **options,
    )
    extract_session(stores, report.slug, quiet)
    session = get_session(stores.database, report.slug)
    pairs = [(a, b) for a in range(7) for b in range(a + 1, 7)]
    differences = [TimeDifference(a, b, times_us[b] - times_us[a], std_us, 0.8, None) for a, b in pairs]
    fix = locate(SEVEN, differences)
    row = replace(
        unlocated_rows(0)[0],
        latitude=fix.latitude,
        longitude=fix.longitude,
        semi_major_m=fix.ellipse.semi_major_m,
        semi_minor_m=fix.ellipse.semi_minor_m,
        azimuth_deg=fix.ellipse.azimuth_deg,
        residuals_us=fix.residuals_us,
        stations_used=fix.used,
        stations_left_out={},
        reason=None,
        time_differences=tuple(
            MeasuredDifference(SEVEN[x.a].rx_id, SEVEN[x.b].rx_id, x.tdoa_us, x.std_us, x.peak) for x in differences
        ),
    )
    replace_positions(stores.database, SessionRevision(session.id, session.slug, session.revision), [row])
    return session.slug


def arrivals_us(latitude=45.05, longitude=8.2, **late_us):
    """Arrival times at the seven stations, us; some stations' clocks are late."""
    paths_m = distance_m(latitude, longitude, [x.latitude for x in SEVEN], [x.longitude for x in SEVEN])
    late = np.array([late_us.get(x.rx_id.replace("-", "_"), 0.0) for x in SEVEN])
    return np.asarray(paths_m) / 299.792458 + late


def test_a_session_is_stored_as_a_whole_and_by_segment(stores, example):
    location = locate_and_store(stores, example, quiet)
    rows = read_positions(stores.database, get_session(stores.database, example).id)
    assert tuple(rows) == location.rows
    assert [row.segment_idx for row in rows] == [None, *range(12)]
    whole = rows[0]
    assert whole.method == METHOD
    assert float(distance_m(whole.latitude, whole.longitude, SOURCE.latitude, SOURCE.longitude)) < 1000.0
    assert whole.stations_used == ("genova", "milano-baggio", "torino")
    assert set(whole.residuals_us) == set(whole.stations_used)
    assert len(whole.time_differences) == 3
    for row in rows[1:]:  # 1 s each: 12 s have 3.5 times less scatter
        assert float(distance_m(row.latitude, row.longitude, SOURCE.latitude, SOURCE.longitude)) < 5000.0


def test_the_rows_pass_every_check_and_health_knows_them(stores, example):
    locate_and_store(stores, example, quiet)
    found = outcomes(stores, example)
    assert all(outcome.passed for outcome in found.values()), failed(stores, example)
    assert found["rows_as_committed"].numbers["positions"] == 13
    assert found["position_agrees_with_known_source"].numbers["segments_located"] == 12
    assert "three stations" in found["time_differences_close"].note
    assert validate_session(stores, example).health_status == "healthy"


def test_locating_again_gives_the_same_rows_and_no_change(stores, example):
    def stored():
        columns = "id, digest, latitude, time_differences"
        return execute(stores, f"SELECT {columns} FROM heimdall.positions ORDER BY id").all()

    locate_and_store(stores, example, quiet)
    first = stored()
    locate_and_store(stores, example, quiet)
    assert stored() == first
    assert execute(stores, "SELECT count(*) FROM heimdall.changes WHERE reason ~ 'located'").scalar() == 0


def test_rows_are_deleted_with_the_session(stores, example):
    locate_and_store(stores, example, quiet)
    delete_session(stores, example, lambda _slug: None, quiet)
    assert execute(stores, "SELECT count(*) FROM heimdall.positions").scalar() == 0


def test_a_session_without_clocks_has_a_row_that_says_why(stores, tmp_path):
    names = ("torino", "genova", "aquila-di-giaveno")
    files = npy_files(tmp_path, {name: noise(30_000, key) for key, name in enumerate(names)})
    slug = import_files(
        stores, files, sample_rate_hz=12_000.0, frequency_hz=7.05e6, start_time_unix_ns=1_767_268_800 * 10**9
    ).slug
    location = locate_and_store(stores, slug, quiet)
    (row,) = read_positions(stores.database, location.session.id)
    assert row.latitude is None
    assert "a position needs 3 stations with a clock" in row.reason
    assert set(row.stations_left_out) == set(names)
    assert "given by hand" in row.stations_left_out["genova"]


def test_only_completed_sessions_are_stored(stores, example):
    execute(stores, "UPDATE heimdall.recording_sessions SET status = 'in_progress'")
    with pytest.raises(NotCompletedError, match="in_progress"):
        locate_and_store(stores, example, quiet)


@pytest.mark.fault("the position of a session is edited")
def test_an_edited_position_is_found(stores, example, fault):
    locate_and_store(stores, example, quiet)
    execute(stores, "UPDATE heimdall.positions SET latitude = latitude + 0.001 WHERE segment_idx = 4")
    (problem,) = failed(stores, example)["rows_as_committed"].examples
    assert problem == "position of segment 4: latitude is not as committed"
    locate_and_store(stores, example, quiet)
    assert failed(stores, example) == {}
    fault.record(detected_by="`rows_as_committed`", result="the next extraction or location replaces the rows")


@pytest.mark.fault("the position of a segment is deleted")
def test_a_deleted_position_is_found(stores, example, fault):
    locate_and_store(stores, example, quiet)
    execute(stores, "DELETE FROM heimdall.positions WHERE segment_idx = 4")
    (problem,) = failed(stores, example)["rows_as_committed"].examples
    assert "its root is not that of its rows" in problem
    fault.record(detected_by="`rows_as_committed`", result="the next extraction or location replaces the rows")


def test_seven_right_clocks_pass(stores, tmp_path):
    slug = seven_stations(stores, tmp_path, arrivals_us())
    assert set(failed(stores, slug)) == set()
    assert outcomes(stores, slug)["time_differences_close"].numbers == {"pairs": 21, "triangles": 35}


@pytest.mark.fault("the clock of one of seven stations is 100 us late")
def test_a_wrong_clock_is_found_and_its_station_named(stores, tmp_path, fault):
    slug = seven_stations(stores, tmp_path, arrivals_us(genova=100.0))
    outcome = failed(stores, slug)["time_differences_close"]
    assert outcome.severity == "ERROR"
    assert "no position explains the time differences" in outcome.examples[0]
    assert "the clock of genova is the likely cause: it is +" in outcome.examples[1]
    fault.record(
        detected_by="`time_differences_close`", result="ERROR; the station is named, and how far its clock is off"
    )


@pytest.mark.fault("the time differences around a triangle of stations do not add up")
def test_an_open_triangle_is_found_and_its_station_named(stores, tmp_path, fault):
    slug = seven_stations(stores, tmp_path, arrivals_us())
    session = get_session(stores.database, slug)
    (row,) = read_positions(stores.database, session.id)
    # One station's clock jumped while its pairs were measured: they lie at different places.
    bent = tuple(
        replace(x, tdoa_us=x.tdoa_us + 10.0 * number) if "genova" in (x.rx_a, x.rx_b) else x
        for number, x in enumerate(row.time_differences)
    )
    target = SessionRevision(session.id, session.slug, session.revision)
    replace_positions(stores.database, target, [replace(row, time_differences=bent)])
    outcome = failed(stores, slug)["time_differences_close"]
    assert "at most" in outcome.examples[0]
    assert any("the clock of genova is the likely cause" in example for example in outcome.examples)
    fault.record(detected_by="`time_differences_close`", result="ERROR with each triangle, and the station in common")


@pytest.mark.fault("another source is stated than the one that was recorded")
def test_a_position_far_from_the_known_source_warns(stores, tmp_path, fault):
    sync_network(stores.database, Network((), (SOURCE,), {}))
    slug = seven_stations(stores, tmp_path, arrivals_us(45.4, 8.9), source=SOURCE.name)
    outcome = failed(stores, slug)["position_agrees_with_known_source"]
    assert outcome.severity == "WARN"
    assert f"km from {SOURCE.name}" in outcome.examples[0]
    assert "time_differences_close" not in failed(stores, slug)
    fault.record(
        detected_by="`position_agrees_with_known_source`", result="WARN with the distance in sizes of the ellipse"
    )
