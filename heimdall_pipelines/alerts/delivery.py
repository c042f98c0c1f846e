"""Sends pending alerts to each destination through Apprise: at least once, each destination independently.

Everything in an Apprise URL except its scheme may be secret (tokens in hosts and paths), and is never shown.
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
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pydantic import SecretStr

from heimdall_pipelines.alerts.escaping import VERBATIM_SCHEMES, chat_text
from heimdall_pipelines.alerts.wording import Message, message_of, summary_of
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.alert_deliveries import PendingAlert, list_pending, lock_sending, mark_failed, mark_sent
from heimdall_pipelines.store.database import Database

if TYPE_CHECKING:
    import apprise

VARIABLE = "HEIMDALL_ALERT_URLS"
MAX_SINGLE_MESSAGES = 5  # more alerts than this in one call become one summary
MAX_ALERTS_PER_CALL = 10_000
MAX_AGE = timedelta(days=7)
SEND_TIMEOUT_S = 15.0
TIME_LIMIT_S = 30.0  # no further message is sent after it; half of the timeout of a tick in Dagster
_MAX_ERROR_CHARACTERS = 300
_SHORTEST_SECRET = 4


class AlertUrlError(HeimdallError):
    """One of the URLs cannot be used; the message has its position, never its content."""


@dataclass(frozen=True)
class Destination:
    """One Apprise URL.

    Attributes
    ----------
    key : str
        Digest of the URL, as stored in the table.
    label : str
        Position and scheme, for messages: ``2 (slack)``.
    url : str
        Contains secrets; never in ``repr``.
    """

    key: str
    label: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class DestinationResult:
    """Result of the messages to one destination: alerts that it received, and why it did not receive others."""

    destination: Destination
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


def send(
    service: "apprise.NotifyBase", destination: Destination, message: Message, ui_url: str | None = None
) -> str | None:
    """Send one message, without mark-up; returns why it was not accepted, or None.

    In services that read mark-up, only addresses below `ui_url` are links.
    """
    library = _apprise()
    kinds = library.NotifyType
    tones = {"failure": kinds.FAILURE, "warning": kinds.WARNING, "success": kinds.SUCCESS, "info": kinds.INFO}
    sender = library.Apprise(asset=service.asset)
    sender.add(service)
    is_verbatim = destination.url.partition("://")[0].lower() in VERBATIM_SCHEMES
    text = str if is_verbatim else partial(chat_text, ui_url=ui_url)
    try:
        result = sender.notify(
            title=text(message.title),
            body=text(message.body),
            notify_type=tones[message.tone],
            body_format=library.NotifyFormat.TEXT,
            timeout=SEND_TIMEOUT_S,
        )
    except Exception as error:  # noqa: BLE001, RUF100  # code of many services: an error in one must not stop the others
        return without_secrets(f"{type(error).__name__}: {error}", destination.url)
    if result:
        return None
    reasons = "; ".join(entry.message for entry in result.logs())
    return without_secrets(reasons or f"not accepted ({result.status.name.lower()})", destination.url)


def open_service(destination: Destination) -> "apprise.NotifyBase":
    """The service that an Apprise URL names.

    Raises
    ------
    AlertUrlError
        Apprise does not accept the URL.
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
            f"{VARIABLE}: URL {destination.label} is not a URL that Apprise accepts: compare its format with "
            "https://appriseit.com/services/ ; special characters in passwords are written as %XX"
        )
    return service


def deliver(
    database: Database,
    to: Sequence[Destination],
    now: datetime,
    ui_url: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[DestinationResult] | None:
    """Send every destination the messages that it has not received.

    More than 5 alerts become one summary. After the first failure of a destination nothing more is sent to it; the next
    call retries. Messages are marked as sent afterwards, so that a crash in between sends them twice, but never loses
    them.

    Parameters
    ----------
    database : Database
    to : sequence of Destination
        Served in parallel, so that a slow one does not delay the others.
    now : datetime
        Closed incidents and failed runs are sent for 7 days; open incidents always.
    ui_url : str, optional
        Address of the Dagster UI, for links.
    time_limit_s : float
        After this time, in seconds, no further message to a destination is started.

    Returns
    -------
    list of DestinationResult or None
        One per destination; None while another process is sending.
    """
    if not to:
        return []
    with lock_sending(database) as is_locked:
        if not is_locked:
            return None
        _apprise()
        with ThreadPoolExecutor(max_workers=min(len(to), 8)) as pool:
            return list(pool.map(lambda one: _deliver_to(database, one, now, ui_url, time_limit_s), to))


def _deliver_to(
    database: Database, destination: Destination, now: datetime, ui_url: str | None, time_limit_s: float
) -> DestinationResult:
    deadline_s = time.monotonic() + time_limit_s
    pending_alerts = list_pending(database, destination.key, now - MAX_AGE, MAX_ALERTS_PER_CALL)
    if not pending_alerts:
        return DestinationResult(destination, 0)
    batches: list[list[PendingAlert]] = (
        [pending_alerts] if len(pending_alerts) > MAX_SINGLE_MESSAGES else [[one] for one in pending_alerts]
    )
    try:
        service = open_service(destination)
    except AlertUrlError as error:
        mark_failed(database, destination.key, pending_alerts, str(error))
        return DestinationResult(destination, 0, str(error))
    num_alerts = 0
    for number, batch in enumerate(batches):
        if time.monotonic() > deadline_s:
            return DestinationResult(destination, num_alerts)
        message = summary_of(batch, ui_url) if len(batch) > 1 else message_of(batch[0], ui_url)
        problem = send(service, destination, message, ui_url)
        if problem is not None:
            mark_failed(database, destination.key, [one for rest in batches[number:] for one in rest], problem)
            return DestinationResult(destination, num_alerts, f"destination {destination.label}: {problem}")
        mark_sent(database, destination.key, batch, now)
        num_alerts += len(batch)
    return DestinationResult(destination, num_alerts)


def without_secrets(message: str, url: str) -> str:
    """Message of a service, shortened, without any part of its URL.

    >>> without_secrets("no answer from hooks.example: POST /T0KEN", "json://hooks.example/T0KEN")
    'no answer from ***: POST /***'
    """
    _, _, rest = url.partition("://")
    pieces = {form for piece in (rest, *re.split(r"[/:@?&=,;#\s]+", rest)) for form in (piece, unquote(piece))}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _SHORTEST_SECRET:
            message = message.replace(piece, "***")
    return message[:_MAX_ERROR_CHARACTERS]


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator and re.fullmatch(r"[A-Za-z0-9]{1,32}", scheme) else "no scheme"


@functools.cache
def _apprise() -> ModuleType:
    """Load Apprise, which is slow to import, and keep it and its HTTP client from logging parts of URLs."""
    import apprise

    logger = logging.getLogger("apprise")
    logger.setLevel(logging.WARNING)
    logger.propagate = False  # errors are in the result
    logger.addHandler(logging.NullHandler())
    requests_logger = logging.getLogger("urllib3")
    requests_logger.setLevel(max(requests_logger.level, logging.WARNING))  # at DEBUG it logs paths
    return apprise
