"""Simulated receivers: servers that speak the protocols of receivers; `Faults` makes them misbehave."""

import hmac
from base64 import b64decode

from aiohttp import web

from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.receivers.http_iq import RATE_HEADER
from heimdall_pipelines.receivers.simulated_base import NO_FAULTS, Faults, SimulatedBase, SimulatedReceiver
from heimdall_pipelines.receivers.simulated_kiwi import RECEIVED_HZ, SimulatedClock, SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulated_openwebrx import SimulatedOpenWebRx

__all__ = [
    "NO_FAULTS",
    "RECEIVED_HZ",
    "Faults",
    "SimulatedClock",
    "SimulatedHttpIq",
    "SimulatedKiwiSdr",
    "SimulatedOpenWebRx",
    "SimulatedReceiver",
]


class SimulatedHttpIq(SimulatedBase):
    """A receiver that streams IQ over HTTP; parameters as of `SimulatedKiwiSdr`; user names are ignored."""

    api_type = ReceiverKind.HTTP_IQ

    def application(self) -> web.Application:
        """Make the server's application."""
        application = web.Application()
        application.router.add_get("/status", self._status)
        application.router.add_get("/iq", self._iq)
        return application

    async def _iq(self, request: web.Request) -> web.StreamResponse:
        fault = await self._fault() or self._refusal(request)
        if fault is not None:
            return fault
        try:
            frequency_hz, requested_hz = float(request.query["tune"]), float(request.query["rate"])
        except (KeyError, ValueError):
            return web.Response(status=400, text="tune and rate in Hz are needed")
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                RATE_HEADER: f"{self._signal_source.rate_hz(requested_hz):.3f}",
                **self.faults.headers,
            }
        )
        response.force_close()
        self.num_users += 1
        try:
            await response.prepare(request)
            async for number, block in self._paced(frequency_hz, requested_hz):
                if block.is_stale:
                    continue
                stored = block.stored.astype("<i2").tobytes()
                if number == self.faults.breaks_at:
                    await response.write(stored[: len(stored) // 2 + 1])
                    break
                await response.write(stored)
            await response.write_eof()
        except OSError:  # the client has all its samples
            pass
        finally:
            self.num_users -= 1
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.num_users >= self._max_users:
            return web.Response(status=503)
        given = request.headers.get("Authorization", "")
        if self._password is not None and not _has_password(given, self._password):
            return web.Response(status=401)
        return None


def _has_password(authorization: str, password: str) -> bool:
    scheme, _, encoded = authorization.partition(" ")
    try:
        given = b64decode(encoded).partition(b":")[2]
    except ValueError:
        return False
    return scheme == "Basic" and hmac.compare_digest(given, password.encode())
