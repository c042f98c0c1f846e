"""Records one station of a session: connects, retries after transient errors, and stores the samples."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.receivers.stream import (
    AppliedTuning,
    IqStream,
    Receiver,
    ReceiverAddress,
    ReceiverError,
    StreamLimitError,
    Tuning,
)
from heimdall_pipelines.rf.features import MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ
from heimdall_pipelines.rf.spectrum import USABLE_BAND
from heimdall_pipelines.sessions.iq_upload import IqUpload, UploadedIq
from heimdall_pipelines.sessions.level_readings import sidecar_levels
from heimdall_pipelines.sessions.live_samples import LiveLevels, LiveSamples
from heimdall_pipelines.sessions.sidecar import session_sidecar
from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.store.iq_objects import put_sidecar, session_iq_location
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines.store.sessions import SessionIdentity
from heimdall_pipelines.store.stations import Station

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.5  # before the second attempt; doubled each time, less up to a half by chance
LEAST_KEPT_S = 1.0  # of a stream that the receiver ends early; less is no recording
LATE_SHARE = 0.5  # of the recording's duration; a station that begins later has too little in common with the others
# At least this is requested for any channel, since noise is measured beside the channel.
MIN_TUNED_BANDWIDTH_HZ = 12_500.0

Sleep = Callable[[float], Awaitable[None]]


@dataclass
class SharedRecording:
    """What the stations of a session share while they are recorded.

    Attributes
    ----------
    session, name : SessionIdentity, str
    frequency_hz, bandwidth_hz, duration_s : float
        ``bandwidth_hz`` None: by default.
    deadline_s : float
        By the event loop's clock: reception stops at this time.
    objects : ObjectStore
    executor : Executor
        With two threads for each station.
    turns : Semaphore
        Bounds the parts that are stored at once, and so memory; see `IqUpload`.
    report : callable
        Takes a line of progress.
    manual_gain_db : float or None
        None: by the receivers' automatic gain control.
    sleep, wall_clock_ns, rng
        Time and random numbers; tests inject their own.
    received_s : dict of str to float
        Received duration of each station that is being recorded, s.
    began_s : dict of str to float
        When the first samples of each recorded station arrived, by the event loop's clock.
    """

    session: SessionIdentity
    name: str
    frequency_hz: float
    bandwidth_hz: float | None
    duration_s: float
    deadline_s: float
    objects: ObjectStore
    executor: Executor
    turns: threading.Semaphore
    report: Callable[[str], None]
    manual_gain_db: float | None = None
    sleep: Sleep = asyncio.sleep
    wall_clock_ns: Callable[[], int] = time.time_ns
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    received_s: dict[str, float] = field(default_factory=dict)
    began_s: dict[str, float] = field(default_factory=dict)

    def has_time_at(self, begins_s: float) -> bool:
        """Whether a recording that begins at this time meets the deadline and overlaps enough with the others."""
        if begins_s + self.duration_s > self.deadline_s:
            return False
        return not self.began_s or begins_s <= min(self.began_s.values()) + LATE_SHARE * self.duration_s


class StationRecorder:
    """One station of a session that is being recorded.

    Parameters
    ----------
    shared : SharedRecording
    station : Station
        With a URL and a client.
    receiver : Receiver
    """

    def __init__(self, shared: SharedRecording, station: Station, receiver: Receiver) -> None:
        self._shared = shared
        self._station = station
        self._receiver = receiver
        self._applied: AppliedTuning | None = None
        self._notes: tuple[str, ...] = ()

    async def record(self) -> StationRecording:
        """Record it, with retries as the station allows and the deadline permits.

        Raises
        ------
        HeimdallError
            It could not be recorded or stored; the message does not name the station.
        """
        try:
            async with asyncio.timeout_at(self._shared.deadline_s):
                upload, samples, levels, step = await self._received()
        except TimeoutError:
            raise HeimdallError(f"not recorded before the session's deadline{self._progress()}") from None
        uploaded = await self._finished(upload, samples.num_kept)
        return await self._described(samples, levels, uploaded, step)

    async def _received(self) -> tuple[IqUpload, LiveSamples, LiveLevels, float | None]:
        """Receive everything; an interrupted attempt's samples are dropped."""
        shared, rx_id = self._shared, self._station.rx_id
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt()
            except ReceiverError as error:
                shared.began_s.pop(rx_id, None)
                shared.received_s.pop(rx_id, None)
                tried = f" ({attempt} attempts)" if attempt > 1 else ""
                if not error.is_transient or attempt > self._station.retry_count:
                    raise HeimdallError(f"{error.reason}{tried}") from error
                delay_s = FIRST_DELAY_S * 2 ** (attempt - 1) * (1 - 0.5 * shared.rng.random())
                delay_s = max(delay_s, error.retry_after_s)
                if not shared.has_time_at(asyncio.get_running_loop().time() + delay_s):
                    left = "too little of the recording is left for another attempt"
                    raise HeimdallError(f"{error.reason}{tried}; {left}") from error
                shared.report(f"{rx_id}: {error.reason}; retrying in {delay_s:.1f} s")
            await shared.sleep(delay_s)

    async def _attempt(self) -> tuple[IqUpload, LiveSamples, LiveLevels, float | None]:
        station, shared = self._station, self._shared
        assert station.url is not None
        requested_hz = max(shared.bandwidth_hz or 0.0, MIN_TUNED_BANDWIDTH_HZ)
        tuning = Tuning(shared.frequency_hz, requested_hz, shared.duration_s, shared.manual_gain_db)
        upload: IqUpload | None = None
        samples: LiveSamples | None = None
        try:
            try:
                async with (
                    asyncio.timeout(station.timeout_seconds) as timeout,
                    self._receiver.stream(
                        ReceiverAddress(station.rx_id, station.url, station.api_type), tuning
                    ) as live,
                ):
                    applied = live.applied
                    samples = LiveSamples(
                        station.rx_id,
                        self._num_wanted(live),
                        live.nominal_rate_hz,
                        clock_problem=applied.clock_problem,
                        expects_stamps=applied.expects_stamps,
                    )
                    levels = LiveLevels(live.nominal_rate_hz, shared.bandwidth_hz, station.full_scale_dbm or 0.0)
                    location = session_iq_location(shared.objects, shared.session.id, station.rx_id)
                    upload = IqUpload(shared.objects, location, samples.num_wanted, shared.executor, shared.turns)
                    step = live.quantisation_step
                    self._applied, self._notes = applied, (*applied.notes, *self._limits_of(live))
                    shared.report("; ".join((f"{station.rx_id}: connected, {live.nominal_rate_hz:g} Hz", *self._notes)))
                    await self._receive(live, samples, levels, upload, timeout)
            except StreamLimitError as error:
                if samples is None or upload is None or samples.num_kept < LEAST_KEPT_S * live.nominal_rate_hz:
                    raise
                samples.end()
                self._notes += (f"ended by the receiver{self._progress()}: {error.reason}",)
            except TimeoutError:
                if samples is None or not samples.is_complete:  # else only the closing of the connection timed out
                    raise ReceiverError(
                        station.rx_id,
                        f"sent nothing for {station.timeout_seconds:g} s{self._progress()}",
                        is_transient=True,
                    ) from None
            assert upload is not None
            assert samples is not None
            if not samples.is_complete:
                raise ReceiverError(station.rx_id, f"the stream ended early{self._progress()}", is_transient=True)
        except BaseException:
            if upload is not None:
                await upload.abort()
            raise
        return upload, samples, levels, step

    def _num_wanted(self, live: IqStream) -> int:
        rate_hz = live.nominal_rate_hz
        if not MIN_SAMPLE_RATE_HZ <= rate_hz <= MAX_SAMPLE_RATE_HZ:
            raise ReceiverError(
                self._station.rx_id, f"its sample rate {rate_hz:g} Hz is outside 8 kHz to 2.4 MHz", is_transient=False
            )
        return round(self._shared.duration_s * rate_hz)

    def _limits_of(self, live: IqStream) -> Iterator[str]:
        """Notes on what the receiver cannot provide of the request."""
        usable_hz = USABLE_BAND * live.nominal_rate_hz
        if self._shared.bandwidth_hz is not None and self._shared.bandwidth_hz > usable_hz:
            wanted_hz = self._shared.bandwidth_hz
            yield f"measured over {usable_hz:.0f} Hz, the receiver's whole band, instead of {wanted_hz:g} Hz"
        if live.applied.has_automatic_gain and self._station.full_scale_dbm is not None:
            yield "uncalibrated despite full_scale_dbm: automatic gain control was on"

    async def _receive(
        self, live: IqStream, samples: LiveSamples, levels: LiveLevels, upload: IqUpload, timeout: asyncio.Timeout
    ) -> None:
        loop = asyncio.get_running_loop()
        shared, rx_id = self._shared, self._station.rx_id
        async for block in live:
            arrived_unix_ns = shared.wall_clock_ns()
            timeout.reschedule(None)  # time spent in the store does not count against the receiver
            shared.began_s.setdefault(rx_id, loop.time())
            for iq in samples.take(block, arrived_unix_ns):
                await upload.write(iq)
                if levels.add(iq):
                    await loop.run_in_executor(shared.executor, levels.measure)
            shared.received_s[rx_id] = samples.num_kept / live.nominal_rate_hz
            timeout.reschedule(loop.time() + self._station.timeout_seconds)
            if samples.is_complete:
                return

    def _progress(self) -> str:
        received_s = self._shared.received_s.get(self._station.rx_id)
        return "" if received_s is None else f", after {received_s:.1f} of {self._shared.duration_s:g} s"

    async def _finished(self, upload: IqUpload, num_samples: int) -> UploadedIq:
        try:
            return await upload.finish(num_samples)
        except BaseException:
            await upload.abort()
            raise

    async def _described(
        self, samples: LiveSamples, levels: LiveLevels, uploaded: UploadedIq, step: float | None
    ) -> StationRecording:
        """Fit the clock over the whole recording and write its SigMF description."""
        station, shared, applied = self._station, self._shared, self._applied
        assert applied is not None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(shared.executor, levels.measure)
        try:
            clock = samples.clock()
        except ReceiverError as error:
            raise HeimdallError(error.reason) from error
        location = session_iq_location(shared.objects, shared.session.id, station.rx_id)
        recording = StationRecording(
            station=station,
            start_time_unix_ns=clock.start_time_unix_ns,
            sample_rate_hz=clock.sample_rate_hz,
            samples_count=samples.num_kept,
            location=location,
            iq_data_format=IqForm.of_key(location.key).data_format,
            sha256=uploaded.sha256,
            etag=uploaded.etag,
            full_scale_dbm=station.full_scale_dbm or 0.0,
            is_calibrated=station.full_scale_dbm is not None and not applied.has_automatic_gain,
            time_source=clock.time_source,
            time_uncertainty_ns=clock.uncertainty_ns,
            quantisation_step=step,
            passband_hz=_passband_hz(applied, clock.sample_rate_hz),
            note="; ".join(filter(None, (*self._notes, samples.note()))) or None,
            snr_db=levels.mean("snr_db"),
            signal_strength_dbm=levels.mean("rssi_dbm"),
            frequency_offset_hz=levels.mean("frequency_offset_hz"),
        )
        sidecar = session_sidecar(
            recording,
            session=shared.session,
            session_name=shared.name,
            frequency_hz=applied.frequency_hz,
            origin=f"recorded from {station.api_type}",
            extra={
                "time_source": clock.time_source,
                "time_uncertainty_ns": clock.uncertainty_ns,
                "automatic_gain_control": applied.has_automatic_gain,
                "manual_gain_db": applied.manual_gain_db,
                "has_phase": applied.has_phase,
                **sidecar_levels(applied.level_kind, samples.level_readings.means_db()),
            },
            holes=samples.holes,
        )
        put = loop.run_in_executor(shared.executor, put_sidecar, shared.objects, location, sidecar)
        return replace(recording, sidecar_sha256=await put)


def _passband_hz(applied: AppliedTuning, sample_rate_hz: float) -> float:
    """Width of the receiver's filter within the usable band; it is known, so that no extraction has to find it."""
    low_hz, high_hz = applied.passband_hz
    return min(high_hz - low_hz, USABLE_BAND * sample_rate_hz)
