"""`heimdall session locate`: tables, files, and what it says where it cannot locate."""

import re

import pytest

from heimdall_pipelines.sessions.example import SOURCE


@pytest.fixture
def example(example_session):
    """The example session, of a known transmitter."""
    return example_session(source=SOURCE, extracted=False).slug


def test_a_session_is_located_and_written(heimdall, example, tmp_path):
    code, out, _ = heimdall("session", "locate", example, "-o", tmp_path / "located")
    assert code == 0
    assert re.search(rf"known source {SOURCE.name}: [0-9]+ m away", out)  # below 1 km
    assert "genova - torino" in out
    assert "three stations: nothing is left to check the position by" in out
    assert sorted(path.name for path in (tmp_path / "located").iterdir()) == [
        "position.geojson",
        "position.kml",
        "position.png",
    ]


@pytest.mark.parametrize("area", ["45,7,46", "46,7,45,8", "a,b,c,d"])
def test_a_wrong_area_is_explained(heimdall, example, area):
    code, _, err = heimdall("session", "locate", example, "--area", area)
    assert code == 2
    assert "SOUTH,WEST,NORTH,EAST" in err


@pytest.mark.parametrize("bandwidth", ["0", "nan", "-3"])
def test_a_wrong_bandwidth_is_explained(heimdall, example, bandwidth):
    code, _, err = heimdall("session", "locate", example, f"--bandwidth={bandwidth}")
    assert code == 2
    assert re.search("a positive width is expected|a number with its unit is expected", err)


def test_too_few_stations_are_named(heimdall, example):
    code, out, err = heimdall("session", "locate", example, "--exclude", "torino")
    assert (code, out) == (1, "")
    assert "torino: excluded" in err
