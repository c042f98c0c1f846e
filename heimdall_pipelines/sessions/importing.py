"""Brings recording files into the store as one completed session."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from uuid import UUID

import numpy as np

from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.formats.iq_recording import IqRecording
from heimdall_pipelines.rf.features import (
    MAX_SAMPLE_RATE_HZ,
    MIN_SAMPLE_RATE_HZ,
    default_channel_bandwidth_hz,
)
from heimdall_pipelines.rf.segments import Interval, NoSegmentError, plan_segments
from heimdall_pipelines.rf.spectrum import USABLE_BAND
from heimdall_pipelines.sessions.import_channel import channel_of
from heimdall_pipelines.sessions.import_differences import FileValues, refuse_other_values
from heimdall_pipelines.sessions.import_request import (
    MIN_BANDWIDTH_HZ,
    ImportFile,
    ImportOptions,
    ImportRefusedError,
    content_digest,
    open_files,
)
from heimdall_pipelines.sessions.import_stations import resolve_stations
from heimdall_pipelines.sessions.sidecar import session_sidecar
from heimdall_pipelines.stations.network import Network
from heimdall_pipelines.store.iq_form import NEW_FORM, IqForm
from heimdall_pipelines.store.iq_objects import put_iq, remove_session_iq, session_iq_location
from heimdall_pipelines.store.measurements import StationRecording, list_recordings
from heimdall_pipelines.store.session_completion import complete_session
from heimdall_pipelines.store.session_import import (
    ImportedSession,
    begin_import,
    discard_session,
    has_content,
    import_lock,
    may_hold_npy,
    sessions_holding,
)
from heimdall_pipelines.store.session_slugs import check_slug, default_session_name, session_slug
from heimdall_pipelines.store.sessions import SessionIdentity, SessionNotFoundError, get_session
from heimdall_pipelines.store.stations import MAX_LEVEL_DBM, Station
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress, Throttle

__all__ = [
    "FREQUENCY_TOLERANCE_HZ",
    "MIN_BANDWIDTH_HZ",
    "ImportFile",
    "ImportOptions",
    "ImportRefusedError",
    "ImportReport",
    "import_session",
]

logger = logging.getLogger(__name__)

FREQUENCY_TOLERANCE_HZ = 1.0
MAX_SESSION_NAME_CHARACTERS = 500
PROGRESS_INTERVAL_S = 2.0


@dataclass(frozen=True)
class ImportReport:
    """Result of an import."""

    session_id: UUID
    slug: str
    revision: int
    name: str
    is_new: bool
    recordings: tuple[StationRecording, ...]


@dataclass(frozen=True)
class _Source:
    """One file, opened, with the station that recorded it."""

    recording: IqRecording
    station: Station
    full_scale_dbm: float
    is_calibrated: bool


_Sums = Mapping[str, Mapping[IqForm, str]]  # SHA-256 of the object of each station, by its form


def import_session(
    stores: Stores, network: Network, files: Sequence[ImportFile], options: ImportOptions, progress: Progress
) -> ImportReport:
    """Import recordings of several stations as one completed session.

    Every file is read twice: once to check every sample and to compute its checksum, before anything
    is stored, and once to store it. A failed import leaves nothing of the session behind. A killed
    import leaves a session in progress, which importing the same files again completes.

    Parameters
    ----------
    stores : Stores
        Where rows and objects go.
    network : Network
        Positions of stations that have no row yet.
    files : sequence of ImportFile
        One per station.
    options : ImportOptions
        Values given for all files.
    progress : callable
        Called with a line to show, every few seconds.

    Returns
    -------
    ImportReport
        ``is_new`` is false when the same content was imported before; nothing changed then.

    Raises
    ------
    ImportRefusedError, RecordingFormatError, SlugError
        The files cannot be imported as a session; each message names the file.
    SessionBeingDeletedError
        The session of the same content is being deleted, or its deletion began meanwhile.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    if options.slug is not None:
        check_slug(options.slug)
    _check_name(options.name)
    for level_dbm in (options.full_scale_dbm, *(file.full_scale_dbm for file in files)):
        if level_dbm is not None and not abs(level_dbm) <= MAX_LEVEL_DBM:  # NaN is refused, too
            raise ImportRefusedError(
                f"--full-scale-dbm {level_dbm:g}: -{MAX_LEVEL_DBM:g} to {MAX_LEVEL_DBM:g} dBm are possible"
            )
    recordings, notes = open_files(files, options)
    if options.channel_hz is not None:
        wide, channel_hz = recordings, _checked_channel_hz(options.channel_hz)
        recordings = [channel_of(recording, channel_hz) for recording in wide]
        notes += [
            f"{new.path.name}: {new.notes[-1]}" for new, old in zip(recordings, wide, strict=True) if new is not old
        ]
    for note in notes:
        progress(note)
    frequency_hz = _common_frequency_hz(recordings)
    stations = resolve_stations(stores, network, files, recordings)
    lowest_rate_hz = min(recording.sample_rate_hz for recording in recordings)
    passband_hz = _checked_width_hz("--passband", options.passband_hz, USABLE_BAND * lowest_rate_hz)
    usable_hz = passband_hz or USABLE_BAND * lowest_rate_hz
    bandwidth_hz = _checked_width_hz("--bandwidth", options.bandwidth_hz, usable_hz) or min(
        default_channel_bandwidth_hz(lowest_rate_hz), usable_hz
    )
    _refuse_without_common_time(recordings)
    sources = [
        _calibrated(recording, station, options.full_scale_dbm if file.full_scale_dbm is None else file.full_scale_dbm)
        for file, recording, station in zip(files, recordings, stations, strict=True)
    ]
    for recording in recordings:
        if recording.digest is not None:
            recording.digest.verify()
    sums = _checksums(stores, sources, progress)
    start = datetime.fromtimestamp(min(recording.start_time_unix_ns for recording in recordings) // 10**9, UTC)
    name = options.name or default_session_name(frequency_hz, start)
    form, content_sha256 = _form_and_content(stores, sources, sums)
    imported = ImportedSession(
        wanted_slug=options.slug or session_slug(start, frequency_hz, name, options.known_source),
        name=name,
        frequency_hz=frequency_hz,
        bandwidth_hz=bandwidth_hz,
        known_source=options.known_source,
        content_sha256=content_sha256,
    )
    with import_lock(stores.database, content_sha256):
        _refuse_partly_imported(stores, sources, sums, content_sha256, frequency_hz, options)
        session, is_completed = begin_import(stores.database, imported)
        if is_completed:
            known = get_session(stores.database, session.id)
            stored_before = list_recordings(stores.database, session.id)
            refuse_other_values(known, stored_before, _file_values(sources), frequency_hz, options)
            return ImportReport(known.id, known.slug, known.revision, known.name, False, ())
        try:
            stored = tuple(
                _store(stores, session, source, form, sums, imported, options.passband_hz, progress)
                for source in sources
            )
            stores.objects.sync_before_commit(stores.objects.raw_iq_bucket)
            revision = complete_session(stores.database, session.id, stored)
        except BaseException:
            _clean_up(stores, session)
            raise
    return ImportReport(session.id, session.slug, revision, name, True, stored)


def _check_name(name: str | None) -> None:
    if name and (not name.strip() or len(name) > MAX_SESSION_NAME_CHARACTERS or "\0" in name):
        raise ImportRefusedError(
            "the session's name is empty, has a NUL character, or is longer than "
            f"{MAX_SESSION_NAME_CHARACTERS} characters"
        )


def _common_frequency_hz(recordings: Sequence[IqRecording]) -> float:
    frequencies = {}
    for recording in recordings:
        if not MIN_SAMPLE_RATE_HZ <= recording.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
            raise ImportRefusedError(
                f"{recording.path}: sample rate {recording.sample_rate_hz:g} Hz is outside 8 kHz to 2.4 MHz"
                + ("; decimate it with --channel 200kHz" if recording.sample_rate_hz > MAX_SAMPLE_RATE_HZ else "")
            )
        frequencies[recording.path] = recording.frequency_hz
    if max(frequencies.values()) - min(frequencies.values()) > FREQUENCY_TOLERANCE_HZ:
        listed = ", ".join(f"{path.name}: {value:.10g} Hz" for path, value in frequencies.items())
        raise ImportRefusedError(f"the files are tuned to different frequencies ({listed}); import each on its own")
    return next(iter(frequencies.values()))


def _checked_channel_hz(channel_hz: float) -> float:
    if not MIN_SAMPLE_RATE_HZ <= channel_hz <= MAX_SAMPLE_RATE_HZ / 2:
        raise ImportRefusedError(f"--channel {channel_hz:g} Hz must be from 8 kHz to 1.2 MHz")
    return channel_hz


def _checked_width_hz(option: str, given_hz: float | None, widest_hz: float) -> float | None:
    if given_hz is not None and not MIN_BANDWIDTH_HZ <= given_hz <= widest_hz:
        raise ImportRefusedError(
            f"{option} {given_hz:g} Hz must be from {MIN_BANDWIDTH_HZ:g} Hz to {widest_hz:g} Hz: "
            "the resolution of a 200 ms chunk, and the usable band of the lowest sample rate and passband"
        )
    return given_hz


def _refuse_without_common_time(recordings: Sequence[IqRecording]) -> None:
    try:
        plan_segments([Interval(r.start_time_unix_ns, r.num_samples, r.sample_rate_hz) for r in recordings])
    except NoSegmentError as error:
        listed = "; ".join(
            f"{r.path.name} starts {datetime.fromtimestamp(r.start_time_unix_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
            f" and lasts {r.num_samples / r.sample_rate_hz:.3f} s"
            for r in recordings
        )
        raise ImportRefusedError(f"{error}: {listed}") from error


def _calibrated(recording: IqRecording, station: Station, given_dbm: float | None) -> _Source:
    known_dbm = given_dbm if given_dbm is not None else station.full_scale_dbm
    return _Source(recording, station, 0.0 if known_dbm is None else known_dbm, known_dbm is not None)


def _checksums(stores: Stores, sources: Sequence[_Source], progress: Progress) -> _Sums:
    """Read every file whole; the sums of ``.npy`` objects, as older versions stored them, only if there may be any."""
    lengths = [source.recording.num_samples for source in sources]
    forms = NEW_FORM.then_others() if may_hold_npy(stores.database, lengths) else (NEW_FORM,)
    return {source.station.rx_id: _checksum(source, forms, progress) for source in sources}


def _checksum(source: _Source, forms: Sequence[IqForm], progress: Progress) -> dict[IqForm, str]:
    digests = {form: hashlib.sha256(form.header(source.recording.num_samples)) for form in forms}

    def update(piece: memoryview) -> None:
        for digest in digests.values():
            digest.update(piece)

    # The next block is read and decoded in the meantime: neither needs the interpreter's lock.
    with ThreadPoolExecutor(1, thread_name_prefix="checksum") as hasher:
        updating: Future[None] | None = None
        for piece in _sample_stream(
            source, lambda done: progress(f"checking {source.recording.path.name}: {done:.0%}")
        ):
            if updating is not None:
                updating.result()
            updating = hasher.submit(update, piece)
    return {form: digest.hexdigest() for form, digest in digests.items()}


def _form_and_content(stores: Stores, sources: Sequence[_Source], sums: _Sums) -> tuple[IqForm, str]:
    """Form in which the files are stored, and the digest of their content; what was begun in a form stays in it."""
    of_forms = {
        form: _content_digest(sources, {rx_id: one[form] for rx_id, one in sums.items()})
        for form in NEW_FORM.then_others()
        if all(form in one for one in sums.values())
    }
    known = (form for form, content in of_forms.items() if has_content(stores.database, content))
    form = next(known, NEW_FORM) if len(of_forms) > 1 else NEW_FORM
    return form, of_forms[form]


def _sample_stream(source: _Source, progress: Callable[[float], None]) -> Iterator[memoryview]:
    """The samples as they are stored, block by block; reports progress every few seconds."""
    throttle = Throttle(PROGRESS_INTERVAL_S)
    done = 0
    for block in source.recording.blocks():
        yield np.ascontiguousarray(block, dtype="<c8").data.cast("B")
        done += block.size
        if throttle.is_due():
            progress(done / source.recording.num_samples)


def _content_digest(sources: Sequence[_Source], sha256: Mapping[str, str]) -> str:
    return content_digest(
        (source.station.rx_id, source.recording.start_time_unix_ns, sha256[source.station.rx_id]) for source in sources
    )


def _file_values(sources: Sequence[_Source]) -> list[FileValues]:
    return [
        FileValues(
            source.station.rx_id,
            source.recording.sample_rate_hz,
            source.recording.start_time_unix_ns,
            source.full_scale_dbm if source.is_calibrated else None,
        )
        for source in sources
    ]


def _refuse_partly_imported(
    stores: Stores,
    sources: Sequence[_Source],
    sums: _Sums,
    content_sha256: str,
    frequency_hz: float,
    options: ImportOptions,
) -> None:
    """Refuse files of which some, but not all, were imported before, or all with other starts."""
    every_sum = [sha256 for one in sums.values() for sha256 in one.values()]
    held = sessions_holding(stores.database, every_sum, other_than_content=content_sha256)
    slugs = {
        rx_id: next((held[sha256] for sha256 in one.values() if sha256 in held), None) for rx_id, one in sums.items()
    }
    (slug, *others) = set(slugs.values())
    if slug is not None and not others:
        known = get_session(stores.database, slug)
        stored = list_recordings(stores.database, known.id)
        if {r.station.rx_id for r in stored} == set(sums) and all(
            r.sha256 in sums[r.station.rx_id].values() for r in stored
        ):
            refuse_other_values(known, stored, _file_values(sources), frequency_hz, options)
    listed = [
        f"{source.recording.path.name} (session {slugs[source.station.rx_id]})"
        for source in sources
        if slugs[source.station.rx_id] is not None
    ]
    if listed:
        raise ImportRefusedError(
            f"already imported in another session: {', '.join(listed)}; leave these files out of this import, or "
            f"first: heimdall session delete {next(iter(held.values()))}"
        )


def _store(
    stores: Stores,
    session: SessionIdentity,
    source: _Source,
    form: IqForm,
    sums: _Sums,
    imported: ImportedSession,
    passband_hz: float | None,
    progress: Progress,
) -> StationRecording:
    file, station = source.recording, source.station
    sha256 = sums[station.rx_id][form]
    location = session_iq_location(stores.objects, session.id, station.rx_id, form)
    recording = StationRecording(
        station=station,
        start_time_unix_ns=file.start_time_unix_ns,
        sample_rate_hz=file.sample_rate_hz,
        samples_count=file.num_samples,
        location=location,
        iq_data_format=form.data_format,
        sha256=sha256,
        full_scale_dbm=source.full_scale_dbm,
        is_calibrated=source.is_calibrated,
        time_source=file.time_source,
        time_uncertainty_ns=file.time_uncertainty_ns,
        quantisation_step=file.quantisation_step,
        passband_hz=passband_hz,
    )
    sidecar = session_sidecar(
        recording,
        session=session,
        session_name=imported.name,
        frequency_hz=imported.frequency_hz,
        origin=f"imported from {file.format}",
        extra={"source_file": file.path.name, "source_encoding": file.encoding, "notes": list(file.notes)},
        source=file.source,
    )
    samples = _sample_stream(source, lambda done: progress(f"storing {station.rx_id}: {done:.0%}"))
    stream = _ByteStream(chain((form.header(file.num_samples),), samples))
    files = put_iq(stores.objects, location, stream, form.object_bytes(file.num_samples), sidecar)
    if stream.sha256() != sha256:
        raise ImportRefusedError(f"{file.path}: the file changed while it was imported; import it again")
    return replace(recording, etag=files.etag, sidecar_sha256=files.sidecar_sha256)


def _clean_up(stores: Stores, session: SessionIdentity) -> None:
    try:
        with suppress(SessionNotFoundError):  # deleted meanwhile: what was stored since must be removed too
            if get_session(stores.database, session.id).status == "completed":
                return
        remove_session_iq(stores.objects, session.id)
        discard_session(stores.database, session.id)
    except UnavailableError as error:
        logger.warning(
            "session %s stays in progress; importing the same files again completes it (%s)", session.slug, error
        )


class _ByteStream:
    """A file-like view of an iterator of byte pieces, with the digest of the bytes read."""

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        taken: list[memoryview] = []
        wanted = size if size >= 0 else None
        while wanted is None or wanted > 0:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
                continue
            part = self._rest if wanted is None else self._rest[:wanted]
            self._rest = self._rest[len(part) :]
            taken.append(part)
            if wanted is not None:
                wanted -= len(part)
        data = b"".join(taken)
        self._digest.update(data)
        return data

    def sha256(self) -> str:
        return self._digest.hexdigest()
