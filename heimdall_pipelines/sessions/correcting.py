"""Corrects what was said of a completed session: frequency, channel, and each station's start, rate and level."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.clock import Clock
from heimdall_pipelines.rf.features import MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ
from heimdall_pipelines.rf.segments import Interval, NoSegmentError, plan_segments
from heimdall_pipelines.rf.spectrum import USABLE_BAND
from heimdall_pipelines.sessions.completed import require_completed
from heimdall_pipelines.sessions.import_request import MIN_BANDWIDTH_HZ, content_digest
from heimdall_pipelines.sessions.sidecar import corrected_sidecar
from heimdall_pipelines.store.iq_objects import put_sidecar, read_sidecar
from heimdall_pipelines.store.measurements import StationRecording, list_recordings
from heimdall_pipelines.store.session_correction import replace_metadata
from heimdall_pipelines.store.sessions import SessionKey, get_session
from heimdall_pipelines.store.stores import Stores


class CorrectionRefusedError(HeimdallError):
    """The session cannot be corrected so; nothing was changed."""


@dataclass(frozen=True)
class Correction:
    """New values; None, or no entry for a station: as it is. The mappings are by rx_id."""

    frequency_hz: float | None = None
    bandwidth_hz: float | None = None
    start_time_unix_ns: Mapping[str, int] = field(default_factory=dict)
    sample_rate_hz: Mapping[str, float] = field(default_factory=dict)
    full_scale_dbm: Mapping[str, float] = field(default_factory=dict)
    passband_hz: Mapping[str, float] = field(default_factory=dict)
    clock: Mapping[str, Clock] = field(default_factory=dict)


@dataclass(frozen=True)
class CorrectionReport:
    """Result of a correction; `revision` is the old one if nothing differed."""

    slug: str
    revision: int
    changes: tuple[str, ...]


def correct_session(stores: Stores, key: SessionKey, correction: Correction) -> CorrectionReport:
    """Correct a completed session; its samples stay, its revision counts up, its features are due again.

    The SigMF descriptions are written first: a correction that was interrupted is completed by repeating it.

    Raises
    ------
    NotCompletedError
        The session is not completed.
    CorrectionRefusedError
        It lacks a station, or a value is out of range.
    SessionNotFoundError, SessionBeingDeletedError, SessionChangedError
        See `replace_metadata`.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    session = get_session(stores.database, key)
    require_completed(session, "correct")
    recordings = list_recordings(stores.database, session.id)
    _check_stations(correction, recordings)
    corrected = [_corrected(recording, correction) for recording in recordings]
    frequency_hz = session.frequency_hz if correction.frequency_hz is None else correction.frequency_hz
    lowest_rate_hz = min(recording.sample_rate_hz for recording in corrected if recording.samples_count)
    bandwidth_hz = correction.bandwidth_hz or min(session.bandwidth_hz, USABLE_BAND * lowest_rate_hz)
    changes = [*_changes("frequency", session.frequency_hz, frequency_hz, " Hz")]
    changes += _changes("channel", session.bandwidth_hz, bandwidth_hz, " Hz")
    for old, new in zip(recordings, corrected, strict=True):
        changes += _station_changes(old, new)
    if not changes:
        return CorrectionReport(session.slug, session.revision, ())
    _check_values(corrected, frequency_hz, bandwidth_hz)
    corrected = [_with_corrected_sidecar(stores, recording, frequency_hz) for recording in corrected]
    revision = replace_metadata(
        stores.database,
        session.id,
        corrected,
        of_revision=session.revision,
        frequency_hz=frequency_hz,
        bandwidth_hz=bandwidth_hz,
        content_sha256=_digest(corrected),
    )
    return CorrectionReport(session.slug, revision, tuple(changes))


def _with_corrected_sidecar(stores: Stores, recording: StationRecording, frequency_hz: float) -> StationRecording:
    """Rewrite the recording's sidecar; its SHA-256 stands in the row."""
    if recording.location is None:
        return recording
    sidecar = corrected_sidecar(read_sidecar(stores.objects, recording.location), recording, frequency_hz)
    return replace(recording, sidecar_sha256=put_sidecar(stores.objects, recording.location, sidecar))


def _digest(recordings: Sequence[StationRecording]) -> str:
    return content_digest((r.station.rx_id, r.start_time_unix_ns, r.sha256 or "") for r in recordings)


def _check_stations(correction: Correction, recordings: Sequence[StationRecording]) -> None:
    own = {recording.station.rx_id for recording in recordings}
    named = {
        *correction.start_time_unix_ns,
        *correction.sample_rate_hz,
        *correction.full_scale_dbm,
        *correction.passband_hz,
        *correction.clock,
    }
    if named - own:
        raise CorrectionRefusedError(
            f"station {', '.join(sorted(named - own))} is not of this session; its stations are "
            f"{', '.join(sorted(own))}"
        )


def _corrected(recording: StationRecording, correction: Correction) -> StationRecording:
    rx_id = recording.station.rx_id
    start_ns = correction.start_time_unix_ns.get(rx_id, recording.start_time_unix_ns)
    rate_hz = correction.sample_rate_hz.get(rx_id, recording.sample_rate_hz)
    level_dbm = correction.full_scale_dbm.get(rx_id)
    is_time_given = start_ns != recording.start_time_unix_ns or rate_hz != recording.sample_rate_hz
    time_source = "given" if is_time_given else recording.time_source
    time_uncertainty_ns = None if is_time_given else recording.time_uncertainty_ns
    clock = correction.clock.get(rx_id)
    if clock is not None and clock.uncertainty_us is not None:
        time_source, time_uncertainty_ns = str(clock.kind), round(clock.uncertainty_us * 1e3, 3)
    return replace(
        recording,
        start_time_unix_ns=start_ns,
        sample_rate_hz=rate_hz,
        time_source=time_source,
        time_uncertainty_ns=time_uncertainty_ns,
        full_scale_dbm=recording.full_scale_dbm if level_dbm is None else level_dbm,
        is_calibrated=recording.is_calibrated or level_dbm is not None,
        passband_hz=correction.passband_hz.get(rx_id, recording.passband_hz),
    )


def _station_changes(old: StationRecording, new: StationRecording) -> list[str]:
    rx_id = old.station.rx_id
    changes = []
    if old.start_time_unix_ns != new.start_time_unix_ns:
        shift_s = (new.start_time_unix_ns - old.start_time_unix_ns) / 1e9
        changes.append(f"{rx_id}: start {shift_s:+.9f} s")
    changes += _changes(f"{rx_id}: rate", old.sample_rate_hz, new.sample_rate_hz, " Hz")
    if (old.time_source, old.time_uncertainty_ns) != (new.time_source, new.time_uncertainty_ns):
        changes.append(f"{rx_id}: clock {old.clock} to {new.clock}")
    if (old.full_scale_dbm, old.is_calibrated) != (new.full_scale_dbm, new.is_calibrated):
        changes.append(f"{rx_id}: full scale {new.full_scale_dbm:g} dBm")
    if old.passband_hz != new.passband_hz:
        changes.append(f"{rx_id}: passband {new.passband_hz:g} Hz")
    return changes


def _changes(what: str, old: float, new: float, unit: str) -> list[str]:
    return [] if old == new else [f"{what} {old:.12g} to {new:.12g}{unit}"]


def _check_values(recordings: Sequence[StationRecording], frequency_hz: float, bandwidth_hz: float) -> None:
    recorded = [recording for recording in recordings if recording.samples_count]
    for recording in recorded:
        rx_id = recording.station.rx_id
        if not MIN_SAMPLE_RATE_HZ <= recording.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
            raise CorrectionRefusedError(
                f"{rx_id}: sample rate {recording.sample_rate_hz:g} Hz is outside 8 kHz to 2.4 MHz"
            )
        usable_hz = USABLE_BAND * recording.sample_rate_hz
        if recording.passband_hz is not None and not MIN_BANDWIDTH_HZ <= recording.passband_hz <= usable_hz:
            raise CorrectionRefusedError(
                f"{rx_id}: passband {recording.passband_hz:g} Hz must be from {MIN_BANDWIDTH_HZ:g} to {usable_hz:g} Hz"
            )
        if not 0 <= recording.start_time_unix_ns < 7_258_118_400_000_000_000:
            raise CorrectionRefusedError(f"{rx_id}: the start must lie between 1970 and 2199")
    if not (math.isfinite(frequency_hz) and 0 <= frequency_hz <= 1e12):
        raise CorrectionRefusedError(f"the frequency {frequency_hz} Hz must be from 0 to 1 THz")
    widest_hz = USABLE_BAND * min(recording.sample_rate_hz for recording in recorded)
    if not MIN_BANDWIDTH_HZ <= bandwidth_hz <= widest_hz * (1 + 1e-9):
        raise CorrectionRefusedError(
            f"the channel of {bandwidth_hz:g} Hz must be from {MIN_BANDWIDTH_HZ:g} to {widest_hz:g} Hz wide; "
            "give --bandwidth"
        )
    try:
        plan_segments([Interval(r.start_time_unix_ns, r.samples_count, r.sample_rate_hz) for r in recorded])
    except NoSegmentError as error:
        raise CorrectionRefusedError(f"with these times {error}") from error
