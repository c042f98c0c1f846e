"""Sends what is pending_alerts to each destination through Apprise: at least once, and each destination on its own.

What an Apprise URL holds besides its scheme may be secret (tokens stand in hosts and paths): nothing here shows it.
"""

import functools
import hashlib
import logging
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pydantic import SecretStr

from heimdall_pipelines.alerts.wording import Message, message_of, summary_of
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.alerts import PendingAlert, list_pending, lock_sending, mark_failed, mark_sent
from heimdall_pipelines.store.database import Database

if TYPE_CHECKING:
    import apprise

VARIABLE = "HEIMDALL_ALERT_URLS"
MAX_SINGLE_MESSAGES = 5  # more than these at once become one summary
MAX_TOLD_AT_ONCE = 10_000
TOLD_WITHIN = timedelta(days=7)
SEND_TIMEOUT_S = 15.0
TURN_S = 30.0  # no further message begins after it; half of what Dagster gives a tick
_MAX_ERROR_CHARACTERS = 300
_SHORTEST_SECRET = 4


class AlertUrlError(HeimdallError):
    """One of the URLs cannot be used; the message says which, never what it holds."""


@dataclass(frozen=True)
class Destination:
    """One Apprise URL.

    Attributes
    ----------
    key : str
        Digest of the URL, by which the table knows it.
    label : str
        Its position and scheme, for people: ``2 (slack)``.
    url : str
        Holds secrets; never in ``repr``.
    """

    key: str
    label: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class Turn:
    """What came of the messages to one destination."""

    destination: Destination
    num_messages: int
    num_alerts: int
    error: str | None = None


def destinations(urls: SecretStr | None) -> list[Destination]:
    """The destinations of HEIMDALL_ALERT_URLS: URLs separated by spaces or commas, each once."""
    if urls is None:
        return []
    found = re.split(r"\s+|[,;]+(?=[A-Za-z0-9]+://)", urls.get_secret_value())
    once = dict.fromkeys(url for part in found if (url := part.strip(",;")))
    return [
        Destination(hashlib.sha256(url.encode()).hexdigest()[:16], f"{number} ({_scheme(url)})", url)
        for number, url in enumerate(once, 1)
    ]


def send(service: "apprise.NotifyBase", destination: Destination, message: Message) -> str | None:
    """Send one message; gives why it was not taken, None if it was."""
    library = _apprise()
    kinds = library.NotifyType
    tones = {"failure": kinds.FAILURE, "warning": kinds.WARNING, "success": kinds.SUCCESS, "info": kinds.INFO}
    sender = library.Apprise(asset=service.asset)
    sender.add(service)
    try:
        result = sender.notify(
            title=message.title,
            body=message.body,
            notify_type=tones[message.tone],
            body_format=library.NotifyFormat.TEXT,
            timeout=SEND_TIMEOUT_S,
        )
    except Exception as error:  # noqa: BLE001, RUF100  # a hundred services' code: none of it may end the others' turn
        return without_secrets(f"{type(error).__name__}: {error}", destination.url)
    if result:
        return None
    reasons = "; ".join(entry.message for entry in result.logs())
    return without_secrets(reasons or f"not taken ({result.status.name.lower()})", destination.url)


def open_service(destination: Destination) -> "apprise.NotifyBase":
    """The service that an Apprise URL names.

    Raises
    ------
    AlertUrlError
        Apprise can make nothing of the URL.
    """
    library = _apprise()
    asset = library.AppriseAsset(
        app_id="Heimdall",
        app_desc="heimdall-pipelines",
        async_mode=False,
        storage_mode="memory",
        service_timeout=SEND_TIMEOUT_S,
    )
    service: apprise.NotifyBase | None = library.Apprise.instantiate(destination.url, asset=asset)
    if service is None:
        raise AlertUrlError(
            f"{VARIABLE}: URL {destination.label} is not a URL that Apprise accepts: compare its form with "
            "https://appriseit.com/services/ ; special characters in passwords are written as %XX"
        )
    return service


def deliver(
    database: Database,
    to: Sequence[Destination],
    now: datetime,
    ui_url: str | None = None,
    turn_s: float = TURN_S,
) -> list[Turn] | None:
    """Send every destination the messages that it has not received.

    More than 5 alerts become one summary. The first failure of a destination ends its turn: the next
    call tries again. What was sent is marked afterwards, so that a crash in between sends it twice,
    and never not at all.

    Parameters
    ----------
    database : Database
    to : sequence of Destination
        Each has its turn at the same time as the others, so that a slow one delays none.
    now : datetime
        Closed incidents and failed runs are sent for 7 days; open incidents always.
    ui_url : str, optional
        Address of the Dagster UI, for links.
    turn_s : float
        No message begins later than that in a turn, in seconds.

    Returns
    -------
    list of Turn or None
        Per destination; None while another process is sending.
    """
    if not to:
        return []
    with lock_sending(database) as claimed:
        if not claimed:
            return None
        _apprise()
        with ThreadPoolExecutor(max_workers=min(len(to), 8)) as pool:
            return list(pool.map(lambda one: _turn(database, one, now, ui_url, turn_s), to))


def _turn(database: Database, destination: Destination, now: datetime, ui_url: str | None, turn_s: float) -> Turn:
    ends_at_s = time.monotonic() + turn_s
    pending_alerts = list_pending(database, destination.key, now - TOLD_WITHIN, MAX_TOLD_AT_ONCE)
    if not pending_alerts:
        return Turn(destination, 0, 0)
    parcels: list[list[PendingAlert]] = (
        [pending_alerts] if len(pending_alerts) > MAX_SINGLE_MESSAGES else [[one] for one in pending_alerts]
    )
    try:
        service = open_service(destination)
    except AlertUrlError as error:
        mark_failed(database, destination.key, pending_alerts, str(error))
        return Turn(destination, 0, 0, str(error))
    num_alerts = 0
    for number, parcel in enumerate(parcels):
        if time.monotonic() > ends_at_s:
            return Turn(destination, number, num_alerts)
        message = summary_of(parcel, ui_url) if len(parcel) > 1 else message_of(parcel[0], ui_url)
        problem = send(service, destination, message)
        if problem is not None:
            mark_failed(database, destination.key, [one for rest in parcels[number:] for one in rest], problem)
            return Turn(destination, number, num_alerts, f"destination {destination.label}: {problem}")
        mark_sent(database, destination.key, parcel, now)
        num_alerts += len(parcel)
    return Turn(destination, len(parcels), num_alerts)


def without_secrets(words: str, url: str) -> str:
    """Words of a service, shortened, without any part of its URL.

    >>> without_secrets("no answer from hooks.example: POST /T0KEN", "json://hooks.example/T0KEN")
    'no answer from ***: POST /***'
    """
    _, _, rest = url.partition("://")
    pieces = {form for piece in (rest, *re.split(r"[/:@?&=,;#\s]+", rest)) for form in (piece, unquote(piece))}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _SHORTEST_SECRET:
            words = words.replace(piece, "***")
    return words[:_MAX_ERROR_CHARACTERS]


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator and re.fullmatch(r"[A-Za-z0-9]{1,32}", scheme) else "no scheme"


@functools.cache
def _apprise() -> ModuleType:
    """Load Apprise, which takes a moment, and keep it and what it sends with from logging what URLs hold."""
    import apprise

    logger = logging.getLogger("apprise")
    logger.setLevel(logging.WARNING)
    logger.propagate = False  # what went wrong comes back with the result
    logger.addHandler(logging.NullHandler())
    requests_logger = logging.getLogger("urllib3")
    requests_logger.setLevel(max(requests_logger.level, logging.WARNING))  # it would log paths, at DEBUG
    return apprise
