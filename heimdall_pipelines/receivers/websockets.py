"""The websocket to a receiver, as all clients use it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from heimdall_pipelines.receivers.addresses import ReceiverUrl, shown
from heimdall_pipelines.receivers.redirects import connected_with_redirects
from heimdall_pipelines.receivers.requests import named_errors
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError, WaitLimits

_CLOSE_S = 0.5  # a KiwiSDR does not answer a close at once, and may go on sending


class ClosedError(ReceiverError):
    """The connection was closed by the receiver."""


class ReceiverWebsocket:
    """A websocket to a receiver; its errors name the receiver.

    Attributes
    ----------
    address : ReceiverAddress
    url : ReceiverUrl
        Where it leads, after redirects.
    """

    def __init__(
        self, address: ReceiverAddress, url: ReceiverUrl, websocket: "aiohttp.ClientWebSocketResponse[Any]"
    ) -> None:
        self.address = address
        self.url = url
        self._websocket = websocket

    async def send(self, text: str) -> None:
        """Send a text message."""
        with named_errors(self.address):
            await self._websocket.send_str(text)

    async def receive(self) -> str | bytes:
        """Wait for the next message.

        Raises
        ------
        ClosedError
            The receiver has closed the connection.
        ReceiverError
            The connection broke, or what came is no websocket message.
        """
        with named_errors(self.address):
            message = await self._websocket.receive()
        if message.type == aiohttp.WSMsgType.TEXT:
            return str(message.data)
        if message.type == aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type == aiohttp.WSMsgType.ERROR:
            raise self.protocol_error(f"violates the websocket protocol: {shown(str(message.data))}")
        raise ClosedError(self.address.rx_id, "closed the connection", is_transient=True)

    def protocol_error(self, reason: str) -> ReceiverError:
        """Make the error for a receiver that does not keep to its protocol; not transient."""
        return ReceiverError(self.address.rx_id, reason, is_transient=False)


@asynccontextmanager
async def websocket_to(
    address: ReceiverAddress,
    limits: WaitLimits,
    *path: str,
    max_message_bytes: int,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[ReceiverWebsocket]:
    """Connect to a path below the receiver's URL; closes the connection after the context.

    Raises
    ------
    ReceiverError
        As `heimdall_pipelines.receivers.redirects.connected_with_redirects`.
    """
    async with connected_with_redirects(
        address,
        limits.connect_s,
        lambda url, session: session.ws_connect(url.websocket(*path), max_msg_size=max_message_bytes, headers=headers),
    ) as (websocket, url):
        try:
            yield ReceiverWebsocket(address, url, websocket)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await websocket.close()
