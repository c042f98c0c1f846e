"""Turns a completed session's IQ into one row of features per segment."""

import logging
import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.feature_inputs import FeatureInputs
from heimdall_pipelines.model.row_metadata import SessionExtraction
from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.receivers.stream import LevelKind
from heimdall_pipelines.rf.defects import CLIPPED_SHARE, clipped_share, defect_of
from heimdall_pipelines.rf.features import InvalidIqError, extract_features
from heimdall_pipelines.rf.passband import MAX_SAMPLES, Passband, detect_passband
from heimdall_pipelines.rf.segments import (
    CHUNK_NS,
    SEGMENT_NS,
    Interval,
    NoSegmentError,
    SegmentGrid,
    cut_segment,
    plan_segments,
)
from heimdall_pipelines.rf.spectrogram import spectrogram_dbm_per_hz
from heimdall_pipelines.rf.spectrum import USABLE_BAND
from heimdall_pipelines.rf.tdoa import TimeGrid, signal_on_grid
from heimdall_pipelines.sessions.completed import require_completed
from heimdall_pipelines.sessions.import_request import MIN_BANDWIDTH_HZ
from heimdall_pipelines.sessions.level_readings import (
    MeterLevels,
    has_phase,
    known_of_audio,
    meter_levels,
    unknown_of_audio_text,
)
from heimdall_pipelines.sessions.segment_differences import (
    PairColumns,
    PairSummary,
    differences_of_segment,
    segment_grid,
)
from heimdall_pipelines.sessions.station_clocks import reason_against_clock
from heimdall_pipelines.store.features import ReceiverAggregate, ReceiverFeatures
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq, read_sidecar
from heimdall_pipelines.store.measurements import StationRecording, read_recordings
from heimdall_pipelines.store.objects import ObjectUnreadableError
from heimdall_pipelines.store.session_features import (
    SessionFeatureRow,
    SessionFeatureWriter,
    StationMetrics,
    replace_session_features,
)
from heimdall_pipelines.store.session_inputs import read_inputs
from heimdall_pipelines.store.session_revisions import SessionRevision
from heimdall_pipelines.store.sessions import RecordingSession, SessionKey, read_session
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress, Throttle

logger = logging.getLogger(__name__)

ROWS_PER_INSERT = 50
PROGRESS_INTERVAL_S = 5.0
AT_QUANTISATION_DB = 3.0
SPECTROGRAM_TIMES = 600
SPECTROGRAM_TIMES_PER_SEGMENT = 20


class NotExtractableError(HeimdallError):
    """The session is not in a state that features can be extracted from."""


@dataclass
class StationSummary:
    """Result of one station over the session."""

    rx_id: str
    segments: int = 0
    segments_present: int = 0
    error_message: str | None = None
    flags: set[str] = field(default_factory=set)
    snr_db: list[float] = field(default_factory=list)
    cn0_dbhz: list[float] = field(default_factory=list)
    rssi_dbm: list[float] = field(default_factory=list)
    frequency_offset_hz: list[float] = field(default_factory=list)
    spectrogram_dbm_per_hz: list[NDArray[np.float32]] = field(default_factory=list)
    sample_rate_hz: float = 0.0

    @property
    def mean_cn0_dbhz(self) -> float | None:
        """Mean over the segments in which the signal was present; None without any."""
        return _mean(self.cn0_dbhz)

    def metrics(self) -> StationMetrics:
        """Means over the segments in which the signal was present."""
        return StationMetrics(
            snr_db=_mean(self.snr_db),
            signal_strength_dbm=_mean(self.rssi_dbm),
            frequency_offset_hz=_mean(self.frequency_offset_hz),
        )


@dataclass(frozen=True)
class ExtractionReport:
    """Result of an extraction."""

    session: RecordingSession
    num_rows: int
    duration_s: float
    stations: tuple[StationSummary, ...]
    notes: tuple[str, ...]
    error_message: str | None
    pairs: tuple[PairSummary, ...] = ()

    @property
    def failed_stations(self) -> list[str]:
        """Stations without any extracted segment."""
        return [station.rx_id for station in self.stations if station.segments == 0]


def extract_session(stores: Stores, key: SessionKey, progress: Progress = logger.info) -> ExtractionReport:
    """Extract the features of a completed session and replace its rows, in one transaction.

    A station whose IQ is missing or unreadable gets an entry with an error message. If no station
    could be read, one row says that the extraction failed. An outage of a server raises an error
    and leaves the existing rows unchanged.

    Parameters
    ----------
    stores : Stores
        Rows and objects.
    key : UUID or str
        Id or slug of a completed session.
    progress : callable, optional
        Called with a line to show, every few seconds.

    Raises
    ------
    NotCompletedError
        The session is not completed.
    NotExtractableError
        It has no stations.
    SupersededError
        The session was completed again meanwhile.
    SessionBeingDeletedError
        Its deletion has begun.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    with stores.database.snapshot() as connection:
        session = read_session(connection, key)
        recordings = read_recordings(connection, session.id)
        inputs = read_inputs(connection, session.id)
    require_completed(session, "extract")
    if not recordings:
        raise NotExtractableError(f"session {session.slug} has no measurements: no station recorded anything")
    extractors = [_StationExtractor(stores, recording) for recording in recordings]
    grid, problem = _plan(extractors)
    pairs = PairColumns()
    target = SessionRevision(session.id, session.slug, session.revision)
    with replace_session_features(stores.database, target) as writer:
        if grid is None:
            writer.add([_failed_row(session, inputs, extractors, problem)])
        else:
            _extract_segments(session, inputs, extractors, grid, writer, pairs, progress)
            if not any(extractor.summary.segments for extractor in extractors):
                problem = "; ".join(f"{x.summary.rx_id}: {x.summary.error_message}" for x in extractors)
        writer.set_station_metrics({x.summary.rx_id: x.summary.metrics() for x in extractors})
        writer.set_inputs(inputs)
    num_segments = grid.num_segments if grid else 0
    return ExtractionReport(
        session=session,
        num_rows=max(num_segments, 1),
        duration_s=num_segments * (grid.chunks_per_segment * CHUNK_NS / 1e9 if num_segments == 1 and grid else 1.0),
        stations=tuple(extractor.summary for extractor in extractors),
        notes=_notes(grid) if grid else (),
        error_message=problem,
        pairs=pairs.summaries(),
    )


class _StationExtractor:
    """One station of the session: its IQ, if it can be read, and its results so far."""

    def __init__(self, stores: Stores, recording: StationRecording) -> None:
        self.recording = recording
        self.interval = Interval(recording.start_time_unix_ns, recording.samples_count, recording.sample_rate_hz)
        self.summary = StationSummary(recording.station.rx_id, sample_rate_hz=recording.sample_rate_hz)
        self.usable_hz = recording.passband_hz or USABLE_BAND * recording.sample_rate_hz
        self.filter: Passband | None = None
        self.iq: StationIq | None = None
        self.grid: TimeGrid | None = None  # of each segment's time differences; None: it has none
        self.on_grid: NDArray[np.complex64] | None = None  # the channel of the last segment
        self._meter: MeterLevels | None = None
        self._has_phase = True
        if recording.error_message is not None or recording.location is None:
            self.summary.error_message = recording.error_message or "nothing was recorded"
            return
        try:
            self.iq = StationIq(stores.objects, recording)
            if recording.passband_hz is None:
                self._find_filter(self.iq)
        except (ObjectUnreadableError, IqObjectError) as error:
            self.iq = None
            self.summary.error_message = str(error)
            return
        with suppress(ObjectUnreadableError, IqObjectError):  # the checks report it
            if not recording.is_calibrated:
                sidecar = read_sidecar(stores.objects, recording.location)
                self._meter, self._has_phase = meter_levels(sidecar), has_phase(sidecar)

    def _find_filter(self, iq: StationIq) -> None:
        """Use the receiver's filter, found in the first samples, as the passband if it is narrower."""
        first = iq.read(0, min(iq.num_samples, MAX_SAMPLES))
        self.filter = detect_passband(first, sample_rate_hz=self.recording.sample_rate_hz)
        if self.filter is not None and self.filter.width_around_centre_hz >= MIN_BANDWIDTH_HZ:
            self.usable_hz = min(self.usable_hz, self.filter.width_around_centre_hz)

    def extract(self, grid: SegmentGrid, segment_idx: int, bandwidth_hz: float, num_times: int) -> ReceiverFeatures:
        """Features of one segment, or an entry with the reason why features are missing."""
        self.on_grid = None
        if self.iq is None:
            return self.without_features(self.summary.error_message or "not readable")
        cut = cut_segment(self.interval, grid, segment_idx)
        if cut is None:
            return self.without_features("the recording does not cover this segment")
        rate_hz = self.recording.sample_rate_hz
        full_scale_dbm = self.recording.full_scale_dbm
        try:
            iq = self.iq.read(cut.first_sample, cut.num_samples)
            defect = defect_of(iq)
            if defect is not None:
                self.summary.error_message = defect
                return self.without_features(defect)
            full_scale_dbm += self._gain_correction_db(iq, cut.first_sample)
            extracted = extract_features(
                cut.chunks(iq),
                sample_rate_hz=rate_hz,
                channel_bandwidth_hz=min(bandwidth_hz, self.usable_hz),
                usable_bandwidth_hz=self.usable_hz,
                full_scale_dbm=full_scale_dbm,
            )
        except (ObjectUnreadableError, IqObjectError, InvalidIqError) as error:
            self.summary.error_message = str(error)
            return self.without_features(str(error))
        if num_times:
            self.summary.spectrogram_dbm_per_hz.append(
                spectrogram_dbm_per_hz(iq, sample_rate_hz=rate_hz, full_scale_dbm=full_scale_dbm, num_times=num_times)
            )
        if self.grid is not None and extracted.signal_present:
            into_ns = self.interval.start_ns - grid.segment_start_ns(segment_idx) + cut.first_sample / rate_hz * 1e9
            self.on_grid = signal_on_grid(iq, into_ns - self.grid.start_ns, rate_hz, self.grid)
        features = extracted.summary()
        if not self._has_phase:
            features = known_of_audio(features, has_levels=self._meter is not None)
        self._count(features, extracted.signal_present)
        flags = (*self._flags(iq, features["noise_floor_dbm"]["mean"], full_scale_dbm), *extracted.flags)
        self.summary.flags.update(flags)
        return self._entry(signal_present=extracted.signal_present, features=features, flags=flags)

    def reason_against_times(self) -> str | None:
        """Why the station's samples carry no time difference; None where they do."""
        if not self._has_phase:
            return "it gave audio, which has no phase"
        return reason_against_clock(self.recording)

    def _gain_correction_db(self, iq: NDArray[np.complex64], first_sample: int) -> float:
        """Difference of full scale, as the receiver's own meter gives it, from the recording's; 0 without a meter."""
        if self._meter is None:
            return 0.0
        full_scale_db = self._meter.full_scale_db(iq, first_sample, self.recording.sample_rate_hz)
        if full_scale_db is None:
            return 0.0
        # A meter in dBFS says where full scale was before the gain control; its dBm are the station's.
        is_dbm = self._meter.kind is LevelKind.DBM
        return full_scale_db - (self.recording.full_scale_dbm if is_dbm else 0.0)

    def _flags(self, iq: NDArray[np.complex64], noise_floor_dbm: float | None, full_scale_dbm: float) -> Iterator[str]:
        """Reasons in the recording to distrust the levels."""
        if self.recording.note is not None:
            yield self.recording.note
        if not self._has_phase:
            yield unknown_of_audio_text(has_levels=self._meter is not None)
        if self._meter is not None and self._meter.kind is LevelKind.DBM:
            yield "levels by the receiver's own S-meter: its gain was automatic"
        elif not self.recording.is_calibrated:
            yield "uncalibrated: levels relative to full scale"
        step = self.recording.quantisation_step
        share = clipped_share(iq, step)
        if share > CLIPPED_SHARE:
            yield f"clipped: {share:.1%} of the numbers are at full scale; reduce the receiver's gain"
        if self.filter is not None:
            yield self._filter_flag(self.filter)
        if step is not None and noise_floor_dbm is not None:
            # Rounding both components adds step**2 / 12 each over the sampled band (Bennett, 1948).
            usable_share = self.usable_hz / self.recording.sample_rate_hz
            received_share = usable_share if usable_share < USABLE_BAND else 1.0
            quantisation_dbm = 10 * math.log10(step**2 / 6 * received_share) + full_scale_dbm
            if noise_floor_dbm < quantisation_dbm + AT_QUANTISATION_DB:
                yield (
                    "noise_floor_dbm is the rounding of the samples: it may be far too low, and snr_db too high; the "
                    "receiver's filter is narrower than the sampled band (give --passband), or its gain too low"
                )

    def _filter_flag(self, found: Passband) -> str:
        flag = f"the receiver's filter passes {found}"
        if found.width_around_centre_hz < MIN_BANDWIDTH_HZ:
            return f"{flag}, without the centre: noise_floor_dbm is too low and snr_db too high; give --passband"
        return f"{flag}: measured in {self.usable_hz:.0f} Hz around the centre (--passband sets another width)"

    def _count(self, features: dict[str, dict[str, float | None]], signal_present: bool) -> None:
        self.summary.segments += 1
        if not signal_present:
            return
        self.summary.segments_present += 1
        for values, name in (
            (self.summary.snr_db, "snr_db"),
            (self.summary.cn0_dbhz, "cn0_dbhz"),
            (self.summary.rssi_dbm, "rssi_dbm"),
            (self.summary.frequency_offset_hz, "frequency_offset_hz"),
        ):
            mean = features[name]["mean"]
            if mean is not None:
                values.append(mean)

    def without_features(self, reason: str) -> ReceiverFeatures:
        """An entry with the reason why features are missing."""
        return self._entry(signal_present=False, features={}, flags=(), error_message=reason)

    def _entry(self, **values: Any) -> ReceiverFeatures:
        station = self.recording.station
        return ReceiverFeatures(
            rx_id=station.rx_id,
            rx_lat=station.latitude,
            rx_lon=station.longitude,
            rx_alt_m=station.altitude_m,
            **values,
        )


def _plan(extractors: Sequence[_StationExtractor]) -> tuple[SegmentGrid | None, str | None]:
    readable = [extractor.interval for extractor in extractors if extractor.iq is not None]
    if not readable:
        reasons = "; ".join(f"{x.summary.rx_id}: {x.summary.error_message}" for x in extractors)
        return None, f"no station could be read: {reasons}"
    try:
        return plan_segments(readable), None
    except NoSegmentError as error:
        for extractor in extractors:
            extractor.summary.error_message = extractor.summary.error_message or str(error)
        return None, str(error)


def _extract_segments(
    session: RecordingSession,
    inputs: FeatureInputs,
    extractors: Sequence[_StationExtractor],
    grid: SegmentGrid,
    writer: SessionFeatureWriter,
    pairs: PairColumns,
    progress: Progress,
) -> None:
    every = max(1, grid.num_segments // SPECTROGRAM_TIMES)
    num_times = max(1, min(SPECTROGRAM_TIMES_PER_SEGMENT, SPECTROGRAM_TIMES // grid.num_segments))
    throttle = Throttle(PROGRESS_INTERVAL_S)
    rows: list[SessionFeatureRow] = []
    reasons = {x.summary.rx_id: reason for x in extractors if (reason := x.reason_against_times()) is not None}
    compared = [x for x in extractors if x.iq is not None and x.summary.rx_id not in reasons]
    passbands_hz = [min(x.usable_hz, USABLE_BAND * x.recording.sample_rate_hz) for x in compared]
    time_grid = segment_grid(grid.chunks_per_segment * CHUNK_NS, session.bandwidth_hz, passbands_hz)
    for extractor in compared:
        extractor.grid = time_grid
    for segment_idx in range(grid.num_segments):
        receivers = tuple(
            extractor.extract(grid, segment_idx, session.bandwidth_hz, num_times if segment_idx % every == 0 else 0)
            for extractor in extractors
        )
        differences = differences_of_segment(
            receivers,
            {x.summary.rx_id: x.on_grid for x in extractors if x.on_grid is not None},
            reasons,
            time_grid,
        )
        pairs.add(differences)
        rows.append(_row(session, inputs, grid, segment_idx, receivers, differences))
        if len(rows) == ROWS_PER_INSERT:
            writer.add(rows)
            rows = []
        if throttle.is_due():
            progress(f"{segment_idx + 1} of {grid.num_segments} segments extracted")
    writer.add(rows)


def _row(
    session: RecordingSession,
    inputs: FeatureInputs,
    grid: SegmentGrid,
    segment_idx: int,
    receivers: tuple[ReceiverFeatures, ...],
    differences: tuple[PairTimeDifference, ...],
) -> SessionFeatureRow:
    source = session.known_source
    all_failed = all(receiver.error_message is not None for receiver in receivers)
    return SessionFeatureRow(
        segment_idx=segment_idx,
        start_time_unix_ns=grid.segment_start_ns(segment_idx),
        receivers=receivers,
        time_differences=differences,
        **_truth(session),
        extraction_metadata=SessionExtraction(
            bandwidth_hz=session.bandwidth_hz,
            num_segments=grid.num_segments,
            segment_ms=SEGMENT_NS // 10**6,
            chunk_ms=CHUNK_NS // 10**6,
            num_chunks=grid.chunks_per_segment,
            start_time_unix_ns=grid.segment_start_ns(segment_idx),
            notes=_notes(grid),
            inputs_sha256=inputs.sha256,
        ),
        **vars(ReceiverAggregate.of(receivers, (source.latitude, source.longitude) if source else None)),
        extraction_failed=all_failed,
        error_message="; ".join(f"{x.rx_id}: {x.error_message}" for x in receivers) if all_failed else None,
    )


def _failed_row(
    session: RecordingSession, inputs: FeatureInputs, extractors: Sequence[_StationExtractor], problem: str | None
) -> SessionFeatureRow:
    return SessionFeatureRow(
        segment_idx=0,
        start_time_unix_ns=min(extractor.interval.start_ns for extractor in extractors),
        receivers=tuple(x.without_features(x.summary.error_message or "not extracted") for x in extractors),
        time_differences=(),
        **_truth(session),
        extraction_metadata=SessionExtraction(
            bandwidth_hz=session.bandwidth_hz, num_segments=0, inputs_sha256=inputs.sha256
        ),
        overall_confidence=0.0,
        mean_snr_db=None,
        gdop=None,
        extraction_failed=True,
        error_message=problem,
    )


def _truth(session: RecordingSession) -> dict[str, Any]:
    source = session.known_source
    return {
        "tx_latitude": source.latitude if source else None,
        "tx_longitude": source.longitude if source else None,
        "tx_altitude_m": source.altitude_m if source else None,
        "tx_power_dbm": source.power_dbm if source else None,
    }


def _notes(grid: SegmentGrid) -> tuple[str, ...]:
    if grid.chunks_per_segment * CHUNK_NS == SEGMENT_NS:
        return ()
    return (
        f"the recording is shorter than a segment: {grid.chunks_per_segment} whole chunks of "
        f"{CHUNK_NS // 10**6} ms were used instead of {SEGMENT_NS // CHUNK_NS}",
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(f"{statistics.fmean(values):.6g}") if values else None
