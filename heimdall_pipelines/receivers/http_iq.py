"""Client of receivers that stream IQ over plain HTTP: ``GET {url}/iq?tune=<Hz>&rate=<Hz>``, int16 little-endian."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import numpy as np

from heimdall_pipelines.formats.samples import CI16_LE
from heimdall_pipelines.receivers.addresses import receiver_url, shown
from heimdall_pipelines.receivers.pace import Pace
from heimdall_pipelines.receivers.requests import AnsweredError, connected, status_session
from heimdall_pipelines.receivers.status_pages import fetch_status
from heimdall_pipelines.receivers.stream import (
    AppliedTuning,
    IqBlock,
    ReceiverAddress,
    ReceiverError,
    ReceiverStatus,
    Tuning,
    WaitLimits,
)
from heimdall_pipelines.rf.spectrum import USABLE_BAND

RATE_HEADER = "X-Sample-Rate"
_RATE_STEP_HZ = 1_000
_LOWEST_RATE_HZ = 12_000
_MAX_RATE_RATIO = 4.0  # rate given over rate requested
_READ_BYTES = 1 << 16
_NO_PAGE = 404


def requested_rate_hz(bandwidth_hz: float) -> int:
    """Sample rate to request: the bandwidth fills the 80 % that a receiver's filters leave flat, in whole kHz.

    At least 12 kHz, so that there is noise beside a narrow channel.
    """
    steps = math.ceil(round(bandwidth_hz / USABLE_BAND / _RATE_STEP_HZ, 6))
    return max(steps * _RATE_STEP_HZ, _LOWEST_RATE_HZ)


class HttpIq:
    """Client of receivers that stream IQ over HTTP.

    The requested rate follows from the tuning's bandwidth, see `requested_rate_hz`; the receiver may use another one,
    at most four times the requested one, and states it in the header ``X-Sample-Rate``. User and password in the URL
    are sent as HTTP's basic authentication. There are no time stamps.

    Parameters
    ----------
    limits : WaitLimits, optional
        Timeouts.
    """

    def __init__(self, limits: WaitLimits | None = None) -> None:
        self._limits = limits or WaitLimits()

    @asynccontextmanager
    async def stream(self, address: ReceiverAddress, tuning: Tuning) -> AsyncIterator["HttpIqStream"]:
        """Open a stream of IQ; see `heimdall_pipelines.receivers.stream.Receiver.stream`."""
        url = receiver_url(address)
        requested_hz = requested_rate_hz(tuning.bandwidth_hz)
        page = url.page("iq").with_query(tune=f"{tuning.frequency_hz:.0f}", rate=str(requested_hz))
        async with connected(
            address, self._limits.connect_s, lambda session: session.get(page, headers=url.authorization())
        ) as response:
            try:
                _check_type(address, response)
                rate_hz = _rate_hz(address, response, requested_hz)
                pace = Pace(address, tuning, rate_hz, self._limits)
                yield HttpIqStream(address, response, pace, rate_hz, round(tuning.frequency_hz))
            finally:
                response.close()  # not release(), which would read to the end of an endless body

    async def status(self, address: ReceiverAddress) -> ReceiverStatus:
        """Request ``{url}/status``, which is optional: a receiver that answers 404 is up."""
        try:
            url = receiver_url(address)
            async with status_session(address, self._limits.silence_s) as session:
                try:
                    return await fetch_status(session, url)
                except AnsweredError as error:
                    if error.status != _NO_PAGE:
                        raise
                    return ReceiverStatus(is_up=True)
        except ReceiverError as error:
            return ReceiverStatus(is_up=False, reason=error.reason)


class HttpIqStream:
    """A running stream; see `heimdall_pipelines.receivers.stream.IqStream`."""

    quantisation_step: float | None = 1 / CI16_LE.full_scale

    def __init__(
        self,
        address: ReceiverAddress,
        response: aiohttp.ClientResponse,
        pace: Pace,
        nominal_rate_hz: float,
        frequency_hz: float,
    ) -> None:
        self.applied = AppliedTuning(frequency_hz, (-nominal_rate_hz / 2, nominal_rate_hz / 2))
        self.nominal_rate_hz = nominal_rate_hz
        self._address = address
        self._response = response
        self._pace = pace

    async def __aiter__(self) -> AsyncIterator[IqBlock]:
        """Give blocks as they arrive, up to the number of samples wanted."""
        partial = b""  # bytes of a sample whose rest has not arrived
        while self._pace.num_missing > 0:
            async with self._pace.waiting():
                try:
                    piece = await self._response.content.read(_READ_BYTES)
                except (aiohttp.ClientError, OSError) as error:
                    raise self._pace.broke_off("closed the connection") from error
            if not piece:
                raise self._pace.broke_off(f"ended its answer{' in the middle of a sample' if partial else ''}")
            stored = partial + piece
            num_samples = min(len(stored) // CI16_LE.sample_bytes, self._pace.num_missing)
            num_bytes = num_samples * CI16_LE.sample_bytes
            partial = stored[num_bytes:]
            self._pace.count(num_samples)
            if num_samples:
                yield IqBlock(CI16_LE.decode(np.frombuffer(stored, np.uint8, num_bytes)))


def _check_type(address: ReceiverAddress, response: aiohttp.ClientResponse) -> None:
    kind = response.content_type
    if kind != "application/octet-stream" and not kind.startswith("audio/x-"):
        raise ReceiverError(
            address.rx_id,
            f"answers with {shown(kind)}: IQ is application/octet-stream (is the URL that of an HTTP IQ receiver?)",
            is_transient=False,
        )
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise ReceiverError(address.rx_id, f"sends its IQ encoded as {shown(encoding)}", is_transient=False)


def _rate_hz(address: ReceiverAddress, response: aiohttp.ClientResponse, requested_hz: float) -> float:
    text = response.headers.get(RATE_HEADER)
    if text is None:
        return float(requested_hz)
    try:
        rate_hz = float(text)
    except ValueError:
        rate_hz = math.nan
    if not 0 < rate_hz <= _MAX_RATE_RATIO * requested_hz:
        raise ReceiverError(
            address.rx_id,
            f"reports {RATE_HEADER}: {shown(text)}, but {requested_hz:g} Hz were requested",
            is_transient=False,
        )
    return rate_hz
