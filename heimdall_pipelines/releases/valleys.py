"""Valleys of the ground: where water runs together, from terrain smoothed over kilometres."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heimdall_pipelines.rf.terrain import Terrain

_CELL_DEG = 1 / 120  # 30 arc seconds, about 0.9 km from south to north
_SMOOTHING_CELLS = 2.0
_MARGIN_CELLS = 12
_MAX_CELLS = 4_000_000


def valley_keys(terrain: Terrain, lats_deg: NDArray[np.float64], lons_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the valley that each position lies in.

    Parameters
    ----------
    terrain : Terrain
    lats_deg, lons_deg : ndarray of float64, shape (num_positions,)

    Returns
    -------
    ndarray of int64, shape (num_positions,)
        Made of the position of the valley's lowest cell, so that other positions do not change it.

    Notes
    -----
    Heights are averaged by a Gaussian of 2 cells of 30 arc seconds; every cell belongs to the local minimum that the
    steepest descent leads to. A plain has many small basins, a valley in the mountains one.
    """
    step = _CELL_DEG
    while True:
        first_row, first_column, shape = _grid(lats_deg, lons_deg, step)
        if math.prod(shape) <= _MAX_CELLS:
            break
        step *= 2
    rows = (first_row + np.arange(shape[0])) * step
    columns = (first_column + np.arange(shape[1])) * step
    grid_lats, grid_lons = np.meshgrid(rows, columns, indexing="ij")
    heights_m = terrain.heights_m(grid_lats.ravel(), grid_lons.ravel()).reshape(shape)
    smooth = ndimage.gaussian_filter(np.nan_to_num(heights_m.astype(np.float64)), _SMOOTHING_CELLS)
    lowest = _lowest_cells(smooth)
    at = np.rint(lats_deg / step).astype(np.int64) - first_row, np.rint(lons_deg / step).astype(np.int64) - first_column
    found_row, found_column = np.divmod(lowest[at], shape[1])
    return (found_row + first_row) * 10_000_000 + found_column + first_column


def _grid(lats: NDArray[np.float64], lons: NDArray[np.float64], step: float) -> tuple[int, int, tuple[int, int]]:
    """First row and column as multiples of the step, and the shape; with room for the smoothing."""
    first_row = math.floor(lats.min() / step) - _MARGIN_CELLS
    first_column = math.floor(lons.min() / step) - _MARGIN_CELLS
    last_row = math.ceil(lats.max() / step) + _MARGIN_CELLS
    last_column = math.ceil(lons.max() / step) + _MARGIN_CELLS
    return first_row, first_column, (last_row - first_row + 1, last_column - first_column + 1)


def _lowest_cells(heights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Flat index of the local minimum that the steepest descent from each cell ends in."""
    num_rows, num_columns = heights.shape
    padded = np.pad(heights, 1, constant_values=np.inf)
    index = np.arange(heights.size).reshape(heights.shape)
    best, target = heights.copy(), index.copy()
    for down, right in ((r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)):
        beside = padded[1 + down : 1 + down + num_rows, 1 + right : 1 + right + num_columns]
        lower = beside < best
        best = np.where(lower, beside, best)
        target = np.where(lower, index + down * num_columns + right, target)
    flat = target.ravel()
    while not np.array_equal(onward := flat[flat], flat):
        flat = onward
    return flat.reshape(heights.shape)
