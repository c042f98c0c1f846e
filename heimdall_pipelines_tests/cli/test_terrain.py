"""`heimdall terrain` as people type it."""

import re

import pytest
from PIL import Image

from heimdall_pipelines_tests.terrain.support import hilly, write_hgt


@pytest.fixture(autouse=True)
def _tile_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HEIMDALL_TERRAIN_FOLDER", str(tmp_path / "tiles"))


def test_tiles_are_added_listed_and_removed(heimdall, tmp_path):
    code, out, err = heimdall("terrain", "add", write_hgt(tmp_path))
    assert code == 0, err
    sha256 = re.search(r"SHA-256 (\w{12})", out)[1]
    assert "N60E010.hgt: added, 1201 x 1201 heights of 3 arc seconds, 60.000 to 61.000 N" in out
    assert "was there already" in heimdall("terrain", "add", tmp_path / "N60E010.hgt")[1]
    assert "sea 60,11,61,12: added, 2 x 2 heights" in heimdall("terrain", "add", "--sea", "60,11,61,12")[1]
    listed = re.sub(r"\s+", " ", heimdall("terrain", "list")[1])
    assert sha256 in listed
    assert "GLOBE" in listed
    assert "public domain" in listed
    assert heimdall("terrain", "remove", sha256)[1].startswith(f"removed: terrain tile {sha256} (N60E010.hgt)")
    code, _, err = heimdall("terrain", "remove", sha256)
    assert code == 1
    assert f"terrain tile {sha256} is unknown" in err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("add",), "files of heights or --sea S,W,N,E are expected"),
        (("add", "--sea", "1,2,3"), "1,2,3: S,W,N,E in degrees is expected"),
        (("add", "--sea", "50,7,49,8"), "south must be below north"),
        (("download",), "either --area S,W,N,E or --dataset NAME"),
        (("profile", "torino", "nowhere"), "nowhere: no such station"),
        (("profile", "torino", "45,x"), "LATITUDE,LONGITUDE in degrees is expected"),
        (("profile", "torino", "95,8"), "latitude is -90 to 90"),
        (("coverage", "torino", "--mast", "0"), "a mast of 0.0 m: it must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(heimdall, words, problem):
    code, out, err = heimdall("terrain", *words)
    assert code == 2
    assert problem in re.sub(r"\s+", " ", out + err)


def test_a_continent_by_mistake_is_asked_back_with_its_cost(heimdall):
    code, _, err = heimdall("terrain", "download", "--area", "35,-10,60,30")
    assert code == 1
    assert "this means 1000 tiles, about 40 GB to download and store; to begin without a terminal, give --yes" in err
    code, _, err = heimdall("terrain", "coverage", "torino", "--radius-km", "900", "--cell-m", "500")
    assert code == 1
    assert re.search(r"this means 12967201 cells, about \d+ minutes", err)


def test_a_profile_is_a_table_and_a_picture(heimdall, tmp_path):
    ends = ("45.044,7.672", "passo-del-giovi", "--tx-mast", "10", "--rx-mast", "10")
    code, out, err = heimdall("terrain", "profile", *ends, "--frequency", "145MHz", "-o", tmp_path)
    assert code == 0, err
    # The first of the links whose loss by P.1812 is known: 167.58 dB.
    assert "114.9 km at 145 MHz: loss 167." in re.sub(r"\s+", " ", out)
    assert "no line of sight" in out
    with Image.open(tmp_path / "profile-45p044_7p672-passo-del-giovi.png") as picture:
        assert picture.width > 400
    assert (tmp_path / "profile-45p044_7p672-passo-del-giovi.png").stat().st_size < 100_000


def test_coverage_is_a_picture_and_a_geotiff(heimdall, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    words = ("torino", "--radius-km", "20", "--cell-m", "2000", "--power", "47", "--mast", "20", "-o", tmp_path)
    code, out, err = heimdall("terrain", "coverage", *words)
    assert code == 0, err
    assert re.search(r"-100 dBm or more: \d+% of the area", out)
    with rasterio.open(tmp_path / "coverage-torino.tif") as file:
        levels_dbm = file.read(1)
        assert levels_dbm.shape == (21, 21)
        assert file.crs.to_epsg() == 4326
        assert file.index(7.672, 45.044) == (10, 10)
        assert levels_dbm[10, 10] == levels_dbm.max()  # the station itself
    assert (tmp_path / "coverage-torino.png").stat().st_size < 100_000


def test_a_place_without_terrain_is_refused_with_what_to_do(heimdall):
    code, _, err = heimdall("terrain", "profile", "60.1,10.1", "60.2,10.2")
    assert code == 1
    assert "no terrain covers the area" in re.sub(r"\s+", " ", err)
    assert hilly().shape == (1201, 1201)


def test_stations_are_listed_with_their_ground_and_what_does_not_fit(heimdall):
    listed = re.sub(r"\s+", " ", heimdall("station", "list")[1])
    assert "aquila-di-giaveno: altitude_m 600 does not fit the ground of 1140 to 1170 m" in listed
    assert "coazze: altitude_m 700 does not fit" in listed
    assert listed.count("does not fit") == 2
