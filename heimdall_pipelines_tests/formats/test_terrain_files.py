"""Files of heights: what other programs write is read right or refused with the reason."""

import numpy as np
import pytest

from heimdall_pipelines.formats.terrain_file import TerrainFileError, read_terrain_file
from heimdall_pipelines.formats.terrain_tile import map_tile, read_tile_header, tile_bytes
from heimdall_pipelines.rf.elevation_grid import VOID_INT16, ElevationGrid
from heimdall_pipelines.rf.geodesy import distance_and_azimuth
from heimdall_pipelines.rf.propagation import path_losses_db
from heimdall_pipelines.rf.terrain import NoElevationError, Terrain

from .tiff_files import AREA, POINT, PROJECTED, tiff_bytes


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio")


def ridge(latitudes, longitudes):
    """A ridge from south to north at 7.5 degrees east, 900 m above a plain of 200 m."""
    return 200 + 900 * np.exp(-(((longitudes - 7.5) / 0.05) ** 2)) + 0 * latitudes


def ridge_on_grid(north, west, step, shape):
    rows, columns = np.indices(shape)
    return np.rint(ridge(north - rows * step, west + columns * step))


def hgt(folder, values, name="N45E007.hgt"):
    path = folder / name
    path.write_bytes(np.asarray(values).astype(">i2").tobytes())
    return path


def tif(folder, values, name="tile.tif", **how):
    path = folder / name
    path.write_bytes(tiff_bytes(values, **how))
    return path


def small(folder, values, **how):
    """A GeoTIFF of cells of 0.1 degrees whose first is centred at 46 N 7 E."""
    return tif(folder, values, **{"tie": (6.95, 46.05), "scale": (0.1, 0.1)} | how)


def loss_db(grid):
    length_m, azimuth = distance_and_azimuth(45.4, 7.2, 45.6, 7.9)
    profiles = Terrain([grid]).profiles(45.4, 7.2, [azimuth], [length_m])
    return float(path_losses_db(145e6, profiles, 2.0, 10.0).loss_db[0])


@pytest.mark.long
@pytest.mark.parametrize("side", [1201, 3601])
def test_an_srtm_tile_has_its_heights_at_its_corners(tmp_path, side):
    values = np.zeros((side, side), np.int16)
    values[0, 0], values[0, -1], values[-1, 0], values[-1, -1] = 1, 2, 3, -430
    read = read_terrain_file(hgt(tmp_path, values, "S34W059.hgt"))
    corners = Terrain([read]).heights_m([-33, -33, -34, -34], [-59, -58, -59, -58])
    assert corners.tolist() == [1, 2, 3, -430]
    assert read.resolution_arcsec == pytest.approx(3600 / (side - 1))


@pytest.mark.parametrize("void", [-32768, -9999, 32767])
def test_voids_of_an_srtm_tile_are_void(tmp_path, void):
    values = np.full((1201, 1201), 500)
    values[600, 600] = void
    read = read_terrain_file(hgt(tmp_path, values))
    assert read.heights_m[600, 600] == VOID_INT16
    with pytest.raises(NoElevationError, match=r"latitude 45\.5004, longitude 7\.4996"):
        Terrain([read]).heights_m([45.5004], [7.4996])


@pytest.mark.parametrize(
    ("name", "num_bytes", "problem"),
    [
        ("N45E007.hgt", 2 * 1201 * 1201 - 2, "has 2884800 bytes; a whole tile has 25934402 or 2884802: get it again"),
        ("N45E007.hgt", 0, "has 0 bytes"),
        ("valley.hgt", 2 * 1201 * 1201, "is named by its south-west corner, as N45E007.hgt"),
        ("N45E007.asc", 10, "is not a file of heights, whose names end in .hgt, .tif, .tiff"),
        ("N45E007.hgt", 2 * 1201 * 1201, "has no heights, all values are void"),
    ],
)
def test_what_is_no_srtm_tile_is_refused(tmp_path, name, num_bytes, problem):
    path = tmp_path / name
    path.write_bytes(b"\x80\x00" * (num_bytes // 2))
    with pytest.raises(TerrainFileError) as caught:
        read_terrain_file(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    for name in ("N45E007.hgt", "tile.tif"):
        if name.endswith("tif"):
            pytest.importorskip("rasterio")
        with pytest.raises(TerrainFileError, match="cannot be read: No such file"):
            read_terrain_file(tmp_path / name)


@pytest.mark.long
@pytest.mark.parametrize("raster", [AREA, POINT])
@pytest.mark.parametrize("order", ["<", ">"])
def test_hgt_and_geotiff_of_one_ridge_have_one_loss(tmp_path, rasterio, raster, order):
    side, step = 1201, 1 / 1200
    values = ridge_on_grid(46.0, 7.0, step, (side, side)).astype(np.int16)
    corner = (7.0 - step / 2, 46.0 + step / 2) if raster == AREA else (7.0, 46.0)
    tiff = read_terrain_file(tif(tmp_path, values, tie=corner, scale=(step, step), raster=raster, order=order))
    srtm = read_terrain_file(hgt(tmp_path, values))
    assert loss_db(tiff) == pytest.approx(loss_db(srtm), abs=1e-6)
    assert loss_db(srtm) > 120  # the ridge is between


def test_cells_and_points_at_one_stated_position_are_half_a_cell_apart(tmp_path, rasterio):
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    area = read_terrain_file(small(tmp_path, values, name="area.tif", tie=(7.0, 46.0)))
    point = read_terrain_file(small(tmp_path, values, name="point.tif", tie=(7.0, 46.0), raster=POINT))
    assert (area.west_deg, area.north_deg) == pytest.approx((7.05, 45.95))
    assert (point.west_deg, point.north_deg) == pytest.approx((7.0, 46.0))


@pytest.mark.long
@pytest.mark.parametrize(
    ("dtype", "void", "declared"),
    [
        (np.int16, -32768, None),
        (np.int16, -9999, None),
        (np.int16, 32767, None),
        (np.float32, -3.4028234663852886e38, "-3.4028234663852886e+38"),
        (np.float32, -3.4e38, None),
        (np.float32, np.nan, None),
        (np.float32, np.inf, None),
        (np.float64, -9999.0, None),
        (np.int32, 12345, "12345"),
        (np.int16, -50, "-50"),
        (np.uint16, 65535, None),
    ],
)
def test_voids_of_every_kind_are_void(tmp_path, rasterio, dtype, void, declared):
    values = np.full((4, 4), 500, dtype)
    values[1, 1] = void
    read = read_terrain_file(small(tmp_path, values, nodata=declared))
    assert read.heights_m[1, 1] == VOID_INT16 if read.heights_m.dtype == np.int16 else np.isnan(read.heights_m[1, 1])
    coarse = ElevationGrid(np.full((2, 2), 520, np.int16), 46.0, 7.0, 0.3, 0.3)
    ground = Terrain([read, coarse])
    rows, columns = np.mgrid[0:3:0.25, 0:3:0.25].reshape(2, -1)
    heights_m = ground.heights_m(46 - 0.1 * rows, 7 + 0.1 * columns)
    assert set(np.round(heights_m, 6)) == {500, 520}  # never a mean with the void


def test_a_geotiff_in_utm_has_the_heights_of_its_ground(tmp_path, rasterio):
    from pyproj import Transformer

    to_degrees = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    east, north, cell_m = 350_000.0, 5_070_000.0, 100.0
    rows, columns = np.indices((500, 900))
    longitudes, latitudes = to_degrees.transform(east + (columns + 0.5) * cell_m, north - (rows + 0.5) * cell_m)
    values = ridge(latitudes, longitudes).astype(np.float32)
    values[100, 100] = -9999
    path = tif(tmp_path, values, tie=(east, north), scale=(cell_m, cell_m), epsg=32632, model=PROJECTED)
    read = read_terrain_file(path)
    ground = Terrain([read])
    at = np.random.default_rng(0).uniform([45.45, 7.15], [45.65, 7.95], (500, 2)).T
    # Interpolated twice in cells of 100 m where the ridge is 900 m / 4 km steep, with a curvature of 0.06 m per cell.
    assert np.abs(ground.heights_m(*at) - ridge(*at)).max() < 1.0
    assert np.isnan(ground.known_heights_m(latitudes[100, 100:101], longitudes[100, 100:101]))[0]
    assert np.nanmin(read.heights_m) > 199


def test_a_geotiff_from_south_to_north_or_in_0_to_360_degrees_is_turned(tmp_path, rasterio):
    values = np.arange(12, dtype=np.int16).reshape(3, 4)
    usual = read_terrain_file(small(tmp_path, values))
    how = {"driver": "GTiff", "crs": "EPSG:4326", "transform": rasterio.Affine(-0.1, 0, 7.35, 0, 0.1, 45.75)}
    with rasterio.open(tmp_path / "up.tif", "w", width=4, height=3, count=1, dtype="int16", **how) as file:
        file.write(values[::-1, ::-1], 1)
    upside_down = read_terrain_file(tmp_path / "up.tif")
    assert np.array_equal(upside_down.heights_m, usual.heights_m)
    assert (upside_down.north_deg, upside_down.west_deg) == pytest.approx((usual.north_deg, usual.west_deg))
    far_east = read_terrain_file(small(tmp_path, values, name="east.tif", tie=(352.95, 46.05)))
    assert far_east.west_deg == pytest.approx(-7.0)


def test_a_cloud_optimised_geotiff_is_read(tmp_path, rasterio):
    values = np.arange(1024 * 1024, dtype=np.float32).reshape(1024, 1024) % 3000
    path = tmp_path / "cog.tif"
    transform = rasterio.Affine(0.001, 0, 7.0, 0, -0.001, 46.0)
    profile = {"driver": "COG", "compress": "deflate", "predictor": 3, "crs": "EPSG:4326", "transform": transform}
    with rasterio.open(path, "w", width=1024, height=1024, count=1, dtype="float32", **profile) as file:
        file.write(values, 1)
    read = read_terrain_file(path)
    assert np.array_equal(read.heights_m, values)
    assert read.north_deg == pytest.approx(45.9995)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"tie": None}, "has no georeference"),
        ({"bands": 3}, "has 3 bands, one with heights is expected"),
        ({"tie": (6.95, 95.0)}, "has an impossible position"),
    ],
)
def test_a_geotiff_that_cannot_be_used_is_refused(tmp_path, rasterio, how, problem):
    with pytest.raises(TerrainFileError, match=problem):
        read_terrain_file(small(tmp_path, np.ones((4, 4), np.float32), **how))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_a_geotiff_cut_short_is_refused(tmp_path, rasterio, share):
    path = tmp_path / "cut.tif"
    profile = {"driver": "GTiff", "crs": "EPSG:4326", "transform": rasterio.Affine(0.1, 0, 7.0, 0, -0.1, 46.0)}
    with rasterio.open(path, "w", width=200, height=200, count=1, dtype="float32", compress="lzw", **profile) as file:
        file.write(np.random.default_rng(0).uniform(0, 999, (200, 200)).astype(np.float32), 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TerrainFileError, match="cut short"):
        read_terrain_file(path)


@pytest.mark.parametrize("heights_m", [np.arange(12, dtype=np.int16), np.linspace(-5, 99.5, 12, dtype=np.float32)])
def test_a_stored_tile_is_mapped_with_what_it_says(tmp_path, heights_m):
    grid = ElevationGrid(heights_m.reshape(3, 4), 46.0, 1 / 3, 1 / 3600, 1 / 2400)
    path = tmp_path / "a.tile"
    path.write_bytes(tile_bytes(grid, source="a survey, Zürich", licence="CC0 " * 2000))
    mapped, header = map_tile(path), read_tile_header(path)
    assert isinstance(mapped.heights_m.base, np.memmap | np.ndarray)
    assert np.array_equal(mapped.heights_m, grid.heights_m)
    for name in ("north_deg", "west_deg", "latitude_step_deg", "longitude_step_deg"):
        assert getattr(mapped, name) == getattr(grid, name)  # every bit
    assert (header.source, header.licence) == ("a survey, Zürich", "CC0 " * 2000)


def test_equal_heights_at_another_place_are_another_tile():
    flat = np.zeros((3, 3), np.int16)
    bytes_of = [tile_bytes(ElevationGrid(flat, 46.0, west, 0.5, 0.5), source="s", licence="l") for west in (7.0, 8.0)]
    assert bytes_of[0] != bytes_of[1]


def test_a_damaged_tile_is_refused(tmp_path):
    path = tmp_path / "a.tile"
    whole = tile_bytes(ElevationGrid(np.zeros((3, 3), np.int16), 46.0, 7.0, 0.5, 0.5), source="s", licence="l")
    damages = {
        "it is cut short": whole[:-1],
        "is not a terrain tile of this version": b"heimdall terrain tile 2" + whole[23:],
        "is a damaged terrain tile": whole.replace(b'"num_rows"', b'"num_rods"'),
        "of type >i2, which this version cannot read": whole.replace(b'"<i2"', b'">i2"'),
    }
    for problem, content in damages.items():
        path.write_bytes(content)
        with pytest.raises(TerrainFileError, match=problem):
            map_tile(path)
    path.write_bytes(whole[:1000])
    with pytest.raises(TerrainFileError, match="is not a terrain tile"):
        map_tile(path)
