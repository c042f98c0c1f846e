"""One link over the ground: heights, the Earth's bulge, the ray, the first Fresnel zone and the loss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S, distance_and_azimuth
from heimdall_pipelines.rf.propagation import EFFECTIVE_EARTH_RADIUS_M, path_losses_db
from heimdall_pipelines.rf.terrain import Terrain


@dataclass(frozen=True)
class LinkEnd:
    """An antenna: a place in degrees and a height above its ground."""

    name: str
    latitude: float
    longitude: float
    mast_m: float


@dataclass(frozen=True, eq=False)
class LinkProfile:
    """A link; arrays of shape (num_points,).

    Attributes
    ----------
    tx, rx : LinkEnd
    frequency_hz : float
    distances_m, ground_m : ndarray of float64
    bulge_m : ndarray of float64
        Of the effective Earth, above the chord.
    ray_m : ndarray of float64
        Of the straight line between the antennas, above the sea.
    fresnel_m : ndarray of float64
        Radius of the first Fresnel zone.
    loss_db, free_space_db, diffraction_db : float
    is_line_of_sight : bool
    """

    tx: LinkEnd
    rx: LinkEnd
    frequency_hz: float
    distances_m: NDArray[np.float64]
    ground_m: NDArray[np.float64]
    bulge_m: NDArray[np.float64]
    ray_m: NDArray[np.float64]
    fresnel_m: NDArray[np.float64]
    loss_db: float
    free_space_db: float
    diffraction_db: float
    is_line_of_sight: bool

    @property
    def clearance_m(self) -> NDArray[np.float64]:
        """Of the ray above ground and bulge."""
        return self.ray_m - self.ground_m - self.bulge_m


def link_profile(terrain: Terrain, tx: LinkEnd, rx: LinkEnd, frequency_hz: float) -> LinkProfile:
    """Compute a link.

    Raises
    ------
    NoElevationError
        The terrain does not have all of the path.
    """
    length_m, azimuth = distance_and_azimuth(tx.latitude, tx.longitude, rx.latitude, rx.longitude)
    profiles = terrain.profiles(tx.latitude, tx.longitude, [azimuth], [length_m])
    path = path_losses_db(frequency_hz, profiles, tx.mast_m, rx.mast_m)
    from_tx, ground = profiles.distances_m, profiles.heights_m
    from_rx, length = from_tx[-1] - from_tx, from_tx[-1]
    tx_m, rx_m = ground[0] + tx.mast_m, ground[-1] + rx.mast_m
    return LinkProfile(
        tx=tx,
        rx=rx,
        frequency_hz=frequency_hz,
        distances_m=from_tx,
        ground_m=ground,
        bulge_m=from_tx * from_rx / (2 * EFFECTIVE_EARTH_RADIUS_M),
        ray_m=(tx_m * from_rx + rx_m * from_tx) / length,
        fresnel_m=np.sqrt(SPEED_OF_LIGHT_M_PER_S / frequency_hz * from_tx * from_rx / length),
        loss_db=float(path.loss_db[0]),
        free_space_db=float(path.free_space_db[0]),
        diffraction_db=float(path.diffraction_db[0]),
        is_line_of_sight=bool(path.is_line_of_sight[0]),
    )
