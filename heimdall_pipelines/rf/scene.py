"""Scenes: the transmitter's position, and its link to each receiver."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heimdall_pipelines.rf.delay_spread import draw_delay_spreads_s
from heimdall_pipelines.rf.environment import Environment, noise_power_dbm
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S, distance_and_azimuth, gdop, propagation_delay_s
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.propagation import PathLoss, path_losses_db, smooth_earth_path_loss_db
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import MOST_DRAWS, bounding_box, rounded_altitude_m, rounded_position
from heimdall_pipelines.rf.terrain import NoLandError, Terrain

TransmitterKind = Literal["mobile", "base"]
RejectionReason = Literal["too_few_receivers", "mean_snr_too_low", "gdop_too_high"]

_MOBILE_HEIGHT_M = 2.0  # on a vehicle's roof
_BASE_HEIGHT_M = (8.0, 30.0)  # on houses and small towers
_MOBILE_GAIN_DBI = (-1.0, 2.0)  # quarter wave on sheet metal
_BASE_GAIN_DBI = (1.0, 5.0)  # dipole to collinear, less its cable
_MAX_VEHICLE_M_PER_S = 27.0  # motorway; 13 Hz at 145 MHz
_MAX_SCATTERER_M_PER_S = 1.0  # leaves and people around a fixed antenna

_RICE_K_DB = (7.0, 4.0)  # mean and standard deviation in line of sight, 3GPP TR 38.901 table 7.5-6, rural macrocell
_REFLECTION_DB = 6.0  # two equal waves in phase
_SHADOWING_SHARED = 0.8  # correlation of two receivers in one direction; the rest is each receiver's own environment
_SHADOWING_ANGLE_DEG = 45.0

_DECIMALS = 6  # of mean SNR and GDOP, which decide whether a scene is accepted


@dataclass(frozen=True)
class SceneSpec:
    """Parameters for drawing scenes, and criteria for accepting them.

    Attributes
    ----------
    frequency_hz : float
    tx_power_dbm : float
        Into the transmitter's antenna.
    sample_rate_hz : float
        Of the receivers; the band of noise and SNR.
    environment : {"city", "residential", "rural"}
        Around receivers and transmitter: man-made noise and delay spread.
    inside_ratio : float
        Probability of a transmitter within the receivers' bounding box. The others are in the box enlarged by the
        margin, some of them again inside the box itself.
    margin_deg : float
        On each side, degrees of latitude and longitude.
    min_snr_db : float
        From this SNR on a receiver detects the signal.
    min_receivers : int
        Least number of receivers that must detect the signal.
    max_gdop : float
        Of the receivers that detect the signal.
    mobile_ratio : float
        Probability of a vehicle instead of a base station.
    ground_altitude_m : float
        Of the plain, above which the Earth is modelled as smooth.
    tx_hill_m : float
        Mean of the exponential distribution of the height of a transmitter's ground above that plain.
    min_rx_height_m : float
        Least height of a receiver's antenna above the smooth Earth.
    rx_antenna_gain_dbi, rx_noise_figure_db : float
    shadowing_sigma_db : float
        Standard deviation of shadowing; 6 to 8 dB for unknown terrain. Over terrain it is `terrain_shadowing_db`.
    receiver_clock_ns : float
        Standard deviation of the error of each receiver's clock.
    oscillator_ppm : float
        Standard deviation of each oscillator's error, of transmitter and receivers.
    multipath : bool
        Whether there are echoes.
    fading : bool
        Whether there is scattering: Rice factor and Doppler.
    """

    frequency_hz: float = 145e6
    tx_power_dbm: float = 37.0
    sample_rate_hz: float = 200e3
    environment: Environment = "residential"
    inside_ratio: float = 0.7
    margin_deg: float = 0.2
    min_snr_db: float = 3.0
    min_receivers: int = 3
    max_gdop: float = 10.0
    mobile_ratio: float = 0.5
    ground_altitude_m: float = 120.0
    tx_hill_m: float = 200.0
    min_rx_height_m: float = 20.0
    rx_antenna_gain_dbi: float = 4.0
    rx_noise_figure_db: float = 6.0
    shadowing_sigma_db: float = 7.0
    oscillator_ppm: float = 0.5
    receiver_clock_ns: float = 50.0
    multipath: bool = True
    fading: bool = True


@dataclass(frozen=True)
class Scene:
    """One transmission and its links to the receivers; the truth of one synthetic sample.

    Attributes
    ----------
    tx_latitude, tx_longitude : float
        Degrees.
    tx_altitude_m : float
        Of the transmitter's antenna, with the same reference as the receivers' altitudes.
    tx_antenna_height_m : float
        Of that antenna above its ground.
    tx_kind : {"mobile", "base"}
    tx_power_dbm, tx_antenna_gain_dbi : float
    links : tuple of Link
        One for each receiver, in the order of the sites.
    line_of_sight, detected : tuple of bool
        For each link.
    path_loss_db, diffraction_loss_db : tuple of float or None
        For each link, without shadowing: of the whole path, and what diffraction adds to free space. None of a scene
        that was stored before they were.
    mean_snr_db : float
        Mean, in dB, over the detected links; NaN without any.
    gdop : float
        Of the receivers that detect the signal; infinite for fewer than 3.
    """

    tx_latitude: float
    tx_longitude: float
    tx_altitude_m: float
    tx_antenna_height_m: float
    tx_kind: TransmitterKind
    tx_power_dbm: float
    tx_antenna_gain_dbi: float
    links: tuple[Link, ...]
    line_of_sight: tuple[bool, ...]
    detected: tuple[bool, ...]
    path_loss_db: tuple[float | None, ...]
    diffraction_loss_db: tuple[float | None, ...]
    mean_snr_db: float
    gdop: float

    @property
    def num_detected(self) -> int:
        """Number of receivers that detect the signal."""
        return sum(self.detected)


@dataclass(frozen=True)
class _Transmitter:
    latitude: float
    longitude: float
    altitude_m: float
    antenna_height_m: float
    kind: TransmitterKind
    gain_dbi: float
    max_speed_m_per_s: float


def terrain_shadowing_db(frequency_hz: float) -> float:
    """Standard deviation of what a terrain profile leaves open: houses and trees around the antennas.

    Parameters
    ----------
    frequency_hz : float

    Returns
    -------
    float
        ``1.2 + 1.3 log10(f / MHz)``, dB: of places within 500 m for antennas on vehicles' roofs.

    References
    ----------
    ITU-R P.1546-6 annex 5 section 12, location variability with K = 1.2.

    Examples
    --------
    >>> round(terrain_shadowing_db(145e6), 1), round(terrain_shadowing_db(435e6), 1)
    (4.0, 4.6)
    """
    return 1.2 + 1.3 * math.log10(frequency_hz / 1e6)


def draw_scene(
    spec: SceneSpec, sites: Sequence[ReceiverSite], rng: np.random.Generator, terrain: Terrain | None = None
) -> Scene:
    """Draw one transmission, acceptable or not (see `rejection_reason`).

    Parameters
    ----------
    spec : SceneSpec
    sites : sequence of ReceiverSite
        One or more; over terrain those of `rf.receivers.standing_sites`.
    rng : numpy.random.Generator
        Generators in the same state give the same scene. `multipath`, `fading`, power and levels do not change the
        draws: the other quantities of a scene stay the same.
    terrain : Terrain, optional
        The ground; None for a smooth Earth.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        No receiver.

    Notes
    -----
    Rounding. Positions, links, mean SNR and GDOP are rounded (see `Link.rounded`), and detection
    and acceptance use the rounded values: the stored scene is the one that is synthesised.

    Terrain. Transmitters stand on its land, uniform in latitude and longitude, a mast or a vehicle high. The loss is
    that of the profile along the geodesic; `ground_altitude_m`, `tx_hill_m` and `min_rx_height_m` are not used.
    Shadowing is what the profile does not have, `terrain_shadowing_db`. Over the 30-arc-second grid of the package 17 %
    of the links of the project's receivers are in line of sight, instead of 70 %, and their loss is 20 dB higher.

    Heights without terrain. Paths run over a smooth Earth at `ground_altitude_m`: 120 m, the Po plain at
    Milano, between Alessandria (95 m) and the edge of the hills. Antenna heights are relative to it: for a receiver
    its altitude minus that of the plain (Coazze 580 m, Giovi 360 m, Torino 130 m) or, in town, that of a roof,
    `min_rx_height_m` (Milano, and Genova, which lies below). It is the effective height of ITU-R P.1546-6 annex 5 with
    the plain as the average ground. The ground under a transmitter lies an exponentially distributed height above the
    plain, of mean `tx_hill_m`, 200 m: half below 260 m above the sea, one in 20 above 720 m, an estimate for the land
    in the network's box, from rice fields over Monferrato and Langhe to the first Alps. Obstruction by these hills is
    not in the path model but left to shadowing, which is symmetric: links across the mountains, as from the plain to
    Genova, are too good.

    Acceptance. With these defaults 93 % of the scenes drawn for the project's seven receivers are accepted; of
    the others one third has too few receivers and two thirds a GDOP above 10, where only the four receivers around
    Torino receive the signal. The margin decides: 96 % of scenes are accepted inside the receivers' box, 87 %
    altogether with a margin of 0.5 deg, which is why the default is 0.2 deg. With all transmitters on the plain itself
    (`tx_hill_m` 0) it is 50 %.

    Transmitters. Half are vehicles, antenna 2 m above ground, -1 to 2 dBi, at up to 27 m/s; half base stations, 8 to
    30 m, 1 to 5 dBi. Receivers have 4 dBi: a collinear of 6 dBi minus cable loss. All links of a scene have one Doppler
    spread, v f / c, with v the vehicle's speed or, around a base station, that of leaves and people, up to 1 m/s.

    Shadowing is log-normal (see `draw_shadowing_db`), but no path is better than free space by more than the 6 dB of
    one reflection in phase. Line-of-sight links have a normally distributed Rice factor in dB, the others none
    (Rayleigh). Without line of sight the rms delay spread is ``T1 sqrt(d / km) y``, y log-normal with 4 dB, greater in
    the shadow (correlation 0.75), T1 = 0.4, 0.3 and 0.1 us in city, residential and rural areas; at most 12 us. 0.4 us
    is that of urban microcells, macrocells have up to 1 us. The model is based on paths of up to some 20 km and
    extrapolated beyond. In line of sight the median is 93, 59 and 32 ns, that of macrocells, whatever the distance: the
    echoes that matter come from near the antennas. Only scattered parts have echoes, so without `fading` there is none.

    References
    ----------
    ITU-R P.1546-6 annex 5 section 12, for shadowing over terrain.
    Greenstein, Erceg, Yeh, Clark, "A new path-gain/delay-spread propagation model for digital cellular channels",
    IEEE Trans. Vehicular Technology 46 (1997), eq. 10, for the delay spread.
    3GPP TR 38.901 table 7.5-6 for the Rice factor, and with WINNER II D1.1.2 table 4-5 for delay spreads in sight.
    """
    if not sites:
        raise ValueError("a scene needs at least one receiver")
    latitudes = np.array([site.latitude for site in sites], dtype=np.float64)
    longitudes = np.array([site.longitude for site in sites], dtype=np.float64)
    altitudes_m = np.array([site.altitude_m for site in sites], dtype=np.float64)

    latitude, longitude = _draw_position(spec, sites, rng, terrain)
    distances_m, bearings_rad = distance_and_azimuth(latitude, longitude, latitudes, longitudes)
    if terrain is None:
        tx = _draw_transmitter(spec, latitude, longitude, None, rng)
        path = smooth_earth_path_loss_db(
            spec.frequency_hz,
            distances_m,
            tx.altitude_m - spec.ground_altitude_m,
            np.maximum(altitudes_m - spec.ground_altitude_m, spec.min_rx_height_m),
        )
        shadowing_sigma_db = spec.shadowing_sigma_db
    else:
        profiles = terrain.profiles(latitude, longitude, bearings_rad, distances_m)
        tx = _draw_transmitter(spec, latitude, longitude, float(profiles.tx_ground_m[0]), rng)
        antenna_heights_m = [site.antenna_height_m for site in sites]
        path = path_losses_db(spec.frequency_hz, profiles, tx.antenna_height_m, antenna_heights_m)
        shadowing_sigma_db = terrain_shadowing_db(spec.frequency_hz)
    shadowing = draw_shadowing_db(np.degrees(bearings_rad), 1.0, rng)
    loss_db = np.maximum(path.loss_db + shadowing_sigma_db * shadowing, path.free_space_db - _REFLECTION_DB)
    received_dbm = spec.tx_power_dbm + tx.gain_dbi + spec.rx_antenna_gain_dbi - loss_db
    links = _draw_links(
        spec,
        path,
        delays_s=propagation_delay_s(tx.latitude, tx.longitude, tx.altitude_m, latitudes, longitudes, altitudes_m),
        received_dbm=received_dbm,
        delay_spreads_s=draw_delay_spreads_s(spec.environment, distances_m, shadowing, path.is_line_of_sight, rng),
        doppler_hz=tx.max_speed_m_per_s * rng.random() * spec.frequency_hz / SPEED_OF_LIGHT_M_PER_S,
        rng=rng,
    )
    snr_db = np.array([link.snr_db for link in links])
    detected = snr_db >= spec.min_snr_db
    return Scene(
        tx_latitude=tx.latitude,
        tx_longitude=tx.longitude,
        tx_altitude_m=tx.altitude_m,
        tx_antenna_height_m=tx.antenna_height_m,
        tx_kind=tx.kind,
        tx_power_dbm=spec.tx_power_dbm,
        tx_antenna_gain_dbi=tx.gain_dbi,
        links=links,
        line_of_sight=tuple(path.is_line_of_sight.tolist()),
        detected=tuple(detected.tolist()),
        path_loss_db=_rounded(path.loss_db),
        diffraction_loss_db=_rounded(path.diffraction_db),
        mean_snr_db=round(float(snr_db[detected].mean()), _DECIMALS) if detected.any() else math.nan,
        gdop=round(gdop(tx.latitude, tx.longitude, latitudes[detected], longitudes[detected]), _DECIMALS),
    )


def rejection_reason(spec: SceneSpec, scene: Scene) -> RejectionReason | None:
    """Return the reason for which a scene is rejected.

    Parameters
    ----------
    spec : SceneSpec
        With `min_receivers`, `min_snr_db` and `max_gdop`.
    scene : Scene
        A scene of `draw_scene`.

    Returns
    -------
    {"too_few_receivers", "mean_snr_too_low", "gdop_too_high"} or None
        The first reason that applies; None for an accepted scene. Since detected links of `draw_scene` have at least
        `min_snr_db`, the second only applies to scenes drawn with another spec.
    """
    if scene.num_detected < spec.min_receivers:
        return "too_few_receivers"
    if scene.mean_snr_db < spec.min_snr_db:
        return "mean_snr_too_low"
    if scene.gdop > spec.max_gdop:
        return "gdop_too_high"
    return None


def draw_shadowing_db(bearings_deg: ArrayLike, sigma_db: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the log-normal shadowing of the links between one transmitter and its receivers.

    Obstacles near the transmitter affect all receivers behind them: the correlation of two links falls with the
    angle between them, ``0.8 exp(-angle / 45 deg)``. The other 0.2 is independent for each receiver, so that receivers
    in exactly the same direction are valid. An exponential of the angle is a valid covariance on the circle.

    Parameters
    ----------
    bearings_deg : array_like of float, shape (num_receivers,)
        From the transmitter.
    sigma_db : float
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (num_receivers,)
        dB of loss, mean 0.

    References
    ----------
    Szyszkowicz, Yanikomeroglu, Thompson, "On the feasibility of wireless shadowing correlation models", IEEE Trans.
    Vehicular Technology 59 (2010), for valid models and a survey of measured ones.

    Examples
    --------
    Two receivers in nearly the same direction and one in the opposite one:

    >>> drawn_db = [draw_shadowing_db([10, 12, 190], 7.0, np.random.default_rng(seed)) for seed in range(2000)]
    >>> np.corrcoef(drawn_db, rowvar=False)[0].round(1)
    array([1. , 0.8, 0. ])
    """
    bearings = np.asarray(bearings_deg, dtype=np.float64)
    apart_deg = np.abs(bearings[:, None] - bearings) % 360
    apart_deg = np.minimum(apart_deg, 360 - apart_deg)
    correlation = _SHADOWING_SHARED * np.exp(-apart_deg / _SHADOWING_ANGLE_DEG)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(sigma_db * (np.linalg.cholesky(correlation) @ rng.standard_normal(bearings.size)))


def _draw_position(
    spec: SceneSpec, sites: Sequence[ReceiverSite], rng: np.random.Generator, terrain: Terrain | None
) -> tuple[float, float]:
    """Latitude and longitude, uniform over the receivers' bounding box or the enlarged one; on land, if it is known."""
    for _ in range(MOST_DRAWS):
        is_inside, across, up = rng.random(3).tolist()
        margin_deg = 0.0 if is_inside < spec.inside_ratio else spec.margin_deg
        latitude, longitude = rounded_position(*bounding_box(sites, margin_deg).position(across, up))
        if terrain is None or terrain.is_land(latitude, longitude)[0]:
            return latitude, longitude
    raise NoLandError(f"none of {MOST_DRAWS} places drawn for a transmitter around the receivers is on land")


def _draw_transmitter(
    spec: SceneSpec, latitude: float, longitude: float, ground_m: float | None, rng: np.random.Generator
) -> _Transmitter:
    """Draw a vehicle or a base station, on ground of random height if that is unknown."""
    is_mobile = rng.random() < spec.mobile_ratio
    if ground_m is None:
        ground_m = spec.ground_altitude_m + spec.tx_hill_m * rng.standard_exponential()
    height_share, gain_share = rng.random(2).tolist()
    gain_from_dbi, gain_to_dbi = _MOBILE_GAIN_DBI if is_mobile else _BASE_GAIN_DBI
    height_from_m, height_to_m = _BASE_HEIGHT_M
    height_m = _MOBILE_HEIGHT_M if is_mobile else height_from_m + height_share * (height_to_m - height_from_m)
    return _Transmitter(
        latitude=latitude,
        longitude=longitude,
        altitude_m=rounded_altitude_m(ground_m + height_m),
        antenna_height_m=height_m,
        kind="mobile" if is_mobile else "base",
        gain_dbi=gain_from_dbi + gain_share * (gain_to_dbi - gain_from_dbi),
        max_speed_m_per_s=_MAX_VEHICLE_M_PER_S if is_mobile else _MAX_SCATTERER_M_PER_S,
    )


def _draw_links(
    spec: SceneSpec,
    path: PathLoss,
    *,
    delays_s: NDArray[np.float64],
    received_dbm: NDArray[np.float64],
    delay_spreads_s: NDArray[np.float64],
    doppler_hz: float,
    rng: np.random.Generator,
) -> tuple[Link, ...]:
    """Draw Rice factors, errors of oscillators and clocks, and build each receiver's link."""
    mean_db, std_db = _RICE_K_DB
    drawn_k_db = mean_db + std_db * rng.standard_normal(delays_s.size)
    rice_k_db = (
        np.where(path.is_line_of_sight, drawn_k_db, -math.inf) if spec.fading else np.full(delays_s.size, np.inf)
    )
    tx_ppm, *rx_ppm = (spec.oscillator_ppm * rng.standard_normal(1 + delays_s.size)).tolist()
    clocks_ns = spec.receiver_clock_ns * rng.standard_normal(delays_s.size)
    noise_dbm = noise_power_dbm(spec.frequency_hz, spec.sample_rate_hz, spec.environment, spec.rx_noise_figure_db)
    return tuple(
        Link(
            delay_s=float(delays_s[i]),
            received_power_dbm=float(received_dbm[i]),
            noise_power_dbm=noise_dbm,
            rice_k_db=float(rice_k_db[i]),
            doppler_hz=doppler_hz if spec.fading else 0.0,
            rms_delay_spread_s=float(delay_spreads_s[i]) if spec.multipath and spec.fading else 0.0,
            frequency_offset_hz=(tx_ppm - rx_ppm[i]) * 1e-6 * spec.frequency_hz,
            clock_offset_ns=float(clocks_ns[i]),
        ).rounded()
        for i in range(delays_s.size)
    )


def _rounded(values_db: NDArray[np.float64]) -> tuple[float, ...]:
    """Round to the digits of `Link.rounded`, since the last digits of propagation differ between processors."""
    return tuple(round(value, _DECIMALS) + 0.0 for value in values_db.tolist())
