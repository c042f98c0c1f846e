"""Ground under points and along links: true heights and losses, seams, voids, lines and corners, water."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from heimdall_pipelines.rf.elevation_grid import VOID_INT16, ElevationGrid
from heimdall_pipelines.rf.geodesy import distance_and_azimuth
from heimdall_pipelines.rf.propagation import path_loss_db, path_losses_db
from heimdall_pipelines.rf.terrain import NoElevationError, Terrain
from heimdall_pipelines.terrain.shipped import shipped_terrain

# Six links with heights of the shipped grid and the loss of a public implementation of P.1812 (50 % of time, DN 45,
# N0 325, vertical polarisation, no clutter), computed once.
LINKS = json.loads(Path(__file__).with_name("p1812-links.json").read_text())
FOLDER = os.environ.get("HEIMDALL_TEST_TERRAIN")
needs_folder = pytest.mark.skipif(FOLDER is None, reason="HEIMDALL_TEST_TERRAIN names no folder with terrain")


def grid(heights_m, north=46.0, west=7.0, step=0.1, longitude_step=None, dtype=np.float32):
    return ElevationGrid(np.asarray(heights_m, dtype), north, west, step, longitude_step or step)


def rough(rows, columns, seed=0):
    return np.random.default_rng(seed).uniform(-100, 3000, (rows, columns)).astype(np.float32)


def profile_of(link):
    length_m, azimuth = distance_and_azimuth(*link["tx"], *link["rx"])
    return shipped_terrain().profiles(*link["tx"], [azimuth], [length_m], [len(link["elevation_m"]) - 1])


def ends(link):
    return link["frequency_mhz"] * 1e6, link["tx_mast_m"], link["rx_mast_m"]


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link["name"])
def test_heights_along_geodesics_are_those_of_the_true_profile(link):
    profile = profile_of(link)
    assert profile.lengths_m[0] == pytest.approx(link["distance_km"] * 1e3, abs=0.1)
    # The truth is rounded to 0.1 m; 1 m is required, and half a cell off would be 10 m here.
    assert profile.heights_m == pytest.approx(np.array(link["elevation_m"]), abs=0.06)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link["name"])
def test_losses_over_the_ground_are_those_of_p1812(link):
    frequency_hz, tx_m, rx_m = ends(link)
    distances_m = np.arange(len(link["elevation_m"])) * link["distance_km"] * 1e3 / (len(link["elevation_m"]) - 1)
    given = path_loss_db(frequency_hz, distances_m, link["elevation_m"], tx_m, rx_m)
    assert float(given.loss_db) == pytest.approx(link["p1812_loss_db"], abs=0.1)
    sampled = path_losses_db(frequency_hz, profile_of(link), tx_m, rx_m)
    assert sampled.loss_db[0] == pytest.approx(link["p1812_loss_db"], abs=0.3)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link["name"])
def test_the_steps_that_scenes_take_are_fine_enough(link):
    length_m, azimuth = distance_and_azimuth(*link["tx"], *link["rx"])
    frequency_hz, tx_m, rx_m = ends(link)
    sampled = path_losses_db(frequency_hz, shipped_terrain().profiles(*link["tx"], [azimuth], [length_m]), tx_m, rx_m)
    assert sampled.loss_db[0] == pytest.approx(link["p1812_loss_db"], abs=0.3)


@needs_folder
def test_the_shipped_grid_is_the_source():
    with np.load(Path(FOLDER) / "globe-30s-43-47N-5.5-11E.npz") as source:
        (shipped,) = shipped_terrain().grids
        assert np.array_equal(shipped.heights_m, source["elevation_m"])
        assert shipped.north_deg == pytest.approx(source["latitude_deg"][0], abs=1e-9)
        assert shipped.west_deg == pytest.approx(source["longitude_deg"][0], abs=1e-9)
    assert json.loads((Path(FOLDER) / "p1812-links.json").read_text()) == LINKS


def test_known_places_have_their_heights():
    places = {"Torino": (45.044, 7.672, 240), "Genova": (44.395, 8.956, 42), "Passo del Giovi": (44.561, 8.956, 490)}
    latitudes, longitudes, expected_m = zip(*places.values(), strict=True)
    # The grid is a kilometre wide and a whole number of metres high: 15 m, where the coast rises 45 m within a cell.
    assert shipped_terrain().heights_m(latitudes, longitudes) == pytest.approx(expected_m, abs=15)


def test_many_links_at_once_have_the_losses_of_each():
    latitudes, longitudes = np.array([45.2, 44.5, 45.9]), np.array([7.9, 8.9, 7.5])
    lengths_m, azimuths = distance_and_azimuth(44.9, 8.3, latitudes, longitudes)
    profiles = shipped_terrain().profiles(44.9, 8.3, azimuths, lengths_m)
    together = path_losses_db(145e6, profiles, 2.0, [10.0, 20.0, 30.0])
    for k, rx_m in enumerate([10.0, 20.0, 30.0]):
        part = slice(profiles.starts[k], profiles.starts[k + 1])
        alone = path_loss_db(145e6, profiles.distances_m[part], profiles.heights_m[part], 2.0, rx_m)
        assert float(alone.loss_db) == together.loss_db[k]
        assert float(alone.diffraction_db) == together.diffraction_db[k]
        assert bool(alone.is_line_of_sight) == together.is_line_of_sight[k]


def test_a_link_to_its_own_place_has_a_loss():
    profiles = shipped_terrain().profiles(45.0, 8.0, [0.0], [0.0])
    assert np.isfinite(path_losses_db(145e6, profiles, 2.0, 10.0).loss_db).all()


def test_antennas_in_the_ground_are_refused():
    profiles = shipped_terrain().profiles(45.0, 8.0, [0.0], [1e4])
    with pytest.raises(ValueError, match=re.escape("above the ground, not at 2.0 m and 0.0 m")):
        path_losses_db(145e6, profiles, 2.0, 0.0)


def test_heights_are_bilinear_between_four_points():
    ground = Terrain([grid([[100, 200], [300, 500]], step=1.0)])
    assert ground.heights_m([45.75], [7.25]) == pytest.approx([0.75 * (75 + 50) + 0.25 * (225 + 125)])


def test_points_on_lines_and_corners_need_no_further_point():
    heights_m = [[100, 200, np.nan], [300, 500, np.nan], [np.nan, np.nan, np.nan]]
    ground = Terrain([grid(heights_m, step=1.0)])
    assert ground.heights_m([46.0, 45.0, 45.5, 45.0], [7.0, 8.0, 8.0, 7.5]).tolist() == [100, 500, 350, 400]


@pytest.mark.parametrize("void", [np.nan, VOID_INT16])
def test_one_void_corner_of_four_is_never_averaged(void):
    dtype = np.float32 if np.isnan(void) else np.int16
    fine = grid([[100, void, 100], [100, 100, 100], [100, 100, 100]], step=0.5, dtype=dtype)
    ground, coarse = Terrain([fine]), grid([[140, 140], [140, 140]], step=1.0)
    with pytest.raises(NoElevationError, match=re.escape("latitude 45.9000, longitude 7.4000")):
        ground.heights_m([45.2, 45.9], [7.4, 7.4])
    both = Terrain([fine, coarse])
    assert both.heights_m([45.2, 45.9, 45.5], [7.4, 7.4, 7.5]).tolist() == [100, 140, 100]


def test_places_without_a_tile_are_named():
    with pytest.raises(NoElevationError, match=r"latitude 48\.0000, longitude 7\.5000 and 1 other points: add a tile"):
        Terrain([grid(rough(3, 3))]).heights_m([45.9, 48.0, 49.0], [7.1, 7.5, 7.5])


@pytest.mark.parametrize("shares_edges", [True, False], ids=["shared edges", "a gap of one cell"])
def test_borders_and_corners_of_tiles_are_seamless(shares_edges):
    whole_m, half, more = rough(21, 21), 10, int(shares_edges)
    whole = Terrain([grid(whole_m)])
    tiles = [
        grid(whole_m[first : first + half + more, left : left + half + more], 46 - first * 0.1, 7 + left * 0.1)
        for first in (0, half)
        for left in (0, half)
    ]
    rng = np.random.default_rng(1)
    last = 2 * half if shares_edges else 2 * half - 1
    places = np.concatenate([rng.uniform(0, last, (400, 2)), rng.uniform(half - 1, half, (400, 2))])
    places = np.concatenate([places, [[half, half], [half - 1, half], [half, 3.3], [3.3, half - 1], [half - 0.5, 2]]])
    latitudes, longitudes = 46 - 0.1 * places[:, 0], 7 + 0.1 * places[:, 1]
    expected_m = whole.heights_m(latitudes, longitudes)
    for order in (tiles, tiles[::-1]):  # float64 of degrees, 1e-14 of a cell of 3000 m
        assert Terrain(order).heights_m(latitudes, longitudes) == pytest.approx(expected_m, abs=1e-6)


def test_neighbours_with_fewer_columns_meet_without_a_step():
    # As GLO-30 at 50 degrees: 1.5 times wider columns to the north, and a row's gap. The ground is a plane.
    def plane(north, west, step, longitude_step, shape):
        rows, columns = np.indices(shape)
        return grid(
            1000 * (north - rows * step) + 500 * (west + columns * longitude_step), north, west, step, longitude_step
        )

    north, south = plane(50.2, 7.0, 0.02, 0.03, (10, 12)), plane(50.0, 7.0, 0.02, 0.02, (11, 18))
    latitudes = np.linspace(49.9, 50.1, 201)
    heights_m = Terrain([north, south]).heights_m(latitudes, np.full(201, 7.1713))
    # float32 at 50,000 m: 0.004 m.
    assert heights_m == pytest.approx(1000 * latitudes + 500 * 7.1713, abs=0.02)


def test_the_border_of_a_fine_tile_is_seamless_with_the_coarse_ground_around():
    fine, coarse = grid(rough(11, 11), 45.5, 7.5, 0.01), grid(rough(11, 11, seed=1), 46.0, 7.0, 0.1)
    latitudes = np.linspace(45.52, 45.48, 4001)
    heights_m = Terrain([coarse, fine]).heights_m(latitudes, np.full(4001, 7.5437))
    assert np.abs(np.diff(heights_m)).max() < 3100 / 1000  # a thousand steps for the steepest cell of 0.01 degrees


@pytest.mark.parametrize("west", [179.95, -180.0])
def test_the_antimeridian_is_no_border(west):
    heights_m = rough(5, 5)
    ground = Terrain([grid(heights_m, north=0.2, west=west)])
    east = west + 0.15
    expected_m = Terrain([grid(heights_m, north=0.2, west=7.0)]).heights_m([0.03], [7.15])
    for longitude in (east, east - 360, east + 360):
        assert ground.heights_m([0.03], [longitude]) == pytest.approx(expected_m, abs=1e-6)


def test_profiles_across_the_antimeridian_and_the_equator_are_found():
    ground = Terrain([grid(rough(41, 41), north=2.0, west=178.0)])
    length_m, azimuth = distance_and_azimuth(1.5, 179.0, -1.5, -179.0)
    profile = ground.profiles(1.5, 179.0, [azimuth], [length_m])
    assert profile.heights_m[-1] == pytest.approx(float(ground.heights_m([-1.5], [-179.0])[0]), abs=0.05)


def test_a_grid_around_the_earth_has_no_edge():
    heights_m = rough(3, 360)
    ground = Terrain([grid(heights_m, north=1.0, west=-180.0, step=1.0)])
    middle_m = (heights_m[1, 359] + heights_m[1, 0]) / 2
    assert ground.heights_m([0.0, 0.0], [179.5, -180.5]) == pytest.approx([middle_m] * 2, rel=1e-6)


def test_negative_heights_are_heights():
    shore = Terrain([grid(np.full((3, 3), -430), north=31.6, west=35.4, dtype=np.int16)])
    assert shore.heights_m([31.55], [35.45]).tolist() == [-430]


def test_the_finest_grid_wins_then_the_first():
    old, new = grid(np.full((3, 3), 10.0), step=0.5), grid(np.full((3, 3), 20.0), step=0.5)
    fine = grid(np.full((3, 3), 30.0), north=45.6, west=7.4)
    ground = Terrain([new, old, fine])
    assert ground.heights_m([45.55, 45.1], [7.45, 7.1]) == pytest.approx([30, 20])


def test_mapped_heights_are_not_copied_and_not_written_to():
    heights_m = rough(3, 3)
    made = grid(heights_m)
    assert np.shares_memory(made.heights_m, heights_m)
    with pytest.raises(ValueError, match="read-only"):
        made.heights_m[0, 0] = 1


def test_the_sea_and_lakes_are_not_land():
    heights_m = np.random.default_rng(0).integers(100, 300, (40, 40))
    heights_m[:, :12] = 0  # the sea
    heights_m[20:25, 20:25] = 193  # a lake
    ground = Terrain([grid(heights_m, dtype=np.int16)])
    # In the middle of each, just within the coast, and on both shores.
    places = {(10, 5): False, (10, 11): False, (22, 22): False, (10, 12): True, (22, 19): True, (22, 30): True}
    rows, columns = np.array(list(places)).T
    assert ground.is_land(46 - 0.1 * rows, 7 + 0.1 * columns).tolist() == list(places.values())


def test_land_below_the_sea_and_at_0_m_is_land():
    # Rotterdam: a polder of -6 to 3 m, one value in ten exactly 0; and a plain at 0 m with some roughness.
    polder = np.random.default_rng(3).integers(-6, 4, (60, 60))
    ground = Terrain([grid(polder, north=52.0, west=4.4, step=0.01, dtype=np.int16)])
    latitudes, longitudes = np.random.default_rng(4).uniform([51.45, 4.45], [51.95, 4.95], (2000, 2)).T
    assert ground.is_land(latitudes, longitudes).mean() > 0.99


def test_a_plain_in_whole_metres_of_a_fine_grid_is_land_and_its_lake_is_not():
    rows, columns = np.indices((200, 200))
    plain = 100 + rows // 4 + columns // 5  # level for 4 x 5 values of 30 m
    plain[80:100, 80:100] = 77  # 600 m wide
    ground = Terrain([grid(plain, step=1 / 3600, dtype=np.int16)])
    places = np.random.default_rng(0).uniform(5, 70, (500, 2))
    assert ground.is_land(46 - places[:, 0] / 3600, 7 + places[:, 1] / 3600).all()
    assert not ground.is_land([46 - 90 / 3600], [7 + 90 / 3600])[0]


def test_the_shipped_grid_knows_its_waters():
    ground = shipped_terrain()
    seen = {"Gulf of Genoa": (44.2, 8.9), "Lake Geneva": (46.45, 6.6), "Lake Neuchatel": (46.9, 6.85)}
    dry = {"Genova": (44.41, 8.93), "Milano": (45.46, 9.19), "Monte Rosa": (45.93, 7.87), "Vercelli": (45.32, 8.42)}
    assert not ground.is_land(*np.array(list(seen.values())).T).any()
    assert ground.is_land(*np.array(list(dry.values())).T).all()


def test_where_no_grid_has_a_height_is_no_land():
    assert not Terrain([grid(np.full((3, 3), np.nan))]).is_land([45.9, 10.0], [7.1, 7.1]).any()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"heights_m": np.zeros((1, 5), np.int16)}, "2 rows and columns or more"),
        ({"heights_m": np.zeros((3, 3), ">i2")}, "int16 or float32 of this processor, not >i2"),
        ({"latitude_step_deg": 0.0}, "steps must be positive"),
        ({"north_deg": 91.0}, "are not within -90 to 90 degrees"),
        ({"west_deg": 180.0}, "west_deg must be -180 to below 180"),
        ({"longitude_step_deg": 200.0}, "more than a turn"),
    ],
)
def test_an_impossible_grid_is_refused(wrong, problem):
    possible = {"heights_m": np.zeros((3, 3), np.int16), "north_deg": 46.0, "west_deg": 7.0}
    with pytest.raises(ValueError, match=problem):
        ElevationGrid(**{"latitude_step_deg": 0.1, "longitude_step_deg": 0.1} | possible | wrong)
