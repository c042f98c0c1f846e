"""Check the status of stations, concurrently, and store the results."""

import asyncio
from collections.abc import Callable, Sequence

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.stream import Receiver, ReceiverAddress, WaitLimits
from heimdall_pipelines.store.station_checks import StationCheck, add_station_checks
from heimdall_pipelines.store.stations import Station, StationError, list_stations
from heimdall_pipelines.store.stores import Stores

CONCURRENT_CHECKS = 16

ClientOf = Callable[[str, WaitLimits], Receiver]


def check_stations(
    stores: Stores, rx_ids: Sequence[str] | None = None, *, client_of: ClientOf = receiver_of
) -> list[StationCheck]:
    """Check the status of stations and add the results to the table station_checks.

    Parameters
    ----------
    stores : Stores
    rx_ids : sequence of str, optional
        Stations to check; None: all active ones that have a client.
    client_of : callable, optional
        Gives the client of an api_type.

    Returns
    -------
    list of StationCheck
        In the order of the stations. A named station without a client is down, with that reason.

    Raises
    ------
    StationError
        A station is unknown or given twice.
    """
    stations = _chosen(list_stations(stores.database), rx_ids)
    checks = asyncio.run(_check_all(stations, client_of))
    add_station_checks(stores.database, checks)
    return checks


def _chosen(stations: Sequence[Station], rx_ids: Sequence[str] | None) -> list[Station]:
    if rx_ids is None:
        return [station for station in stations if station.is_active and station.has_client]
    by_id = {station.rx_id: station for station in stations}
    for rx_id in rx_ids:
        if rx_id not in by_id:
            raise StationError(f"unknown station {rx_id}; see: heimdall station list")
        if rx_ids.count(rx_id) > 1:
            raise StationError(f"station {rx_id} is given twice")
    return [by_id[rx_id] for rx_id in rx_ids]


async def _check_all(stations: Sequence[Station], client_of: ClientOf) -> list[StationCheck]:
    slots = asyncio.Semaphore(CONCURRENT_CHECKS)

    async def check(station: Station) -> StationCheck:
        async with slots:
            return await _check(station, client_of)

    return await asyncio.gather(*(check(station) for station in stations))


async def _check(station: Station, client_of: ClientOf) -> StationCheck:
    if not station.has_client or not station.url:
        reason = "it has no url" if station.has_client else "it has no client (api_type none)"
        return _down(station, reason)
    try:
        async with asyncio.timeout(station.timeout_seconds):
            status = await client_of(station.api_type, WaitLimits.capped_at(station.timeout_seconds)).status(
                ReceiverAddress(station.rx_id, station.url, station.api_type)
            )
    except TimeoutError:
        return _down(station, f"no answer within {station.timeout_seconds:g} s")
    except HeimdallError as error:
        return _down(station, str(error))
    except Exception as error:  # a failure of one client must not lose the results of the others
        return _down(station, f"{type(error).__name__}: {error}")
    return StationCheck(
        rx_id=station.rx_id,
        api_type=station.api_type,
        is_up=status.is_up,
        latency_ms=None if status.latency_s is None else status.latency_s * 1e3,
        gnss_fix_age_s=status.gnss_fix_age_s,
        num_users=status.num_users,
        max_users=status.max_users,
        software=status.software,
        reason=status.reason if status.is_up else status.reason or "the receiver reports that it is down",
    )


def _down(station: Station, reason: str) -> StationCheck:
    return StationCheck(station.rx_id, station.api_type, is_up=False, reason=reason)
