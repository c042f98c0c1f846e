"""Coverage, profiles and pictures: levels are those of each path, and gaps are no levels."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from heimdall_pipelines.rf.elevation_grid import ElevationGrid
from heimdall_pipelines.rf.geodesy import distance_and_azimuth
from heimdall_pipelines.rf.propagation import path_losses_db
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.rf.terrain import NoElevationError, Terrain
from heimdall_pipelines.terrain.coverage import CoverageRequest, compute_coverage
from heimdall_pipelines.terrain.link_profile import LinkEnd, link_profile
from heimdall_pipelines.terrain.pictures import coverage_figure, draw_relief, png_of, profile_figure
from heimdall_pipelines.terrain.shipped import shipped_terrain

REQUEST = CoverageRequest(45.044, 7.672, 145e6, 37.0, 15.0, radius_m=12e3, cell_m=3000.0)


@pytest.fixture(scope="module")
def coverage():
    return compute_coverage(shipped_terrain(), REQUEST)


def test_each_cell_has_the_level_of_its_path(coverage):
    assert coverage.level_dbm.shape == (9, 9)
    for row, column in ((0, 0), (2, 7), (8, 3)):
        place = coverage.latitudes[row], coverage.longitudes[column]
        length_m, azimuth = distance_and_azimuth(45.044, 7.672, *place)
        path = path_losses_db(145e6, shipped_terrain().profiles(45.044, 7.672, [azimuth], [length_m]), 15.0, 2.0)
        assert coverage.level_dbm[row, column] == pytest.approx(37.0 - path.loss_db[0], abs=1e-3)
        assert coverage.is_line_of_sight[row, column] == path.is_line_of_sight[0]


def test_cells_are_as_far_apart_as_asked_for(coverage):
    place = 45.044, 7.672
    south, _ = distance_and_azimuth(*place, coverage.latitudes[5], 7.672)
    east, _ = distance_and_azimuth(*place, 45.044, coverage.longitudes[5])
    assert [float(south), float(east)] == pytest.approx([3000, 3000], rel=0.01)


def test_shares_are_of_the_cells_with_a_level(coverage):
    assert coverage.share_above(-300) == 1
    assert coverage.share_above(0) == 0
    assert coverage.share_above(float(np.median(coverage.level_dbm))) == pytest.approx(0.5, abs=0.01)


def test_paths_that_leave_the_terrain_have_no_level():
    edge = CoverageRequest(44.0, 5.6, 145e6, 37.0, 15.0, radius_m=30e3, cell_m=10e3)
    levels_dbm = compute_coverage(shipped_terrain(), edge).level_dbm
    assert np.isnan(levels_dbm[:, 0]).all()  # west of 5.5 degrees there is none
    assert not np.isnan(levels_dbm[:, 3:]).any()
    with pytest.raises(NoElevationError, match="latitude 60"):
        compute_coverage(shipped_terrain(), CoverageRequest(60.0, 5.6, 145e6, 37.0, 15.0))


def test_progress_and_cost_are_told():
    assert CoverageRequest(45.0, 8.0, 145e6, 37.0, 10.0).num_cells == 201 * 201
    assert CoverageRequest(45.0, 8.0, 145e6, 37.0, 10.0, radius_m=1e6).estimated_s > 1e4


def test_a_link_has_bulge_ray_and_fresnel_zone():
    flat = Terrain([ElevationGrid(np.full((50, 50), 100, np.int16), 46.0, 7.0, 0.1, 0.1)])
    link = link_profile(flat, LinkEnd("a", 45.0, 8.0, 30.0), LinkEnd("b", 45.0, 8.5, 30.0), 150e6)
    middle = link.distances_m.size // 2
    half_m = link.distances_m[-1] / 2
    assert link.bulge_m[middle] == pytest.approx(half_m**2 / 2 / 8.93e6, rel=0.01)  # k = 1.40
    assert link.fresnel_m[middle] == pytest.approx(np.sqrt(2.0 * half_m / 2), rel=0.01)  # wavelength 2 m
    assert link.clearance_m[middle] == pytest.approx(30 - link.bulge_m[middle], abs=0.1)
    assert link.clearance_m[0] == pytest.approx(30)
    assert link.is_line_of_sight == bool((link.clearance_m > 0).all())


@pytest.mark.long
def test_pictures_are_small_and_show_something(coverage):
    ends = LinkEnd("torino", 45.044, 7.672, 10.0), LinkEnd("genova", 44.395, 8.956, 10.0)
    link = link_profile(shipped_terrain(), *ends, 145e6)
    for figure in (profile_figure(link), coverage_figure(coverage, shipped_terrain(), "torino")):
        png = png_of(figure)
        assert len(png) < 100_000
        with Image.open(io.BytesIO(png)) as picture:
            assert len(picture.convert("RGB").getcolors(100_000)) > 10


def test_relief_is_drawn_where_there_is_terrain_and_white_elsewhere():
    axes = Figure().subplots()
    draw_relief(axes, shipped_terrain(), BoundingBox(south=44.0, north=45.0, west=4.5, east=6.5))
    (image,) = axes.images
    colours = np.asarray(image.get_array())
    columns = colours.shape[1]
    assert np.all(colours[:, : columns // 2 - 5] == 1)
    assert colours[:, columns // 2 + 5 :].std() > 0.02
