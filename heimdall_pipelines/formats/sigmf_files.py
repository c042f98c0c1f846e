"""SigMF recordings: reads a .sigmf-meta with its samples.

Specification: SigMF 1.2, https://sigmf.org. A .npy file described by a .sigmf-meta, as older objects are, is a
Non-Conforming Dataset: ``core:dataset`` names it and ``core:header_bytes`` of the capture skips its header.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from heimdall_pipelines.formats.iq_recording import ExpectedDigest, GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.npy import NPY_MAGIC, read_npy_header
from heimdall_pipelines.formats.samples import RecordingFormatError, SampleLayout, file_size, open_file
from heimdall_pipelines.formats.sigmf_archive import read_archive
from heimdall_pipelines.formats.sigmf_metadata import (
    SigmfMetadata,
    capture_time_ns,
    check_contiguous,
    position_of,
    read_metadata,
)

ARCHIVE_SUFFIX = ".sigmf"


def open_sigmf(path: Path, given: GivenValues) -> IqRecording:
    """Open a SigMF recording by its .sigmf-meta, its .sigmf-data or its archive (.sigmf).

    Parameters
    ----------
    path : Path
        Either file of the pair, or an archive.
    given : GivenValues
        Completes or overrides sample rate, frequency and time of the first capture.

    Raises
    ------
    RecordingFormatError
        If the metadata describe anything else than one channel of complex samples at one frequency without gaps, do not
        fit the data file, or a value is missing. What does not matter to the samples is read with a note.
    """
    name = path.name.lower()
    if name.endswith(ARCHIVE_SUFFIX):
        archived = read_archive(path)
        meta = read_metadata(path, archived.meta)
        data = _Data(path, archived.offset, archived.size)
    else:
        meta_path = path.with_name(path.name[: -len("data")] + "meta") if name.endswith("data") else path
        meta = read_metadata(meta_path)
        data = _data_file(meta)
        if path not in (meta_path, data.path):
            raise RecordingFormatError(path, f"is not what {meta_path.name} describes: that is {data.path.name}")
    layout = _layout(meta, data)
    first = meta.captures[0]
    in_file = GivenValues(meta.sample_rate_hz, first.frequency_hz, _start_ns(meta, given))
    values = resolve_values(meta.path, given, in_file)
    if values.time_source == "file" or len(meta.captures) > 1:
        check_contiguous(meta, values.sample_rate_hz)
    core = meta.core
    rx_id = core.get("heimdall:rx_id")
    return IqRecording(
        path=path,
        format="sigmf",
        encoding=meta.encoding_name,
        receiver_name=rx_id if isinstance(rx_id, str) else None,
        position=position_of(meta.path, first.raw.get("core:geolocation") or core.get("core:geolocation")),
        layout=layout,
        notes=tuple(meta.notes),
        source=meta.source(),
        digest=_digest(core, data),
        **vars(values),
    )


@dataclass(frozen=True)
class _Data:
    """Where the bytes of the data file lie."""

    path: Path
    offset: int
    size: int


def _start_ns(meta: SigmfMetadata, given: GivenValues) -> int | None:
    """The first capture's time; a malformed one does not matter where a start is given."""
    is_given = given.start_time_unix_ns is not None
    is_given |= given.otherwise is not None and given.otherwise.start_time_unix_ns is not None
    try:
        return capture_time_ns(meta, meta.captures[0].raw)
    except RecordingFormatError as error:
        if not is_given:
            raise RecordingFormatError(meta.path, f"{error.reason}: give --start") from error
        meta.notes.append(f"{error.reason}: the start that was given is used")
        return None


def _digest(core: Mapping[str, Any], data: _Data) -> ExpectedDigest | None:
    sha512 = core.get("core:sha512")
    return ExpectedDigest(data.path, data.offset, data.size, sha512) if isinstance(sha512, str) else None


def _data_file(meta: SigmfMetadata) -> _Data:
    dataset = meta.core.get("core:dataset")
    if dataset is None:
        path = meta.path.with_name(meta.path.name[: -len("meta")] + "data")
    elif _is_bare_name(dataset):
        path = meta.path.with_name(dataset)
    else:
        raise RecordingFormatError(meta.path, f"core:dataset {str(dataset)[:100]!r} must be a bare file name beside it")
    header_bytes = meta.captures[0].header_bytes
    with open_file(path) as file:
        size = file_size(file)
        starts_as_npy = file.read(len(NPY_MAGIC)) == NPY_MAGIC
        file.seek(0)
        npy = read_npy_header(file, path) if starts_as_npy else None
    if npy is not None and (npy.header_bytes != header_bytes or npy.encoding != meta.encoding or npy.is_planar):
        raise RecordingFormatError(
            meta.path,
            f"says core:header_bytes {header_bytes} and {meta.core['core:datatype']}, but {path.name} is a .npy file "
            f"with a header of {npy.header_bytes} bytes before samples of {npy.dtype}",
        )
    return _Data(path, 0, size)


def _is_bare_name(name: object) -> TypeGuard[str]:
    """Whether a name has no folder, in the notation of any system; an empty one and ``..`` are none."""
    return isinstance(name, str) and name not in ("", "..") and Path(name).name == name and not {"\\", "\0"} & set(name)


def _layout(meta: SigmfMetadata, data: _Data) -> SampleLayout:
    """The runs of samples, each after the header of its capture."""
    encoding, captures = meta.encoding, meta.captures
    sample_bytes = data.size - sum(capture.header_bytes for capture in captures) - meta.trailing_bytes
    if sample_bytes < 0:
        raise RecordingFormatError(
            data.path, f"is truncated: has {data.size} bytes, fewer than its header and trailer", data.size
        )
    num_samples, rest = divmod(sample_bytes, encoding.sample_bytes)
    if rest:
        raise RecordingFormatError(
            data.path,
            f"ends within a sample: {sample_bytes} bytes are not a multiple of {encoding.sample_bytes}",
            data.offset + data.size - rest,
        )
    declared = meta.core.get("heimdall:num_samples", num_samples)
    if declared != num_samples:
        raise RecordingFormatError(
            data.path, f"holds {num_samples} samples, its metadata say {str(declared)[:40]}", data.size
        )
    if captures[-1].start >= num_samples:
        raise RecordingFormatError(
            data.path, f"holds {num_samples} samples, fewer than its captures begin at", data.size
        )
    offsets, starts, headers = [], [], data.offset
    for capture in captures:
        headers += capture.header_bytes
        offsets.append(headers + capture.start * encoding.sample_bytes)
        starts.append(capture.start - captures[0].start)
    starts.append(num_samples - captures[0].start)
    return SampleLayout(data.path, encoding, np.array(offsets, np.int64), np.array(starts, np.int64))
