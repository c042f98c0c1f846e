"""Local frames: positions in metres around a point, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyproj
from numpy.typing import ArrayLike, NDArray

_WGS84 = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True)
class LocalFrame:
    """Azimuthal equidistant frame around a point on the WGS84 ellipsoid.

    Attributes
    ----------
    latitude, longitude : float
        Of the origin, degrees.
    """

    latitude: float
    longitude: float

    @classmethod
    def around(cls, lats_deg: ArrayLike, lons_deg: ArrayLike) -> Self:
        """A frame in the middle of some positions.

        >>> LocalFrame.around([44.0, 46.0], [7.0, 9.0])
        LocalFrame(latitude=45.0, longitude=8.0)
        """
        lats, lons = np.asarray(lats_deg, float), np.asarray(lons_deg, float)
        offsets = (lons - lons.flat[0] + 180) % 360 - 180
        longitude = (float(lons.flat[0] + (offsets.min() + offsets.max()) / 2) + 180) % 360 - 180
        return cls(round(float((lats.min() + lats.max()) / 2), 6), round(longitude, 6))

    def to_metres(self, lats_deg: ArrayLike, lons_deg: ArrayLike) -> NDArray[np.float64]:
        """Positions in the frame.

        Parameters
        ----------
        lats_deg, lons_deg : array_like of float, shape (...)
            Degrees.

        Returns
        -------
        ndarray of float64, shape (..., 2)
            East and north, m; distances and directions from the origin are exact.
        """
        lats, lons = np.broadcast_arrays(np.asarray(lats_deg, float), np.asarray(lons_deg, float))
        azimuth_deg, _, distance_m = _WGS84.inv(
            np.full(lats.size, self.longitude), np.full(lats.size, self.latitude), lons.ravel(), lats.ravel()
        )
        azimuth = np.radians(azimuth_deg)
        metres = np.stack([distance_m * np.sin(azimuth), distance_m * np.cos(azimuth)], axis=-1)
        return metres.reshape(*lats.shape, 2)

    def to_degrees(self, metres: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The way back: latitudes and longitudes of positions of shape (..., 2).

        >>> frame = LocalFrame(45.0, 8.0)
        >>> lat, lon = frame.to_degrees(frame.to_metres([45.1], [7.9]))
        >>> lat.round(9).tolist(), lon.round(9).tolist()
        ([45.1], [7.9])
        """
        values = np.asarray(metres, float)
        flat = values.reshape(-1, 2)
        azimuth_deg = np.degrees(np.arctan2(flat[:, 0], flat[:, 1]))
        start_lon, start_lat = np.full(len(flat), self.longitude), np.full(len(flat), self.latitude)
        lons, lats, _ = _WGS84.fwd(start_lon, start_lat, azimuth_deg, np.hypot(flat[:, 0], flat[:, 1]))
        shape = values.shape[:-1]
        return np.asarray(lats).reshape(shape), np.asarray(lons).reshape(shape)
