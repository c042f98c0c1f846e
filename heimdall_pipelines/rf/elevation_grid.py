"""Heights of the ground on a regular grid of latitudes and longitudes: one tile of a model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOID_INT16 = -32768
_SAME = 1e-9  # degrees, 0.1 mm


@dataclass(frozen=True, eq=False)
class ElevationGrid:
    """Heights at points, north to south and west to east.

    A value is the height at its point, wherever a file says that its values are those of cells: a reader moves the
    corner of a cell to its centre.

    Attributes
    ----------
    heights_m : ndarray of int16 or float32, shape (num_rows, num_columns)
        Above mean sea level, 2 rows and columns or more. A void is `VOID_INT16` or NaN. Never written to: it can be a
        mapped file.
    north_deg, west_deg : float
        Of the first point; the longitude from -180 to below 180.
    latitude_step_deg, longitude_step_deg : float
        Distance of the points, positive.
    """

    heights_m: NDArray[np.int16] | NDArray[np.float32]
    north_deg: float
    west_deg: float
    latitude_step_deg: float
    longitude_step_deg: float

    def __post_init__(self) -> None:
        heights = self.heights_m
        if heights.ndim != 2 or min(heights.shape) < 2:
            raise ValueError(f"heights_m must have 2 rows and columns or more, not shape {heights.shape}")
        if heights.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            raise ValueError(f"heights_m must be int16 or float32 of this processor, not {heights.dtype.str}")
        if not (self.latitude_step_deg > 0 and self.longitude_step_deg > 0):
            raise ValueError(
                f"steps must be positive, not {self.latitude_step_deg} and {self.longitude_step_deg} degrees"
            )
        if not (self.south_deg >= -90 - _SAME and self.north_deg <= 90 + _SAME):
            raise ValueError(f"latitudes {self.south_deg} to {self.north_deg} are not within -90 to 90 degrees")
        if not -180 <= self.west_deg < 180:
            raise ValueError(f"west_deg must be -180 to below 180, not {self.west_deg}")
        if (heights.shape[1] - 1) * self.longitude_step_deg > 360 + _SAME:
            raise ValueError(f"longitudes {self.west_deg} to {self.east_deg} are more than a turn")
        # Read-only views: one type for the compiled kernels, and no copy of a mapped file in memory.
        view = np.ascontiguousarray(heights).view()
        view.flags.writeable = False
        object.__setattr__(self, "heights_m", view)

    @property
    def south_deg(self) -> float:
        """Latitude of the last row."""
        return self.north_deg - (int(self.heights_m.shape[0]) - 1) * self.latitude_step_deg

    @property
    def east_deg(self) -> float:
        """Longitude of the last column, beyond 180 if the 180th meridian is between."""
        return self.west_deg + (int(self.heights_m.shape[1]) - 1) * self.longitude_step_deg

    @property
    def resolution_arcsec(self) -> float:
        """Distance of the points from north to south."""
        return self.latitude_step_deg * 3600
