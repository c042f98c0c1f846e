"""Receiver sites as they are stored: a JSON array of objects. The class itself is `rf.receiver_site.ReceiverSite`."""

from collections.abc import Iterable, Mapping
from typing import Any

from heimdall_pipelines.rf.receiver_site import ReceiverSite


def sites_to_json(sites: Iterable[ReceiverSite]) -> list[dict[str, Any]]:
    """One object for each receiver, in their order.

    >>> sites_to_json([ReceiverSite("torino", 45.07, 7.69, 250.0)])
    [{'rx_id': 'torino', 'latitude': 45.07, 'longitude': 7.69, 'altitude_m': 250.0, 'antenna_height_m': 10.0}]
    """
    return [dict(vars(site)) for site in sites]


def sites_from_json(values: Iterable[Mapping[str, Any]]) -> tuple[ReceiverSite, ...]:
    """Read what `sites_to_json` gave."""
    return tuple(ReceiverSite(**value) for value in values)
