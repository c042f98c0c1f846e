"""Altitudes given for receivers, compared with the ground at their coordinates."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heimdall_pipelines.rf.geodesy import geodesic_points
from heimdall_pipelines.rf.terrain import Terrain

AROUND_M = 50.0  # of the coordinates, which are given to about that
BELOW_M = 50.0  # that an antenna may lie below the lowest ground there, the error of a coarse model
ABOVE_M = 100.0  # and above the highest: the same, on a mast or a house of 50 m
_DIRECTIONS = 8


class Place(Protocol):
    """A receiver: a station or a receiver site."""

    @property
    def rx_id(self) -> str:
        """Its slug."""
        ...

    @property
    def latitude(self) -> float:
        """Degrees."""
        ...

    @property
    def longitude(self) -> float:
        """Degrees."""
        ...

    @property
    def altitude_m(self) -> float:
        """Of its antenna above the sea."""
        ...


@dataclass(frozen=True)
class AltitudeMisfit:
    """A receiver whose antenna would be in the ground, or higher above it than masts are."""

    rx_id: str
    altitude_m: float
    lowest_ground_m: float
    highest_ground_m: float

    def __str__(self) -> str:
        return (
            f"{self.rx_id}: altitude_m {self.altitude_m:g} does not fit the ground of {self.lowest_ground_m:.0f} to "
            f"{self.highest_ground_m:.0f} m within {AROUND_M:.0f} m of its coordinates: one of them is wrong; over "
            "terrain its antenna stands antenna_height_m above that ground"
        )


def altitude_misfits(places: Iterable[Place], terrain: Terrain) -> list[AltitudeMisfit]:
    """Receivers whose altitude does not fit the ground within 50 m of their coordinates.

    Parameters
    ----------
    places : iterable of Place
    terrain : Terrain
        Receivers outside of it are left out.
    """
    return [misfit for place in places if (misfit := _misfit(place, terrain)) is not None]


def _misfit(place: Place, terrain: Terrain) -> AltitudeMisfit | None:
    azimuths = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    starts = np.arange(_DIRECTIONS + 1) * 2  # both ends of each
    lengths_m = np.full(_DIRECTIONS, AROUND_M)
    _, latitudes, longitudes = geodesic_points(place.latitude, place.longitude, azimuths, lengths_m, starts)
    heights_m = terrain.known_heights_m(latitudes, longitudes)
    heights_m = heights_m[~np.isnan(heights_m)]
    if not heights_m.size:
        return None
    lowest_m, highest_m = float(heights_m.min()), float(heights_m.max())
    if lowest_m - BELOW_M <= place.altitude_m <= highest_m + ABOVE_M:
        return None
    return AltitudeMisfit(place.rx_id, place.altitude_m, lowest_m, highest_m)
