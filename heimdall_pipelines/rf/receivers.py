"""Receivers: sites, their bounding box, and random networks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.terrain import NoLandError, Terrain

MOST_DRAWS = 1000  # of a place on land; 4 % of the default network's area are sea
MAX_RECEIVERS = 100  # numbered with two digits
_DECIMALS_OF_DEGREES = 9  # 0.1 mm
_DECIMALS_OF_METRES = 6
_MAST_M = (10.0, 30.0)  # from a house's roof to a small tower
_PLACES_TO_CHOOSE_FROM = 3  # of which a receiver takes the highest


@dataclass(frozen=True)
class BoundingBox:
    """An area between two parallels and two meridians.

    Attributes
    ----------
    south, north : float
        Degrees, -90 to 90.
    west, east : float
        Degrees; east is not less than west, and either may be beyond 180 if the 180th meridian is between them.
    """

    south: float
    north: float
    west: float
    east: float

    def position(self, across: float, up: float) -> tuple[float, float]:
        """Return the position at a fraction of the way from west to east and from south to north.

        Returns
        -------
        latitude, longitude : float
            Degrees, the longitude from -180 to below 180.
        """
        longitude = self.west + across * (self.east - self.west)
        latitude = min(self.south + up * (self.north - self.south), self.north)  # rounding may exceed the pole
        return latitude, (longitude + 180) % 360 % 360 - 180  # twice: slightly below 0 rounds to 360


def bounding_box(sites: Sequence[ReceiverSite], margin_deg: float = 0.0) -> BoundingBox:
    """Return the bounding box of receivers, also across the 180th meridian.

    Parameters
    ----------
    sites : sequence of ReceiverSite
        One or more, within 180 degrees of longitude from the first.
    margin_deg : float
        Margin on each side, degrees of latitude and longitude; the box ends at the poles.

    Examples
    --------
    >>> sites = [ReceiverSite("torino", 45.07, 7.69, 250.0), ReceiverSite("genova", 44.41, 8.93, 100.0)]
    >>> box = bounding_box(sites, margin_deg=0.2)
    >>> round(box.south, 2), round(box.north, 2), round(box.west, 2), round(box.east, 2)
    (44.21, 45.27, 7.49, 9.13)
    """
    latitudes = [site.latitude for site in sites]
    first = sites[0].longitude
    east_of_first = [(site.longitude - first + 180) % 360 - 180 for site in sites]
    return BoundingBox(
        south=max(min(latitudes) - margin_deg, -90.0),
        north=min(max(latitudes) + margin_deg, 90.0),
        west=first + min(east_of_first) - margin_deg,
        east=first + max(east_of_first) + margin_deg,
    )


def rounded_position(latitude: float, longitude: float) -> tuple[float, float]:
    """Round a position to 0.1 mm, so that drawn positions have the same digits on every processor.

    Parameters
    ----------
    latitude, longitude : float
        Degrees.

    Returns
    -------
    latitude, longitude : float
        Degrees, the longitude from -180 to below 180.
    """
    rounded = round(longitude, _DECIMALS_OF_DEGREES)
    return round(latitude, _DECIMALS_OF_DEGREES), rounded if rounded < 180 else -180.0


def rounded_altitude_m(altitude_m: float) -> float:
    """Round an altitude to 1 um: drawn hills come from a logarithm, whose last digit differs between processors.

    Parameters
    ----------
    altitude_m : float

    Returns
    -------
    float
        Metres.
    """
    return round(altitude_m, _DECIMALS_OF_METRES)


def standing_sites(sites: Sequence[ReceiverSite], terrain: Terrain) -> tuple[ReceiverSite, ...]:
    """Receivers that stand on the ground: their altitude is that of the ground plus their antenna's height.

    Parameters
    ----------
    sites : sequence of ReceiverSite
    terrain : Terrain

    Returns
    -------
    tuple of ReceiverSite

    Raises
    ------
    NoElevationError
        The terrain has no height at a site.
    """
    ground_m = terrain.heights_m([site.latitude for site in sites], [site.longitude for site in sites]).tolist()
    return tuple(
        replace(site, altitude_m=rounded_altitude_m(height_m + site.antenna_height_m))
        for site, height_m in zip(sites, ground_m, strict=True)
    )


def draw_receiver_sites(
    around: Sequence[ReceiverSite],
    *,
    min_count: int,
    max_count: int,
    rng: np.random.Generator,
    ground_altitude_m: float = 120.0,
    hill_m: float = 200.0,
    terrain: Terrain | None = None,
) -> tuple[ReceiverSite, ...]:
    """Draw a network of receivers at random in the area of a real one.

    A model trained on one network only knows its sites. With random receivers in the same area, number and geometry
    vary, while links, levels and delays keep the range of the real network.

    Parameters
    ----------
    around : sequence of ReceiverSite
        One or more; they only define the area.
    min_count, max_count : int
        Number of receivers, uniform from the least to the greatest (both included); 1 to 100.
    rng : numpy.random.Generator
        Generators in the same state give the same network.
    ground_altitude_m : float
        Of the plain; the same as in the `heimdall_pipelines.rf.scene.SceneSpec` of the scenes for this network.
    hill_m : float
        Mean of the exponential distribution of the height of a receiver's ground above that plain; 0 for none.
    terrain : Terrain, optional
        The ground. Receivers stand on its land, each at the highest of three places drawn, since people put them on
        high ground; `ground_altitude_m` and `hill_m` are not used.

    Returns
    -------
    tuple of ReceiverSite
        Named rx-00, rx-01 and so on.

    Raises
    ------
    ValueError
        No site to draw around, a count out of range, or a negative hill.
    NoLandError
        The area has hardly any land.

    Notes
    -----
    Positions are uniform in latitude and longitude over the bounding box of `around`, as transmitters are: over its 1.1
    degrees of latitude the parallels' length changes by 2 %.

    Heights. The ground lies an exponentially distributed height above the plain, as that of transmitters
    (`SceneSpec.tx_hill_m`), with the same 200 m, plus a mast of 10 to 30 m: a house's roof to a small
    tower. That is 220 m above the plain on average, where the project's own stations have 250 m, three of seven above
    350 m. There is no minimum distance between receivers: delays, GDOP and shadowing work with adjacent receivers.

    Acceptance. Of default scenes with 5 to 10 receivers drawn around the project's seven stations 98.0 % are accepted
    (12,000 networks with a scene each), from 95.8 % with 5 receivers to 99 % with 8 or more; of the others seven in ten
    have a GDOP above 10, the rest too few receivers. It is more than the 93 % of the stations themselves: random
    receivers are rarely in one cluster, as four of the seven are around Torino. 94 % of an accepted scene's receivers
    detect the signal; its GDOP is 1.2 in the median, 0.75 to 4.1 in nine of ten. With 3 receivers 76 % are accepted,
    with all on the plain (`hill_m` 0) 89 %.

    Terrain. Over the 30-arc-second grid of the package 70 % of default scenes with 5 to 10 receivers are accepted, 93 %
    with 47 dBm instead of 37 (500 networks with a scene each).

    Examples
    --------
    >>> around = [ReceiverSite("torino", 45.07, 7.69, 250.0), ReceiverSite("genova", 44.41, 8.93, 100.0)]
    >>> network = draw_receiver_sites(around, min_count=3, max_count=3, rng=np.random.default_rng(7))
    >>> [site.rx_id for site in network]
    ['rx-00', 'rx-01', 'rx-02']
    """
    if not around:
        raise ValueError("around needs at least one receiver site")
    if not 1 <= min_count <= MAX_RECEIVERS:
        raise ValueError(f"min_count must be between 1 and {MAX_RECEIVERS}, not {min_count}")
    if not min_count <= max_count <= MAX_RECEIVERS:
        raise ValueError(f"max_count must be between min_count ({min_count}) and {MAX_RECEIVERS}, not {max_count}")
    if not hill_m >= 0:
        raise ValueError(f"hill_m must be 0 or more, not {hill_m}")
    box = bounding_box(around)
    count = int(rng.integers(min_count, max_count, endpoint=True))
    if terrain is not None:
        return tuple(_draw_on_land(f"rx-{index:02d}", box, terrain, rng) for index in range(count))
    hills_m = hill_m * rng.standard_exponential(count)
    lowest_m, highest_m = _MAST_M
    sites = []
    for index, (across, up, mast) in enumerate(rng.random((count, 3)).tolist()):
        latitude, longitude = box.position(across, up)
        mast_m = lowest_m + mast * (highest_m - lowest_m)
        altitude_m = rounded_altitude_m(ground_altitude_m + float(hills_m[index]) + mast_m)
        sites.append(ReceiverSite(f"rx-{index:02d}", *rounded_position(latitude, longitude), altitude_m, mast_m))
    return tuple(sites)


def _draw_on_land(rx_id: str, box: BoundingBox, terrain: Terrain, rng: np.random.Generator) -> ReceiverSite:
    """Draw a receiver on the highest of a few places on land."""
    lowest_m, highest_m = _MAST_M
    mast_m = rounded_altitude_m(lowest_m + float(rng.random()) * (highest_m - lowest_m))
    places: list[tuple[float, float]] = []
    for _ in range(MOST_DRAWS):
        draws = rng.random((_PLACES_TO_CHOOSE_FROM, 2)).tolist()
        drawn = [rounded_position(*box.position(across, up)) for across, up in draws]
        is_land = terrain.is_land(*zip(*drawn, strict=True))
        places += [place for place, on_land in zip(drawn, is_land, strict=True) if on_land]
        if len(places) >= _PLACES_TO_CHOOSE_FROM:
            break
    else:
        raise NoLandError(
            f"fewer than {_PLACES_TO_CHOOSE_FROM} of {MOST_DRAWS} places drawn for a receiver are on land"
        )
    places = places[:_PLACES_TO_CHOOSE_FROM]
    heights_m = terrain.heights_m(*zip(*places, strict=True))
    highest = int(np.argmax(heights_m))
    altitude_m = rounded_altitude_m(float(heights_m[highest]) + mast_m)
    return ReceiverSite(rx_id, *places[highest], altitude_m, mast_m)
