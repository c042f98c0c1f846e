"""Site of a receiver; without numpy, because lists of datasets load this module."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReceiverSite:
    """Site of one receiver.

    Attributes
    ----------
    rx_id : str
    latitude, longitude : float
        Degrees.
    altitude_m : float
        Of its antenna above the ellipsoid; in this network's area altitudes above sea level serve as well, since the
        geoid shifts all of them by the same 45 m.
    antenna_height_m : float
        Of its antenna above the ground. Over terrain, `altitude_m` is that of the ground plus this height.
    """

    rx_id: str
    latitude: float
    longitude: float
    altitude_m: float
    antenna_height_m: float = 10.0
