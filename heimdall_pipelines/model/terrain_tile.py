"""Terrain tiles as rows have them: position, origin and content hash."""

from dataclasses import dataclass
from datetime import datetime

_TURN_DEG = 360.0


@dataclass(frozen=True)
class TerrainTile:
    """A tile of heights.

    Attributes
    ----------
    sha256 : str
        Of the tile as it is stored; its identity.
    north_deg, west_deg, latitude_step_deg, longitude_step_deg : float
        See `rf.elevation_grid.ElevationGrid`.
    num_rows, num_columns : int
    source, licence : str
    file_name, file_sha256 : str
        Of the file from which the tile was made.
    size_bytes : int
        Of the tile as it is stored.
    added_at : datetime
    """

    sha256: str
    north_deg: float
    west_deg: float
    latitude_step_deg: float
    longitude_step_deg: float
    num_rows: int
    num_columns: int
    source: str
    licence: str
    file_name: str
    file_sha256: str
    size_bytes: int
    added_at: datetime

    @property
    def south_deg(self) -> float:
        """Latitude of the last row."""
        return self.north_deg - (self.num_rows - 1) * self.latitude_step_deg

    @property
    def east_deg(self) -> float:
        """Longitude of the last column, beyond 180 if the 180th meridian is between."""
        return self.west_deg + (self.num_columns - 1) * self.longitude_step_deg

    @property
    def resolution_arcsec(self) -> float:
        """Distance of the points from north to south."""
        return self.latitude_step_deg * 3600

    def overlaps(self, south: float, west: float, north: float, east: float) -> bool:
        """Whether the tile, enlarged by a step, has points in common with an area.

        Parameters
        ----------
        south, west, north, east : float
            Degrees; east is not less than west, and may be beyond 180.
        """
        if self.south_deg - self.latitude_step_deg > north or self.north_deg + self.latitude_step_deg < south:
            return False
        from_west = (self.west_deg - self.longitude_step_deg - west) % _TURN_DEG
        width = self.east_deg - self.west_deg + 2 * self.longitude_step_deg
        return from_west <= east - west or from_west + width >= _TURN_DEG
