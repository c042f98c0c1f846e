"""Run simulated receivers as servers on this machine: in a thread, or in the event loop of the caller."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from aiohttp import web

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.receivers.simulated_receivers import SimulatedReceiver

LOOPBACK = "127.0.0.1"
_LEAVE_S = 0.1  # for streams to end by themselves when the server stops


class SimulatorError(HeimdallError):
    """A simulated receiver cannot be started."""


@asynccontextmanager
async def serving(
    receiver: SimulatedReceiver, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Run a simulated receiver in the context; gives its URL.

    Parameters
    ----------
    receiver : SimulatedReceiver
        A `SimulatedKiwiSdr` or `SimulatedOpenWebRx`.
    port : int, optional
        0: any that is free.
    tls : SSLContext, optional
        With the certificate to show; None: no TLS.

    Raises
    ------
    SimulatorError
        The port is taken.
    """
    runner = web.AppRunner(
        receiver.application(), access_log=None, shutdown_timeout=_LEAVE_S, handler_cancellation=True
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            raise SimulatorError(
                f"cannot listen at {LOOPBACK}:{port}: {error.strerror}; give another --port"
            ) from error
        taken = runner.addresses[0][1]
        yield f"{'http' if tls is None else 'https'}://{LOOPBACK}:{taken}"
    finally:
        await runner.cleanup()


@contextmanager
def run_simulated(*simulated: SimulatedReceiver, tls: ssl.SSLContext | None = None) -> Iterator[list[str]]:
    """Run simulated receivers in a thread in the context, see `serving`; gives their URLs, in the same order."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, list[str]]] = Future()

    async def run() -> None:
        ended = asyncio.Event()
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(serving(receiver, tls=tls)) for receiver in simulated]
            started.set_result((asyncio.get_running_loop(), ended, urls))
            await ended.wait()

    def run_in_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run_in_thread, name="simulated receivers", daemon=True)
    thread.start()
    loop, ended, urls = started.result()
    try:
        yield urls
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
