"""Redirects of a first request, as a public proxy of KiwiSDRs gives them: which are followed, and where to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

import aiohttp
from yarl import URL

from heimdall_pipelines.receivers.addresses import SCHEMES, ReceiverUrl, receiver_url, shown_url
from heimdall_pipelines.receivers.requests import RedirectedError, connected
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError

MAX_REDIRECTS = 3

_Answer = TypeVar("_Answer")


@asynccontextmanager
async def connected_with_redirects(
    address: ReceiverAddress,
    connect_s: float,
    request: Callable[[ReceiverUrl, aiohttp.ClientSession], Awaitable[_Answer]],
) -> AsyncIterator[tuple[_Answer, ReceiverUrl]]:
    """Send the first request, following redirects; gives the answer and the URL that gave it.

    Parameters
    ----------
    address : ReceiverAddress
        Its URL is the first one.
    connect_s : float
        Timeout of each request, s.
    request : callable
        Sends the request to a URL, by a session.

    Raises
    ------
    ReceiverError
        As `heimdall_pipelines.receivers.requests.connected`; or a redirect that is not followed: the fourth, one that
        leaves TLS, one from the public Internet into a private network, one with a password to another site.
    """
    url = receiver_url(address)
    only_public = False
    async with AsyncExitStack() as stack:
        for num_redirects in range(MAX_REDIRECTS + 1):
            opening = connected(address, connect_s, partial(request, url), only_public=only_public)
            try:
                answer = await stack.enter_async_context(opening)
                break
            except ReceiverError as error:
                if not isinstance(error.__cause__, RedirectedError) or num_redirects == MAX_REDIRECTS:
                    raise
                only_public = only_public or error.__cause__.is_from_public
                url = redirected(address, url, error.__cause__.location)
        yield answer, url


def redirected(address: ReceiverAddress, url: ReceiverUrl, location: str) -> ReceiverUrl:
    """Apply a redirect to a receiver's URL: its scheme, host and port change, its path and password stay.

    Parameters
    ----------
    address, url : ReceiverAddress, ReceiverUrl
        Of the receiver that redirects.
    location : str
        Target, as in the header ``Location``.

    Raises
    ------
    ReceiverError
        The target is no http URL, leaves TLS, or is another site and there is a password; not transient.
    """

    def refused(why: str) -> ReceiverError:
        return ReceiverError(address.rx_id, f"redirects to {shown_url(location)}, {why}", is_transient=False)

    try:
        target = url.base.join(URL(location))
        host, port = target.host, target.port
    except ValueError:
        raise refused("which is not a URL") from None
    if target.scheme not in SCHEMES or not host or port == 0:
        raise refused("which is not http, https, ws or wss")
    scheme = SCHEMES[target.scheme]
    if url.base.scheme == "https" and scheme != "https":
        raise refused("which is not followed: it would leave TLS")
    if (url.password or url.user) and not _is_same_site(url.base.host or "", host):
        raise refused("another site, to which the password is not sent: give that URL")
    return replace(url, base=URL.build(scheme=scheme, host=host, port=port, path=url.base.path))


def _is_same_site(one: str, other: str) -> bool:
    """Whether two hosts are equal, or names below the same domain, such as proxy.example.org and p2.example.org."""
    if one == other:
        return True
    try:
        ip_address(one), ip_address(other)
    except ValueError:
        parents = [host.partition(".")[2] for host in (one, other)]
        return parents[0] == parents[1] and "." in parents[0]
    return False
