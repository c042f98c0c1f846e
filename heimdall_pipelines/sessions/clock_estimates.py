"""Delays of stations from many sessions: which station's clock differs from those of the others."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from heimdall_pipelines.model.position import MeasuredDifference
from heimdall_pipelines.rf.positioning import MIN_RECEIVERS, PositionError, Receiver
from heimdall_pipelines.rf.station_delays import DelayEstimate, Emission, corrected, estimate_delays
from heimdall_pipelines.rf.tdoa import TimeDifference
from heimdall_pipelines.sessions.session_position import SYSTEMATIC_US
from heimdall_pipelines.store.positions import LocatedEmission, located_emissions
from heimdall_pipelines.store.stations import Station, list_stations
from heimdall_pipelines.store.stores import Stores

MIN_EMISSIONS = 5  # in which a station was heard, to say something of its clock
MAX_EMISSIONS = 200


def emission_of(
    differences: Sequence[MeasuredDifference],
    receivers: Mapping[str, Receiver],
    source: tuple[float, float] | None,
    delays_us: Mapping[str, float] | None = None,
) -> Emission:
    """Time differences as the estimators of `rf` take them, less the delays; stations without a row are left out."""
    names = [x for pair in differences for x in (pair.rx_a, pair.rx_b)]
    order = [receivers[rx_id] for rx_id in dict.fromkeys(names) if rx_id in receivers]
    index = {receiver.rx_id: number for number, receiver in enumerate(order)}
    found = [
        TimeDifference(index[x.rx_a], index[x.rx_b], x.tdoa_us, x.std_us, x.peak, None, x.reason)
        for x in differences
        if x.rx_a in index and x.rx_b in index
    ]
    return Emission(tuple(order), corrected(order, found, delays_us or {}), source)


def receivers_of(stations: Iterable[Station]) -> dict[str, Receiver]:
    """Positions of stations by rx_id."""
    return {x.rx_id: Receiver(x.rx_id, x.latitude, x.longitude, x.altitude_m) for x in stations}


def station_clocks(stores: Stores, *, limit: int = MAX_EMISSIONS) -> dict[str, DelayEstimate]:
    """Delays of stations relative to each other, from the time differences of the latest sessions.

    What calibrations gave was subtracted before, so that a station of right calibration has about 0.

    Parameters
    ----------
    stores : Stores
    limit : int
        Greatest number of sessions, the latest.

    Returns
    -------
    dict of str to DelayEstimate
        By rx_id; empty where no session says anything.
    """
    return _estimated(_emissions(stores, limit))


class ClockEstimates:
    """Estimates of station clocks, kept while many sessions are checked: each set of emissions is solved once."""

    def __init__(self) -> None:
        self._found: dict[bytes, dict[str, DelayEstimate]] = {}

    def of_stations(self, stores: Stores, *, limit: int, of: Iterable[str]) -> dict[str, DelayEstimate]:
        """Delays of some stations and of those that emissions connect with them, as of `station_clocks`.

        Parameters
        ----------
        stores : Stores
            Read each time: what was located meanwhile counts.
        limit : int
            Greatest number of sessions, the latest.
        of : iterable of str
            Stations.
        """
        emissions = _connected(_emissions(stores, limit), frozenset(of))
        key = sha256(repr(emissions).encode()).digest()
        if key not in self._found:
            self._found[key] = _estimated(emissions)
        return self._found[key]


def _emissions(stores: Stores, limit: int) -> list[Emission]:
    receivers = receivers_of(list_stations(stores.database))
    return [
        emission
        for located in located_emissions(stores.database, limit=limit)
        if (emission := _telling(located, receivers)) is not None
    ]


def _connected(emissions: Sequence[Emission], rx_ids: frozenset[str]) -> list[Emission]:
    """Emissions that some stations received, or stations that other emissions connect with them.

    Sessions of one network have the same, so that they share one estimate.
    """
    heard = [frozenset(receiver.rx_id for receiver in emission.receivers) for emission in emissions]
    reached = rx_ids
    while True:
        further = reached.union(*(stations for stations in heard if not reached.isdisjoint(stations)))
        if further == reached:
            return [one for one, stations in zip(emissions, heard, strict=True) if not reached.isdisjoint(stations)]
        reached = further


def _estimated(emissions: Sequence[Emission]) -> dict[str, DelayEstimate]:
    if not emissions:
        return {}
    try:
        return estimate_delays(emissions, systematic_us=SYSTEMATIC_US)
    except PositionError:
        return {}


def differing(estimates: Mapping[str, DelayEstimate]) -> dict[str, DelayEstimate]:
    """Stations whose delay differs from the others', of those that were heard often enough."""
    return {
        rx_id: estimate
        for rx_id, estimate in estimates.items()
        if estimate.is_different and estimate.num_emissions >= MIN_EMISSIONS
    }


def _telling(located: LocatedEmission, receivers: Mapping[str, Receiver]) -> Emission | None:
    """The emission, if it says anything of delays: of four stations, or of three at a known source."""
    emission = emission_of(located.differences, receivers, located.source, located.delays_us)
    heard = {x for pair in emission.differences if pair.tdoa_us is not None for x in (pair.a, pair.b)}
    return emission if len(heard) >= MIN_RECEIVERS + (located.source is None) else None
