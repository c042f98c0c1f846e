"""SigMF collections, and archives: a tar file that holds a recording's metadata and data, read where they lie."""

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from heimdall_pipelines.formats.samples import RecordingFormatError, open_file
from heimdall_pipelines.formats.sigmf_metadata import MAX_META_BYTES

COLLECTION_SUFFIX = ".sigmf-collection"
_MAX_MEMBERS = 10_000


@dataclass(frozen=True)
class ArchivedRecording:
    """Metadata, and where the data lie in the archive: byte and number of bytes."""

    meta: bytes
    offset: int
    size: int


def read_archive(path: Path) -> ArchivedRecording:
    """Find the one recording in an archive; nothing is unpacked.

    Raises
    ------
    RecordingFormatError
        If it is not a tar file, compressed, or holds no recording or several.
    """
    with open_file(path):
        pass  # a missing or special file
    try:
        with tarfile.open(path, "r:") as archive:
            files: dict[PurePosixPath, tarfile.TarInfo] = {}
            for member in archive:
                if member.isreg():
                    files[PurePosixPath(member.name)] = member
                if len(files) > _MAX_MEMBERS:
                    raise RecordingFormatError(path, f"holds more than {_MAX_MEMBERS} files")
            metas = [name for name in files if name.suffix == ".sigmf-meta"]
            if len(metas) != 1:
                listed = ", ".join(str(name) for name in metas[:10]) or "none"
                raise RecordingFormatError(
                    path,
                    f"holds {len(metas)} recordings ({listed}); unpack it with tar and import the recordings it holds",
                )
            data = files.get(metas[0].with_suffix(".sigmf-data"))
            meta = files[metas[0]]
            if data is None or data.issparse():
                raise RecordingFormatError(path, f"holds {metas[0]}, but not its .sigmf-data")
            if meta.size > MAX_META_BYTES:
                raise RecordingFormatError(path, f"{metas[0]} has more than {MAX_META_BYTES} bytes")
            with open_file(path) as file:
                file.seek(meta.offset_data)
                content = file.read(meta.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        if isinstance(error, RecordingFormatError):
            raise
        raise RecordingFormatError(path, f"is not a SigMF archive (an uncompressed tar file): {error}") from error
    return ArchivedRecording(content, data.offset_data, data.size)


def recordings_of_collection(path: Path) -> list[Path]:
    """Return the .sigmf-meta files of a .sigmf-collection, which lie beside it.

    Raises
    ------
    RecordingFormatError
        If it is not a collection, names no recording, or a recording is missing or not the one whose hash it has.
    """
    with open_file(path) as file:
        text = file.read(MAX_META_BYTES + 1)
    try:
        streams = json.loads(text)["collection"]["core:streams"]
        named = [(stream["name"], stream.get("hash")) for stream in streams]
        if not named or not all(isinstance(name, str) and PurePosixPath(name).name == name for name, _ in named):
            raise ValueError("core:streams must be a list of objects with names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordingFormatError(path, f"is not a SigMF collection: {error}") from error
    metas = []
    for name, expected in named:
        meta = path.with_name(name if name.endswith(".sigmf-meta") else f"{name}.sigmf-meta")
        with open_file(meta) as file:
            digest = hashlib.sha512(file.read(MAX_META_BYTES + 1)).hexdigest()
        if expected is not None and str(expected).lower() != digest:
            raise RecordingFormatError(path, f"{meta.name} is not the file whose hash (SHA-512) the collection has")
        metas.append(meta)
    return metas


def expanded(paths: list[Path]) -> list[Path]:
    """Replace each collection by its recordings."""
    found = []
    for path in paths:
        found += recordings_of_collection(path) if path.suffix.lower() == COLLECTION_SUFFIX else [path]
    return found
