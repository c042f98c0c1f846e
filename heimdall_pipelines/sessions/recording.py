"""Records a session from live receivers: all stations at once, each on its own, into one completed session."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.stream import Receiver, WaitLimits
from heimdall_pipelines.rf.features import default_channel_bandwidth_hz
from heimdall_pipelines.rf.segments import Interval, NoSegmentError, plan_segments
from heimdall_pipelines.rf.spectrum import USABLE_BAND
from heimdall_pipelines.sessions.iq_upload import PARTS_AT_ONCE, release_large_blocks
from heimdall_pipelines.sessions.live_samples import load_kernels
from heimdall_pipelines.sessions.record_request import RecordRequest, choose_stations
from heimdall_pipelines.sessions.station_recording import (
    MIN_TUNED_BANDWIDTH_HZ,
    SharedRecording,
    Sleep,
    StationRecorder,
)
from heimdall_pipelines.store.iq_objects import remove_session_iq, remove_station_iq
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.recordings import (
    RecordedSession,
    fail_recording_session,
    note_recorder_heartbeat,
    note_recording_removed,
    open_recording_session,
    start_recording_session,
)
from heimdall_pipelines.store.session_completion import SessionClosedError, complete_session
from heimdall_pipelines.store.session_slugs import default_session_name, session_slug
from heimdall_pipelines.store.sessions import SessionIdentity, SessionNotFoundError, get_session
from heimdall_pipelines.store.stations import Station, list_stations
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress, Throttle

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 2.0
HEARTBEAT_INTERVAL_S = 5.0
STORING_S = 600.0  # to store and commit the rest after the last sample
COMPLETION_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class RecordingEnvironment:
    """Receivers, time and random numbers of a recording; tests inject their own, the demonstration its clients."""

    receiver_of: Callable[[str, WaitLimits], Receiver] = receiver_of
    sleep: Sleep = asyncio.sleep
    wall_clock_ns: Callable[[], int] = time.time_ns
    rng: np.random.Generator = field(default_factory=np.random.default_rng)


@dataclass(frozen=True)
class RecordReport:
    """Result of a recording.

    Attributes
    ----------
    session_id, slug, name : UUID, str, str
    status : str
        "completed", or "failed" where no station could be recorded.
    revision : int
        0 where it failed.
    recordings : tuple of StationRecording
        One per requested station; those with an ``error_message`` recorded nothing.
    skipped : tuple of (str, str)
        Stations that were not requested, and the reasons.
    error_message : str or None
        What went wrong, also if some stations did record.
    """

    session_id: UUID
    slug: str
    name: str
    status: str
    revision: int
    recordings: tuple[StationRecording, ...]
    skipped: tuple[tuple[str, str], ...]
    error_message: str | None


def record_session(
    stores: Stores, request: RecordRequest, progress: Progress, environment: RecordingEnvironment | None = None
) -> RecordReport:
    """Record a session from live receivers, and complete it with the stations that could be recorded.

    A failed station does not affect the others. If no station could be recorded, if the recording is
    interrupted (Ctrl-C included) or cannot be stored, the session is closed as failed and its objects
    are removed from the S3 store; if the process is killed, `close_abandoned_sessions` does that.

    Parameters
    ----------
    stores : Stores
        Where rows and objects go.
    request : RecordRequest
        What to record.
    progress : callable
        Called with a line to show, every few seconds; interrupts the recording by raising.
    environment : RecordingEnvironment, optional
        Clients, clock and random numbers other than the default ones.

    Raises
    ------
    RecordingRefusedError, StationError
        The request is invalid; no session was opened.
    SessionClosedError, SessionNotFoundError, SessionBeingDeletedError
        The session was closed or deleted meanwhile.
    UnavailableError
        PostgreSQL could not be reached.
    """
    choice = choose_stations(request, list_stations(stores.database))
    overtime_s = request.overtime_s
    if overtime_s is None:
        overtime_s = max(station.timeout_seconds for station in choice.chosen)
    now = datetime.now(UTC)
    name = request.name or default_session_name(request.frequency_hz, now)
    deadline_in_s = request.duration_s + overtime_s
    opened = RecordedSession(
        wanted_slug=request.slug or session_slug(now, request.frequency_hz, name, request.known_source),
        name=name,
        frequency_hz=request.frequency_hz,
        bandwidth_hz=request.bandwidth_hz or MIN_TUNED_BANDWIDTH_HZ,
        known_source=request.known_source,
        deadline_in_s=deadline_in_s + STORING_S,
    )
    progress("getting ready; the first time after an installation this takes a while")
    load_kernels()
    session = open_recording_session(stores.database, opened)
    try:
        progress(f"session {session.slug} ({name}): {len(choice.chosen)} stations, {request.duration_s:g} s")
        for rx_id, reason in choice.skipped:
            progress(f"{rx_id}: skipped: {reason}")
        if not start_recording_session(stores.database, session.id):
            raise SessionClosedError(f"session {session.slug} was closed or deleted before it was recorded")
        job = _Job(stores, session, name, request, choice.chosen, deadline_in_s, environment or RecordingEnvironment())
        recordings = job.run(progress)
        return _conclude(stores, job, recordings, choice.skipped)
    except BaseException as error:
        reason = str(error) if isinstance(error, Exception) else "interrupted by the user"
        close_recording(stores, session, reason or type(error).__name__)
        raise


def close_recording(stores: Stores, session: SessionIdentity, reason: str) -> None:
    """Close a recording as failed and remove what it stored; after an outage the watchdog does the rest later."""
    try:
        fail_recording_session(stores.database, session.id, reason)
        with suppress(SessionNotFoundError):  # deleted meanwhile: what was stored since must be removed too
            if get_session(stores.database, session.id).status == "completed":
                return
        remove_session_iq(stores.objects, session.id)
        note_recording_removed(stores.database, session.id)
    except UnavailableError as error:
        logger.warning("session %s is not cleaned up yet, the watchdog will do it (%s)", session.slug, error)


class _Job:
    """The recording itself: an event loop in a thread of its own, watched from the calling thread.

    The calling thread reports progress, writes heartbeats and receives interruptions.
    """

    def __init__(
        self,
        stores: Stores,
        session: SessionIdentity,
        name: str,
        request: RecordRequest,
        stations: Sequence[Station],
        deadline_in_s: float,
        environment: RecordingEnvironment,
    ) -> None:
        self.session = session
        self.name = name
        self.request = request
        self._stores = stores
        self._stations = stations
        self._deadline_in_s = deadline_in_s
        self._environment = environment
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._has_begun = threading.Event()
        self._cancel: Callable[[], object] = lambda: None

    def run(self, progress: Progress) -> list[StationRecording]:
        """Record every station; returns one entry for each, in their order."""
        with ThreadPoolExecutor(1, "recording") as thread:
            running = thread.submit(asyncio.run, self._record_all())
            running.add_done_callback(lambda _: self._lines.put(None))
            try:
                self._watch(progress)
            except BaseException:
                self._stop(running)
                raise
            return running.result()

    def _watch(self, progress: Progress) -> None:
        heartbeat = Throttle(HEARTBEAT_INTERVAL_S)
        while True:
            try:
                line = self._lines.get(timeout=HEARTBEAT_INTERVAL_S)
            except queue.Empty:
                line = ""
            if line is None:
                return
            if line:
                progress(line)
            if heartbeat.is_due():
                self._send_heartbeat(progress)

    def _send_heartbeat(self, progress: Progress) -> None:
        try:
            is_wanted = note_recorder_heartbeat(self._stores.database, self.session.id)
        except UnavailableError as error:
            progress(f"{error}; the recording continues")
            return
        if not is_wanted:
            raise SessionClosedError(f"session {self.session.slug} was closed or deleted while it was recorded")

    def _stop(self, running: "Future[list[StationRecording]]") -> None:
        while not (self._has_begun.wait(0.1) or running.done()):
            pass
        with suppress(RuntimeError):  # the loop is closed: the recording has just ended
            self._cancel()
        with suppress(BaseException):
            running.result()

    async def _record_all(self) -> list[StationRecording]:
        loop = asyncio.get_running_loop()
        here = asyncio.current_task()
        assert here is not None
        self._cancel = lambda: loop.call_soon_threadsafe(here.cancel)
        self._has_begun.set()
        release_large_blocks()
        objects = self._stores.objects.patient()
        executor = ThreadPoolExecutor(2 * len(self._stations), "station")
        shared = SharedRecording(
            session=self.session,
            name=self.name,
            frequency_hz=self.request.frequency_hz,
            bandwidth_hz=self.request.bandwidth_hz,
            duration_s=self.request.duration_s,
            manual_gain_db=self.request.manual_gain_db,
            deadline_s=loop.time() + self._deadline_in_s,
            objects=objects,
            executor=executor,
            turns=threading.Semaphore(PARTS_AT_ONCE),
            report=self._lines.put,
            sleep=self._environment.sleep,
            wall_clock_ns=self._environment.wall_clock_ns,
            rng=self._environment.rng,
        )
        reporting = asyncio.create_task(self._report_progress(shared))
        try:
            async with asyncio.TaskGroup() as group:  # ends, if cancelled too, when all tasks have ended
                recorded = [group.create_task(self._record(shared, station)) for station in self._stations]
            return [task.result() for task in recorded]
        finally:
            reporting.cancel()
            executor.shutdown()
            objects.close()

    async def _report_progress(self, shared: SharedRecording) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            if shared.received_s:
                received = ", ".join(f"{rx_id} {seconds:.1f}" for rx_id, seconds in shared.received_s.items())
                shared.report(f"received of {shared.duration_s:g} s: {received}")

    async def _record(self, shared: SharedRecording, station: Station) -> StationRecording:
        """Record one station; any error becomes an entry, so that the others continue."""
        try:
            recording = await StationRecorder(
                shared,
                station,
                self._environment.receiver_of(station.api_type, WaitLimits.capped_at(station.timeout_seconds)),
            ).record()
        except HeimdallError as error:
            return await self._failed(shared, station, str(error))
        except Exception as error:
            logger.exception("station %s", station.rx_id)
            return await self._failed(shared, station, f"{type(error).__name__}: {error}")
        shared.report(f"{station.rx_id}: recorded, {recording.samples_count} samples")
        return recording

    async def _failed(self, shared: SharedRecording, station: Station, reason: str) -> StationRecording:
        shared.received_s.pop(station.rx_id, None)
        shared.report(f"{station.rx_id}: failed: {reason}")
        with suppress(UnavailableError):  # the checks report later what was left there
            await asyncio.get_running_loop().run_in_executor(
                shared.executor, remove_station_iq, self._stores.objects, self.session.id, station.rx_id
            )
        return StationRecording(
            station=station,
            start_time_unix_ns=0,
            sample_rate_hz=0.0,
            samples_count=0,
            location=None,
            iq_data_format=None,
            sha256=None,
            full_scale_dbm=station.full_scale_dbm or 0.0,
            is_calibrated=station.full_scale_dbm is not None,
            time_source="arrival",
            time_uncertainty_ns=None,
            error_message=reason,
        )


def _conclude(
    stores: Stores, job: _Job, recordings: Sequence[StationRecording], skipped: tuple[tuple[str, str], ...]
) -> RecordReport:
    """Complete the session if a station was recorded, otherwise close it as failed."""
    recorded = [recording for recording in recordings if recording.error_message is None]
    problems = [f"{x.station.rx_id}: {x.error_message}" for x in recordings if x.error_message is not None]
    problems += [f"{rx_id}: skipped: {reason}" for rx_id, reason in skipped]
    if not recorded:
        reason = f"no station could be recorded: {'; '.join(problems)}"
        close_recording(stores, job.session, reason)
        return RecordReport(job.session.id, job.session.slug, job.name, "failed", 0, tuple(recordings), skipped, reason)
    try:
        plan_segments([Interval(x.start_time_unix_ns, x.samples_count, x.sample_rate_hz) for x in recorded])
    except NoSegmentError as error:
        problems.append(f"nothing can be extracted: {error}")
    start_ns = min(recording.start_time_unix_ns for recording in recorded)
    rows = tuple(
        recording if recording.error_message is None else replace(recording, start_time_unix_ns=start_ns)
        for recording in recordings
    )
    error_message = "; ".join(problems) or None
    lowest_rate_hz = min(recording.sample_rate_hz for recording in recorded)
    bandwidth_hz = job.request.bandwidth_hz or min(
        default_channel_bandwidth_hz(lowest_rate_hz), USABLE_BAND * lowest_rate_hz
    )
    revision = _complete(stores, job.session.id, rows, bandwidth_hz, error_message)
    return RecordReport(job.session.id, job.session.slug, job.name, "completed", revision, rows, skipped, error_message)


def _complete(
    stores: Stores,
    session_id: UUID,
    recordings: Sequence[StationRecording],
    bandwidth_hz: float,
    error_message: str | None,
) -> int:
    """Commit; retry after an outage, since a recording cannot be regenerated."""
    for delay_s in (*COMPLETION_DELAYS_S, None):
        try:
            stores.objects.sync_before_commit(stores.objects.raw_iq_bucket)
            return complete_session(
                stores.database, session_id, recordings, bandwidth_hz=bandwidth_hz, error_message=error_message
            )
        except UnavailableError:
            if delay_s is None:
                raise
            time.sleep(delay_s)
    raise AssertionError
