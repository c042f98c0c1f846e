"""GeoTIFF of heights in any projection, by rasterio, which is loaded on first use."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from heimdall_pipelines.formats.terrain_file import MAX_VALUES, TerrainFileError, grid_of_values
from heimdall_pipelines.rf.elevation_grid import VOID_INT16, ElevationGrid

_WGS84 = "EPSG:4326"
# A file marked as pixel-is-point has its first point at the stated position: GDAL moves its corner by half a cell.
_GDAL_OPTIONS = {"GTIFF_POINT_GEO_IGNORE": "FALSE", "GDAL_PAM_ENABLED": "NO"}


def read_geotiff(path: Path) -> ElevationGrid:
    """Read the heights of a GeoTIFF; those of a projected one are interpolated to latitudes and longitudes.

    Parameters
    ----------
    path : Path
        With one band; cloud-optimised, compressed, of any byte order, of cells or of points.

    Raises
    ------
    TerrainFileError
        It is no GeoTIFF, cut short, without georeference, or has several bands.
    OSError
        It cannot be read.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    path.open("rb").close()  # a missing file is reported as such
    try:
        with _no_warning(NotGeoreferencedWarning), rasterio.Env(**_GDAL_OPTIONS), rasterio.open(path) as file:
            return _read(path, file)
    except (RasterioError, pyproj.exceptions.CRSError) as error:
        raise TerrainFileError(path, f"cannot be read as GeoTIFF, or is cut short: {error}") from error


def write_geotiff(
    path: Path, values: NDArray[np.float32], *, north: float, west: float, step: tuple[float, float]
) -> None:
    """Write values at points as a compressed GeoTIFF; NaN is void.

    Parameters
    ----------
    path : Path
    values : ndarray of float32, shape (num_rows, num_columns)
        North to south.
    north, west : float
        Of the first point, degrees.
    step : tuple of float
        Distance of rows and of columns, degrees.

    Raises
    ------
    TerrainFileError
        The file cannot be written.
    """
    import rasterio
    from rasterio.errors import RasterioError

    rows, columns = values.shape
    corner = rasterio.Affine(step[1], 0.0, west - step[1] / 2, 0.0, -step[0], north + step[0] / 2)
    how = {"crs": _WGS84, "transform": corner, "nodata": np.nan, "compress": "deflate", "predictor": 3}
    size = {"width": columns, "height": rows, "count": 1, "dtype": "float32"}
    try:
        with rasterio.open(path, "w", driver="GTiff", **size, **how) as file:
            file.write(values, 1)
    except (RasterioError, OSError) as error:
        raise TerrainFileError(path, f"could not be written: {error}") from error


def _read(path: Path, file: Any) -> ElevationGrid:
    if file.crs is None or file.transform.is_identity:
        raise TerrainFileError(path, "has no georeference: heights without a position cannot be used")
    if file.count != 1:
        raise TerrainFileError(path, f"has {file.count} bands, one with heights is expected")
    if file.width * file.height > MAX_VALUES:
        raise TerrainFileError(
            path, f"has {file.width} x {file.height} values, {MAX_VALUES} are allowed: cut it into tiles"
        )
    values, transform, nodata = file.read(1), file.transform, file.nodata
    if file.scales[0] != 1 or file.offsets[0] != 0:
        is_void = np.zeros(values.shape, bool) if nodata is None else values == nodata
        values = np.where(is_void, np.nan, values * file.scales[0] + file.offsets[0])
        nodata = None
    if not _is_wgs84(file.crs.to_wkt()) or transform.b or transform.d:
        values, transform = _to_wgs84(path, values, nodata, transform, file.crs)
        nodata = None
    north, west = transform.f + transform.e / 2, transform.c + transform.a / 2  # centre of the first cell
    if transform.e > 0:  # from south to north
        values, north = values[::-1], north + (values.shape[0] - 1) * transform.e
    if transform.a < 0:  # from east to west
        values, west = values[:, ::-1], west + (values.shape[1] - 1) * transform.a
    return grid_of_values(
        path,
        values,
        nodata,
        north_deg=north,
        west_deg=west,
        latitude_step_deg=abs(transform.e),
        longitude_step_deg=abs(transform.a),
    )


def _is_wgs84(wkt: str) -> bool:
    """Whether coordinates are geographic on WGS84, whatever the heights refer to."""
    crs = pyproj.CRS.from_wkt(wkt)
    horizontal = crs.sub_crs_list[0] if crs.is_compound else crs
    return bool(horizontal.is_geographic and horizontal.datum and "World Geodetic System 1984" in horizontal.datum.name)


def _to_wgs84(
    path: Path, values: NDArray[Any], nodata: float | None, transform: Any, crs: Any
) -> tuple[NDArray[np.float32], Any]:
    """Interpolate to latitudes and longitudes, at about the same resolution; voids stay void."""
    from rasterio.transform import array_bounds
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    height, width = values.shape
    cleaned = grid_of_values(
        path, values, nodata, north_deg=0.0, west_deg=0.0, latitude_step_deg=1e-6, longitude_step_deg=1e-6
    ).heights_m
    source = np.where(cleaned == VOID_INT16, np.nan, cleaned).astype(np.float32)
    target, columns, rows = calculate_default_transform(
        crs, _WGS84, width, height, *array_bounds(height, width, transform)
    )
    heights = np.full((rows, columns), np.nan, np.float32)
    reproject(
        source,
        heights,
        src_transform=transform,
        src_crs=crs,
        src_nodata=np.nan,
        dst_transform=target,
        dst_crs=_WGS84,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
        tolerance=0.01,  # of a cell
    )
    return heights, target


@contextmanager
def _no_warning(category: type[Warning]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
