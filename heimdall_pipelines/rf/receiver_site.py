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
    """

    rx_id: str
    latitude: float
    longitude: float
    altitude_m: float
