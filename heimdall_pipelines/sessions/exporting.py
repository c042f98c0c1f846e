"""Writes a session's recordings as SigMF files: conforming pairs with a collection, or an archive per station."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sigmf

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.iq_objects import StationIq, read_sidecar
from heimdall_pipelines.store.measurements import StationRecording, list_recordings
from heimdall_pipelines.store.sessions import SessionKey, get_session
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress, Throttle

_BLOCK_SAMPLES = 1 << 20
PROGRESS_INTERVAL_S = 2.0


class ExportError(HeimdallError):
    """The session could not be exported; the message says why."""


@dataclass(frozen=True)
class ExportReport:
    """Files that were written, and stations without samples."""

    slug: str
    files: tuple[Path, ...]
    without_samples: tuple[str, ...]


def export_session(
    stores: Stores, key: SessionKey, folder: Path, *, as_archive: bool, progress: Progress
) -> ExportReport:
    """Write each station's samples as ``RX_ID.sigmf-data`` and ``RX_ID.sigmf-meta``, or as ``RX_ID.sigmf``.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        The session's id or slug.
    folder : Path
        Is made if it is missing; nothing in it is overwritten.
    as_archive : bool
        One tar file per station instead of pairs with a collection.
    progress : callable
        Called with a line to show, every few seconds.

    Raises
    ------
    ExportError
        Nothing was recorded, or a file exists or cannot be written.
    ObjectNotFoundError, IqObjectError
        Samples or their description are missing or damaged.
    """
    session = get_session(stores.database, key)
    recordings = list_recordings(stores.database, session.id)
    recorded = [recording for recording in recordings if recording.location is not None]
    if not recorded:
        raise ExportError(f"session {session.slug} holds no samples")
    names = [recording.station.rx_id for recording in recorded]
    collection = folder / f"{session.slug}.sigmf-collection"
    wanted = [folder / f"{name}{suffix}" for name in names for suffix in _suffixes(as_archive)]
    wanted += [] if as_archive else [collection]
    existing = [path.name for path in wanted if path.exists()]
    if existing:
        raise ExportError(f"{folder} holds {', '.join(existing)} already: give another folder with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for recording in recorded:
            _export_station(stores, recording, folder, as_archive, progress)
        if not as_archive:
            _write_collection(collection, [folder / f"{name}.sigmf-meta" for name in names], session.name)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror or error}") from error
    failed = tuple(recording.station.rx_id for recording in recordings if recording.location is None)
    return ExportReport(session.slug, tuple(wanted), failed)


def _suffixes(as_archive: bool) -> tuple[str, ...]:
    return (".sigmf",) if as_archive else (".sigmf-data", ".sigmf-meta")


def _export_station(
    stores: Stores, recording: StationRecording, folder: Path, as_archive: bool, progress: Progress
) -> None:
    assert recording.location is not None
    rx_id = recording.station.rx_id
    iq = StationIq(stores.objects, recording)
    sidecar = read_sidecar(stores.objects, recording.location)
    data = folder / f"{rx_id}.sigmf-data"
    partial = data.with_name(f".{data.name}.partial")
    throttle = Throttle(PROGRESS_INTERVAL_S)
    digest = hashlib.sha512()
    try:
        with partial.open("wb") as file:
            for start in range(0, iq.num_samples, _BLOCK_SAMPLES):
                block = iq.read(start, min(_BLOCK_SAMPLES, iq.num_samples - start)).tobytes()
                file.write(block)
                digest.update(block)
                if throttle.is_due():
                    progress(f"exporting {rx_id}: {start / iq.num_samples:.0%}")
        meta = json.dumps(conforming(sidecar, digest.hexdigest()), indent=2).encode()
        if as_archive:
            _write_archive(folder / f"{rx_id}.sigmf", rx_id, meta, partial)
        else:
            (folder / f"{rx_id}.sigmf-meta").write_bytes(meta)
            partial.rename(data)
    finally:
        partial.unlink(missing_ok=True)


def conforming(sidecar: dict[str, Any], sha512: str) -> dict[str, Any]:
    """Return the description of an IQ object as that of a conforming ``.sigmf-data`` file of its samples."""
    core = {key: value for key, value in sidecar["global"].items() if key != "core:dataset"}
    captures = [
        {key: value for key, value in capture.items() if key != "core:header_bytes"} for capture in sidecar["captures"]
    ]
    return sidecar | {"global": core | {"core:sha512": sha512}, "captures": captures}


def _write_archive(path: Path, rx_id: str, meta: bytes, data: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
            entry = tarfile.TarInfo(f"{rx_id}/{rx_id}.sigmf-meta")
            entry.size = len(meta)
            archive.addfile(entry, io.BytesIO(meta))
            entry = tarfile.TarInfo(f"{rx_id}/{rx_id}.sigmf-data")
            entry.size = data.stat().st_size
            with data.open("rb") as samples:
                archive.addfile(entry, samples)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_collection(path: Path, metas: list[Path], description: str) -> None:
    streams = [
        {"name": meta.name.removesuffix(".sigmf-meta"), "hash": hashlib.sha512(meta.read_bytes()).hexdigest()}
        for meta in metas
    ]
    collection = {
        "core:version": sigmf.__specification__,
        "core:description": description,
        "core:streams": streams,
    }
    path.write_text(json.dumps({"collection": collection}, indent=2))
