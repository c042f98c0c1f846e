"""Positions of recorded sessions: right, with their uncertainty, and honest about clocks."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from heimdall_pipelines.model.clock import stated_clock
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.rf.positioning import Area
from heimdall_pipelines.sessions.correcting import Correction, correct_session
from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines.sessions.locating import locate_session
from heimdall_pipelines.sessions.position_files import geojson, kml
from heimdall_pipelines.sessions.position_picture import position_png
from heimdall_pipelines.sessions.session_position import LocateOptions, NotLocatableError
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, quiet

RECORDINGS = os.environ.get("HEIMDALL_TEST_RECORDINGS")


@pytest.fixture
def example(example_session):
    """The example session: three stations with GNSS clocks, a transmitter of known position."""
    return example_session(source=SOURCE, extracted=False).slug


def test_the_example_is_located(stores, example):
    found = locate_session(stores, example, LocateOptions(), quiet)
    assert found.distance_to_source_km is not None
    # 10 to 30 dB SNR over 12 kHz, 12 s: differences to about 1 us, 300 m each.
    assert found.distance_to_source_km < 1.0
    assert found.closure_us is not None
    assert found.closure_us < 3.0
    for pair in found.pairs:
        assert pair.tdoa_us == pytest.approx(pair.expected_us, abs=3.0)


def test_the_files_hold_position_ellipse_and_stations(stores, example):
    found = locate_session(stores, example, LocateOptions(), quiet)
    features = json.loads(geojson(found))["features"]
    kinds = [feature["properties"]["kind"] for feature in features]
    assert kinds.count("position") == kinds.count("ellipse") == kinds.count("known_source") == 1
    assert kinds.count("station") == 3
    assert kinds.count("hyperbola") >= 3
    (ring,) = next(f["geometry"]["coordinates"] for f in features if f["properties"]["kind"] == "ellipse")
    assert ring[0] == ring[-1]
    radii_m = distance_m(found.fix.latitude, found.fix.longitude, [p[1] for p in ring], [p[0] for p in ring])
    assert radii_m.max() == pytest.approx(found.fix.ellipse.semi_major_m, rel=0.01)
    assert radii_m.min() == pytest.approx(found.fix.ellipse.semi_minor_m, rel=0.01)
    names = [x.text for x in ElementTree.fromstring(kml(found)).iter("{http://www.opengis.net/kml/2.2}name")]
    assert {"position", "ellipse, 95 %", "torino", "genova", "milano-baggio"} <= set(names)
    png = position_png(found)
    assert png is not None
    assert png.startswith(b"\x89PNG")


def test_each_hyperbola_passes_the_position(stores, example):
    found = locate_session(stores, example, LocateOptions(), quiet)
    for feature in json.loads(geojson(found))["features"]:
        if feature["properties"]["kind"] == "hyperbola":
            a, b = (
                next(x for x in found.receivers if x.rx_id == feature["properties"][key]) for key in ("rx_a", "rx_b")
            )
            for lon, lat in feature["geometry"]["coordinates"]:
                later_m = distance_m(lat, lon, b.latitude, b.longitude) - distance_m(lat, lon, a.latitude, a.longitude)
                # The correction on the ellipsoid leaves a few metres where the hyperbola is nearly radial.
                assert float(later_m) / 299.792458 == pytest.approx(feature["properties"]["tdoa_us"], abs=0.5)


def test_an_excluded_station_leaves_too_few(stores, example):
    with pytest.raises(NotLocatableError, match=r"(?s)needs 3 stations.*2 of 3.*torino: excluded"):
        locate_session(stores, example, LocateOptions(exclude=["torino"]), quiet)


def test_an_unknown_station_is_named(stores, example):
    with pytest.raises(NotLocatableError, match="has no station nowhere; its stations are genova, milano-baggio, tor"):
        locate_session(stores, example, LocateOptions(exclude=["nowhere"]), quiet)


def test_a_start_given_by_hand_carries_no_time_difference(stores, tmp_path):
    files = npy_files(
        tmp_path, {name: noise(30_000, key) for key, name in enumerate(("torino", "genova", "aquila-di-giaveno"))}
    )
    session = import_files(
        stores, files, sample_rate_hz=12_000.0, frequency_hz=7.05e6, start_time_unix_ns=1_767_268_800 * 10**9
    )
    with pytest.raises(NotLocatableError, match=r"(?s)0 of 3 have one.*given by hand.*--trust genova"):
        locate_session(stores, session.slug, LocateOptions(), quiet)


def test_noise_alone_gives_no_time_difference(stores, tmp_path):
    names = ("torino", "genova", "aquila-di-giaveno")
    files = npy_files(tmp_path, {name: noise(30_000, key) for key, name in enumerate(names)})
    session = import_files(
        stores, files, sample_rate_hz=12_000.0, frequency_hz=7.05e6, start_time_unix_ns=1_767_268_800 * 10**9
    )
    with pytest.raises(Exception, match="time differences of at least 3 receivers") as error:
        locate_session(stores, session.slug, LocateOptions(trusted=names), quiet)
    assert "no clear peak" in str(error.value) or "nothing in common" in str(error.value)


def test_an_area_without_the_transmitter_is_said_to_end_there(stores, example):
    found = locate_session(stores, example, LocateOptions(area=Area(44.0, 9.5, 44.5, 10.0)), quiet)
    assert found.fix.is_at_edge


@pytest.mark.skipif(RECORDINGS is None, reason="HEIMDALL_TEST_RECORDINGS does not name the real recordings")
def test_the_real_transmitter_is_located(stores):
    session = import_files(stores, sorted(Path(RECORDINGS or "").glob("*.wav")), known_source="DCF77")
    found = locate_session(stores, session.slug, LocateOptions(), quiet)
    assert found.distance_to_source_km is not None
    assert found.closure_us is not None
    assert found.block_scatter_m is not None
    # The stations' clocks differ by tens of microseconds: public tools find it 11 to 14 km off.
    assert found.distance_to_source_km < 14.0
    assert found.closure_us < 3.0
    assert found.block_scatter_m < 2000.0


def test_the_class_of_a_clock_decides_what_it_carries(stores, example):
    # A person states classes: NTP to 2 ms carries nothing, GNSS to 200 ns does.
    correct_session(stores, example, Correction(clock={"torino": stated_clock("ntp:2ms")}))
    with pytest.raises(NotLocatableError, match=r"torino: its clock \(ntp\) is uncertain by 2000 us, above 20 us"):
        locate_session(stores, example, LocateOptions(), quiet)
    report = correct_session(stores, example, Correction(clock={"torino": stated_clock("gnss:200ns")}))
    assert report.changes == ("torino: clock ntp, 2000 us to gnss, 0.2 us",)
    assert locate_session(stores, example, LocateOptions(), quiet).distance_to_source_km < 1.0
