"""Delays of stations from many sessions: which station's clock differs from those of the others."""

from collections.abc import Iterable, Mapping, Sequence

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


def station_clocks(
    stores: Stores, *, limit: int = MAX_EMISSIONS, of: Iterable[str] | None = None
) -> dict[str, DelayEstimate]:
    """Delays of stations relative to each other, from the time differences of the latest sessions.

    What calibrations gave was subtracted before, so that a station of right calibration has about 0.

    Parameters
    ----------
    stores : Stores
    limit : int
        Greatest number of sessions, the latest.
    of : iterable of str, optional
        Only sessions that at least one of these stations received.

    Returns
    -------
    dict of str to DelayEstimate
        By rx_id; empty where no session says anything.
    """
    receivers = receivers_of(list_stations(stores.database))
    wanted = None if of is None else frozenset(of)
    emissions = [
        emission
        for located in located_emissions(stores.database, limit=limit)
        if (emission := _telling(located, receivers)) is not None
        and (wanted is None or not wanted.isdisjoint(receiver.rx_id for receiver in emission.receivers))
    ]
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
