"""HTTP for all clients: bounds every wait, raises errors that name the receiver; redirects are in redirects.py."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import TypeVar

import aiohttp

from heimdall_pipelines.receivers.addresses import shown, shown_url
from heimdall_pipelines.receivers.allowed_addresses import ForbiddenAddressError, allowed_socket, any_socket
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError
from heimdall_pipelines.settings import load_local_settings

USER_AGENT = "heimdall-pipelines"
_BUSY_STATUS = (429, 502, 503, 504)
_REDIRECT_STATUS = range(300, 400)

_Answer = TypeVar("_Answer")


class AnsweredError(aiohttp.ClientError):
    """The HTTP status of an answer is an error."""

    def __init__(self, status: int, reason: str, *, is_transient: bool) -> None:
        super().__init__(reason)
        self.status = status
        self.is_transient = is_transient


class RedirectedError(AnsweredError):
    """The answer is a redirect; `is_from_public` says whether it came from an address of the public Internet."""

    def __init__(self, status: int, location: str, *, is_from_public: bool) -> None:
        super().__init__(status, f"redirects to {shown_url(location)}, which is not followed", is_transient=False)
        self.location = location
        self.is_from_public = is_from_public


class PrivateTargetError(OSError):
    """A receiver on the public Internet redirects into a private network."""


@asynccontextmanager
async def connected(
    address: ReceiverAddress,
    connect_s: float,
    request: Callable[[aiohttp.ClientSession], Awaitable[_Answer]],
    *,
    only_public: bool = False,
) -> AsyncIterator[_Answer]:
    """Send the first request and give its answer, whose connection stays open in the context.

    With `only_public` no connection is made to an address that is not of the public Internet.

    Raises
    ------
    ReceiverError
        There was no answer within `connect_s`, or an HTTP error.
    """
    async with _new_session(only_public=only_public) as session:
        async with limited(address, connect_s, "cannot be reached: no answer"):
            with named_errors(address):
                answer = await request(session)
        yield answer


@contextmanager
def named_errors(address: ReceiverAddress) -> Iterator[None]:
    """Convert errors of aiohttp and the network in the context to ReceiverError; only for a client's own requests."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise receiver_error(address, error) from error


def receiver_error(address: ReceiverAddress, error: aiohttp.ClientError | OSError) -> ReceiverError:
    """Convert an error of aiohttp or the network to a ReceiverError."""
    is_transient = True
    if isinstance(error, AnsweredError):
        reason, is_transient = str(error), error.is_transient
    elif isinstance(error, aiohttp.WSServerHandshakeError):
        kind = "" if error.headers is None else error.headers.get("Content-Type", "")
        what = f"HTTP status {error.status}{', ' + shown(kind) if kind else ''}"
        reason, is_transient = f"answers the websocket with {what}: is the api_type right?", False
    elif isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        reason, is_transient = "its certificate is not valid", False
    elif isinstance(error, aiohttp.InvalidURL):  # such as a decimal number for an IPv4 address
        reason, is_transient = f"its URL cannot be requested: {shown(str(error))}", False
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        reason = "its host name cannot be resolved"
    elif isinstance(error, aiohttp.ClientSSLError):
        reason = "does not use TLS at this port"
    elif isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenAddressError):
        reason, is_transient = (
            "is not requested: its address is of the local link or a metadata service "
            "(HEIMDALL_ALLOW_LINK_LOCAL_STATIONS=true allows them)",
            False,
        )
    elif isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PrivateTargetError):
        reason, is_transient = "redirects from the public Internet into a private network: not followed", False
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason = f"cannot be reached: {_words(error.os_error) or 'no connection'}"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        reason = "closed the connection without an answer"
    elif isinstance(error, aiohttp.ClientResponseError):
        reason, is_transient = f"answers no HTTP: {shown(error.message)}", False
    elif isinstance(error, aiohttp.ClientPayloadError):
        reason = "closed the connection in the middle of its answer"
    elif isinstance(error, OSError):
        reason = f"the connection broke: {_words(error) or type(error).__name__}"
    else:
        reason = f"the connection broke: {shown(str(error) or type(error).__name__)}"
    return ReceiverError(address.rx_id, reason, is_transient=is_transient)


def _words(error: OSError) -> str | None:
    """The system's message: asyncio's own contains addresses, and an SSL error has its own numbers."""
    if error.errno is None or isinstance(error, ssl.SSLError):
        return error.strerror
    return os.strerror(error.errno).lower()


@asynccontextmanager
async def limited(address: ReceiverAddress, seconds: float, what: str) -> AsyncIterator[None]:
    """Set a timeout for the context; when it expires, raise a transient ReceiverError "`what` within … s"."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise ReceiverError(address.rx_id, f"{what} within {seconds:g} s", is_transient=True) from None


async def read_at_most(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read at most `limit_bytes` of a body."""
    body = bytearray()
    while len(body) < limit_bytes:
        piece = await response.content.read(limit_bytes - len(body))
        if not piece:
            break
        body += piece
    return bytes(body)


def _new_session(*, only_public: bool = False) -> aiohttp.ClientSession:
    """Make a session for one receiver.

    It connects to no address of the local link, unless the settings allow it, and follows no redirects by itself,
    which could send requests to any address. Its own timeouts are off: the clients bound every wait themselves, and a
    stream may take hours.
    """
    is_limited = not load_local_settings().allow_link_local_stations
    addresses = _Addresses(only_public=only_public, is_limited=is_limited)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=addresses.socket_to),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        middlewares=(addresses.refuse_answers,),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    )


class _Addresses:
    """The network addresses that a session connects to."""

    def __init__(self, *, only_public: bool, is_limited: bool) -> None:
        self._only_public = only_public
        self._make_socket = allowed_socket if is_limited else any_socket
        self._is_public = True

    def socket_to(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket for an address, as aiohttp asks for it."""
        made = self._make_socket(info)
        where = info[4]
        is_public = ip_address(str(where[0]).partition("%")[0]).is_global
        if self._only_public and not is_public:
            made.close()
            raise PrivateTargetError(errno.EACCES, "a private address")
        self._is_public = self._is_public and is_public
        return made

    async def refuse_answers(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Raise an error for an HTTP status that is one."""
        response = await handler(request)
        if response.status < 300:
            return response
        response.close()
        if response.status in _REDIRECT_STATUS:
            location = response.headers.get("Location", "nowhere")
            raise RedirectedError(response.status, location, is_from_public=self._is_public)
        raise _answered_error(request, response.status)


def _answered_error(request: aiohttp.ClientRequest, status: int) -> AnsweredError:
    if status in (401, 403):
        return AnsweredError(status, f"refuses access (HTTP status {status}): check the password", is_transient=False)
    if status == 404:
        return AnsweredError(status, f"has no {shown(request.url.path)} (HTTP status 404)", is_transient=False)
    if status in _BUSY_STATUS:
        return AnsweredError(status, f"is busy (HTTP status {status})", is_transient=True)
    return AnsweredError(status, f"answers with HTTP status {status}", is_transient=status >= 500)
