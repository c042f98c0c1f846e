"""Errors of positions beside what is possible on the same scenes, wrong clocks that are named, and what it costs."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_terrain import SITES
from benchmarks.rounds import SMALL
from heimdall_pipelines.datasets.samples import Recipe, draw_sample, extract_sample_iq, make_sample, sample_receptions
from heimdall_pipelines.learning.baselines import TDOA_SYSTEMATIC_US
from heimdall_pipelines.model.dataset_spec import parse_spec
from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.rf.arrivals import Arrivals
from heimdall_pipelines.rf.geodesy import distance_and_azimuth, distance_m, propagation_delay_s
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.positioning import (
    ECHO_US,
    PositionError,
    PositionFix,
    Receiver,
    arrival_times,
    least_squares,
    locate,
)
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import standing_sites
from heimdall_pipelines.rf.scene import Scene
from heimdall_pipelines.rf.segment_tdoa import segment_time_differences
from heimdall_pipelines.rf.station_delays import Emission, estimate_delays, misfit
from heimdall_pipelines.rf.synthesis import receptions
from heimdall_pipelines.rf.tdoa import TimeDifference
from heimdall_pipelines.store.features import mean_of
from heimdall_pipelines.terrain.ground import SMOOTH_EARTH, Ground
from heimdall_pipelines.terrain.shipped import SHIPPED_TILE, shipped_terrain

NUM_CLEAR = 6 if SMALL else 1000
NUM_ECHOES = 6 if SMALL else 500
NUM_CLOCKS = 6 if SMALL else 400
NUM_CLOCK_RUNS, EMISSIONS_OF_A_RUN = (1, 10) if SMALL else (100, 100)
DRAWS = 200  # from the bound's covariance, for each scene
CLOCK_US = 0.05  # of the default options
SEED = 7
_ROUNDS = 3 if SMALL else 40


@dataclass(frozen=True)
class Measured:
    """A scene, where its receivers are, the time differences between those that detected, and their delay spreads."""

    sample_idx: int
    scene: Scene
    sites: tuple[ReceiverSite, ...]
    pairs: tuple[PairTimeDifference, ...]
    delay_spreads_us: dict[str, float]

    @property
    def receivers(self) -> list[Receiver]:
        """Of all sites."""
        return [Receiver(site.rx_id, site.latitude, site.longitude, site.altitude_m) for site in self.sites]

    @property
    def differences(self) -> list[TimeDifference]:
        """With the sites' indices."""
        index = {site.rx_id: number for number, site in enumerate(self.sites)}
        return [
            TimeDifference(index[x.rx_a], index[x.rx_b], x.tdoa_us, x.std_us, x.peak, x.ambiguity, x.reason)
            for x in self.pairs
        ]

    def links_of(self, receivers: list[Receiver]) -> list[Link]:
        """Links of some of the receivers."""
        by_id = {site.rx_id: link for site, link in zip(self.sites, self.scene.links, strict=True)}
        return [by_id[receiver.rx_id] for receiver in receivers]


def run() -> Iterator[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    clear = scenes(recipe(False, terrain="none", fading=False, multipath=False, receiver_clock_ns=0.0), NUM_CLEAR)
    yield from beside_the_bound(clear)
    flat = scenes(recipe(False, terrain="none", multipath=False, receiver_clock_ns=0.0), NUM_ECHOES)
    errors_m, _ = located(
        flat, lambda one: locate(one.receivers, one.differences, **altitude_of(one), systematic_us=0.0)
    )
    yield "multipath off, median", float(np.median(errors_m)), "m, limit 15"
    yield "multipath off, 90 %", float(np.percentile(errors_m, 90)), "m, limit 80"
    yield from beside_the_oracle(scenes(recipe(False, terrain="none"), NUM_ECHOES), "smooth Earth")
    yield from beside_the_oracle(scenes(recipe(True), NUM_ECHOES), "terrain")
    yield from one_wrong_clock()
    yield from clocks_over_emissions()
    yield from costs(clear[0])


def recipe(has_terrain: bool, **options: object) -> Recipe:
    """A dataset's recipe."""
    spec = parse_spec(options)
    if has_terrain:
        return Recipe(UUID(int=1), SEED, spec, standing_sites(SITES, shipped_terrain()), Ground((SHIPPED_TILE,)))
    return Recipe(UUID(int=1), SEED, spec, SITES, SMOOTH_EARTH)


def scenes(of: Recipe, num: int) -> list[Measured]:
    """The first samples of a recipe."""
    found = []
    for sample_idx in range(num):
        drawn = draw_sample(of, sample_idx, 1000)
        assert drawn.scene is not None
        row = make_sample(of, drawn)
        spreads_us = {
            receiver.rx_id: spread_us
            for receiver in row.receivers
            if (spread_us := mean_of(receiver, "multipath_delay_spread_us")) is not None
        }
        found.append(Measured(sample_idx, drawn.scene, drawn.sites, row.time_differences or (), spreads_us))
    return found


def altitude_of(one: Measured) -> dict[str, float]:
    """The transmitter's altitude is taken as known, by the bound and by all estimates."""
    return {"tx_altitude_m": one.scene.tx_altitude_m}


def located(
    measured: list[Measured], by: Callable[[Measured], PositionFix]
) -> tuple[NDArray[np.float64], list[tuple[Measured, PositionFix]]]:
    """Errors, m, of the scenes that can be located, and their fixes."""
    errors_m, fixes = [], []
    for one in measured:
        try:
            fix = by(one)
        except PositionError:
            continue
        errors_m.append(error_m(one, fix.latitude, fix.longitude))
        fixes.append((one, fix))
    return np.array(errors_m), fixes


def error_m(one: Measured, latitude: float, longitude: float) -> float:
    """Distance from the transmitter."""
    return float(distance_m(latitude, longitude, one.scene.tx_latitude, one.scene.tx_longitude))


def ratios(
    what: str, errors_m: NDArray[np.float64], beside_m: NDArray[np.float64], of: str, limits: tuple[float, float]
):
    """Median and 90 %, as such and over another's."""
    for name, share, limit in (("median", 50, limits[0]), ("90 %", 90, limits[1])):
        error, beside = float(np.percentile(errors_m, share)), float(np.percentile(beside_m, share))
        bound = f", limit {limit}" if limit < math.inf else ""
        yield f"{what}, {name}", error / beside, f"times {of}{bound} ({error:.1f} and {beside:.1f} m)"


def beside_the_bound(measured: list[Measured]) -> Iterator[tuple[str, float, str]]:
    """Errors over those drawn from the Cramer-Rao bound, and how often the ellipse of 95 % holds the truth."""
    errors_m, fixes = located(
        measured, lambda one: locate(one.receivers, one.differences, **altitude_of(one), systematic_us=0.0)
    )
    rng = np.random.Generator(np.random.Philox(key=SEED))
    drawn_m = np.concatenate(
        [np.hypot(*rng.multivariate_normal([0, 0], covariance_m2(one, fix), DRAWS).T) for one, fix in fixes]
    )
    yield "scenes without echoes, located", len(fixes) / len(measured), f"of {len(measured)}"
    yield from ratios("position, no echoes", errors_m, drawn_m, "the bound", (1.2, 1.3))
    yield "ellipse of 95 % holds the truth", float(np.mean([is_inside(*one) for one in fixes])), "of them, 0.93 to 0.97"


def is_inside(one: Measured, fix: PositionFix) -> bool:
    """Whether a fix's ellipse holds the transmitter."""
    length_m, azimuth = distance_and_azimuth(fix.latitude, fix.longitude, one.scene.tx_latitude, one.scene.tx_longitude)
    turned = float(azimuth) - math.radians(fix.ellipse.azimuth_deg)
    along, across = float(length_m) * math.cos(turned), float(length_m) * math.sin(turned)
    return math.hypot(along / fix.ellipse.semi_major_m, across / fix.ellipse.semi_minor_m) <= 1


def covariance_m2(one: Measured, fix: PositionFix) -> NDArray[np.float64]:
    """Cramer-Rao bound of east and north for an unknown waveform, phases and instant, with the receivers of a fix.

    Of Gaussian signals with the transmission's own spectrum, over the whole second: per frequency, with g_i the signal
    to noise ratios and G their sum, the information of the phases is ``2 (g_i G - g_i^2) / (1 + G)`` for a receiver
    and ``-2 g_i g_j / (1 + G)`` for two.
    """
    used = [receiver for receiver in one.receivers if receiver.rx_id in fix.used]
    frequencies_hz, shape = spectrum_of(one.sample_idx)
    snr = np.array([10 ** (link.snr_db / 10) for link in one.links_of(used)])[:, None] * shape
    total = snr.sum(axis=0)
    omega = 2 * np.pi * frequencies_hz
    information = -2 * snr[:, None] * snr[None] / (1 + total)
    diagonal = np.arange(len(used))
    information[diagonal, diagonal] = 2 * snr * (total - snr) / (1 + total)
    times, mixed, phases = (np.sum(information * omega**power, axis=-1) for power in (2, 1, 0))
    of_times = times - mixed @ np.linalg.pinv(phases, rcond=1e-10) @ mixed.T
    design = delay_slopes(one.scene, used)
    return np.linalg.inv(design.T @ of_times @ design)


def spectrum_of(sample_idx: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies of the channel and the transmission's power there, relative to the mean over the sampled band."""
    rate_hz, channel_hz = 200e3, 12_500.0
    link = Link(1e-4, -50.0, -150.0, math.inf, 0.0, 0.0, 0.0)
    (reception,) = receptions(
        [link], seed=SEED, sample_idx=sample_idx, sample_rate_hz=rate_hz, duration_s=1.0,
        channel_bandwidth_hz=channel_hz,
    )  # fmt: skip
    power = np.fft.fftshift(np.abs(np.fft.fft(reception.iq.ravel())) ** 2)
    power = np.convolve(power / power.mean(), np.full(101, 1 / 101), "same")
    frequencies_hz = np.arange(-rate_hz / 2, rate_hz / 2)
    inside = np.abs(frequencies_hz) < channel_hz / 2
    return frequencies_hz[inside], power[inside]


def delay_slopes(scene: Scene, receivers: list[Receiver]) -> NDArray[np.float64]:
    """Seconds of delay per m of the transmitter to the east and to the north, by central differences."""
    step_deg = 1e-5
    rx = [[getattr(x, name) for x in receivers] for name in ("latitude", "longitude", "altitude_m")]
    columns = []
    for north, east in ((0.0, step_deg), (step_deg, 0.0)):
        ends = [(scene.tx_latitude + sign * north, scene.tx_longitude + sign * east) for sign in (1, -1)]
        delays_s = [propagation_delay_s(*end, scene.tx_altitude_m, *rx) for end in ends]
        columns.append((delays_s[0] - delays_s[1]) / float(distance_m(*ends[0], *ends[1])))
    return np.stack(columns, axis=-1)


def beside_the_oracle(measured: list[Measured], what: str) -> Iterator[tuple[str, float, str]]:
    """Errors over those of least squares that knows each link's true spread, expected excess subtracted."""
    errors_m, fixes = located(
        measured,
        lambda one: locate(
            one.receivers,
            one.differences,
            **altitude_of(one),
            systematic_us=TDOA_SYSTEMATIC_US,
            echo_us=ECHO_US,
            delay_spreads_us=one.delay_spreads_us,
        ),
    )
    oracle_m = np.array([error_m(one, *least_squares_with_truth(one)) for one, _ in fixes])
    plain_m, _ = located(
        [one for one, _ in fixes], lambda one: locate(one.receivers, one.differences, **altitude_of(one))
    )
    inside = float(np.mean([is_inside(*one) for one in fixes]))
    yield from ratios(f"{what}, echoes", errors_m, oracle_m, "least squares that knows the spreads", (1.8, 1.8))
    yield from ratios(f"{what}, errors symmetrical", plain_m, oracle_m, "the same", (math.inf, math.inf))
    yield f"{what}, ellipse of 95 %", inside, "of the scenes hold the truth"


def least_squares_with_truth(one: Measured) -> tuple[float, float]:
    """Position by an estimate that no product can make: of each link it knows the spread of the scattered part."""
    arrivals, _ = arrival_times(one.receivers, one.differences, 0.0)
    links = one.links_of(arrivals.receivers)
    scattered = np.array([1 / (1 + 10 ** (link.rice_k_db / 10)) for link in links])
    spread_s = np.array([link.rms_delay_spread_s for link in links])
    std_s = np.sqrt(arrivals.own_std_s**2 + (CLOCK_US * 1e-6) ** 2 + scattered * spread_s**2)
    mean_excess_s = 1.1 * scattered * spread_s  # of four delays from an exponential distribution, for this deviation
    informed = Arrivals(arrivals.receivers, arrivals.times_s - mean_excess_s, arrivals.own_std_s, std_s)
    latitude, longitude, _ = least_squares(informed, tx_altitude_m=one.scene.tx_altitude_m)
    return latitude, longitude


def emission(rng: np.random.Generator, late: int | None, late_us: float, *, has_echoes: bool) -> Emission:
    """A transmission within the network as all stations receive it: noise of 0.1 us, echoes of 2 us and 2.5 us rms."""
    receivers = [Receiver(site.rx_id, site.latitude, site.longitude, site.altitude_m) for site in SITES]
    latitudes, longitudes = [x.latitude for x in receivers], [x.longitude for x in receivers]
    latitude, longitude = rng.uniform(min(latitudes), max(latitudes)), rng.uniform(min(longitudes), max(longitudes))
    times_us = 1e6 * propagation_delay_s(
        latitude, longitude, 0.0, latitudes, longitudes, [x.altitude_m for x in receivers]
    )
    times_us = times_us + 0.1 * rng.standard_normal(times_us.size)
    if has_echoes:
        times_us += rng.exponential(2.0, times_us.size) + 2.5 * rng.standard_normal(times_us.size)
    if late is not None:
        times_us[late] += late_us
    pairs = [(a, b) for a in range(times_us.size) for b in range(a + 1, times_us.size)]
    differences = [TimeDifference(a, b, float(times_us[b] - times_us[a]), 0.14, 0.8, None) for a, b in pairs]
    return Emission(tuple(receivers), tuple(differences))


def one_wrong_clock() -> Iterator[tuple[str, float, str]]:
    """One station of seven is late in one emission: how often it is named, another is, or one without reason."""
    rng = np.random.Generator(np.random.Philox(key=SEED + 1))
    names = [site.rx_id for site in SITES]
    for has_echoes, late_us, std_us, limit in ((False, 20.0, 0.05, 0.99), (True, 100.0, 3.0, 0.90)):
        allowed = dict.fromkeys(names, std_us)
        named, wrong, alarms = 0, 0, 0
        for trial in range(NUM_CLOCKS):
            late = trial % len(SITES)
            for of in (late, None):
                one = emission(rng, of, late_us, has_echoes=has_echoes)
                found = misfit(one.receivers, one.differences, allowed)
                suspect = None if found is None else found.suspect
                named += of is not None and suspect == names[of]
                wrong += of is not None and suspect not in (None, names[of])
                alarms += of is None and suspect is not None
        what = f"{late_us:g} us, {'echoes' if has_echoes else 'no echoes'}"
        yield f"clock named, {what}", named / NUM_CLOCKS, f"of {NUM_CLOCKS} emissions, at least {limit}"
        yield f"another named, {what}", wrong / NUM_CLOCKS, "of them"
        yield f"false alarms, {what}", alarms / NUM_CLOCKS, "of as many with right clocks, limit 0.01"


def clocks_over_emissions() -> Iterator[tuple[str, float, str]]:
    """A station 10 us late over many emissions at unknown places with echoes."""
    rng = np.random.Generator(np.random.Philox(key=SEED + 2))
    names = [site.rx_id for site in SITES]
    named, alarms = 0, 0
    for trial in range(NUM_CLOCK_RUNS):
        late = trial % len(SITES)
        for of in (late, None):
            emissions = [emission(rng, of, 10.0, has_echoes=True) for _ in range(EMISSIONS_OF_A_RUN)]
            different = [name for name, x in estimate_delays(emissions, systematic_us=3.0).items() if x.is_different]
            named += of is not None and different == [names[of]]
            alarms += of is None and bool(different)
    many = f"runs of {EMISSIONS_OF_A_RUN} emissions"
    yield "clock 10 us late named, many", named / NUM_CLOCK_RUNS, f"of {NUM_CLOCK_RUNS} {many}, at least 0.99"
    yield "false alarms, many", alarms / NUM_CLOCK_RUNS, f"of as many {many}, limit 0.01"


def processor_ms(work: Callable[[], object]) -> float:
    """Least processor time of some rounds; other work on the machine then counts little."""
    work()
    taken = []
    for _ in range(_ROUNDS):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return 1e3 * min(taken)


def costs(one: Measured) -> Iterator[tuple[str, float, str]]:
    """Processor time of a fix, and of the time differences beside generating and extracting."""
    receivers, differences, altitude = one.receivers, one.differences, altitude_of(one)
    yield "position", processor_ms(lambda: locate(receivers, differences, **altitude)), "ms, limit 5"
    spreads_us = one.delay_spreads_us
    with_echoes = processor_ms(
        lambda: locate(receivers, differences, **altitude, echo_us=ECHO_US, delay_spreads_us=spreads_us)
    )
    yield "position, echoes", with_echoes, "ms, limit 5"
    of = recipe(False, terrain="none")
    drawn = draw_sample(of, 0, 1000)
    out = np.empty((1, of.spec.num_iq_samples), np.complex64)

    def extracted():
        return [extract_sample_iq(of.spec, reception.iq) for reception in sample_receptions(of, drawn, out=out)]

    found = extracted()
    limits_s = np.full((len(found), len(found)), 6.5e-4)
    strongest = int(np.argmax([x.detection_statistic.sum() for x in found]))
    offsets_hz = [link.frequency_offset_hz for link in drawn.scene.links] if drawn.scene else []

    def all_pairs():
        return segment_time_differences(
            [x.channel_signal for x in found],
            rate_hz=found[0].channel_rate_hz,
            bandwidth_hz=float(of.spec.bandwidth_hz),
            max_delays_s=limits_s,
            reference=strongest,
            frequencies_hz=offsets_hz,
        )

    differences_ms, both_ms = processor_ms(all_pairs), processor_ms(extracted)
    yield (
        "time differences, 21 pairs",
        differences_ms / both_ms,
        f"of generate and extract ({both_ms:.1f} ms), limit 0.15",
    )
