"""SigMF recordings: reads a .sigmf-meta with its samples, and builds the metadata of our own objects.

Specification: SigMF 1.2, https://sigmf.org. A .npy file described by a .sigmf-meta, as older objects are, is a
Non-Conforming Dataset: ``core:dataset`` names it and ``core:header_bytes`` of the capture skips its header.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sigmf

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
from heimdall_pipelines.formats.utc import iso_from_unix_ns

ARCHIVE_SUFFIX = ".sigmf"
_EXTENSION = {"name": "heimdall", "version": "1.0.0", "optional": True}


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
    elif not isinstance(dataset, str) or not dataset or Path(dataset).name != dataset:
        raise RecordingFormatError(meta.path, f"core:dataset {str(dataset)[:100]!r} must be a bare file name beside it")
    elif dataset == ".." or "\\" in dataset or "\0" in dataset:
        raise RecordingFormatError(meta.path, f"core:dataset {dataset[:100]!r} must be a bare file name beside it")
    else:
        path = meta.path.with_name(dataset)
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


def sigmf_meta(
    *,
    dataset_name: str | None = None,
    header_bytes: int = 0,
    num_samples: int,
    sample_rate_hz: float,
    frequency_hz: float,
    start_time_unix_ns: int,
    lat: float,
    lon: float,
    alt_m: float,
    description: str,
    recorder: str,
    extra: Mapping[str, object] | None = None,
    holes: Sequence[tuple[int, int]] = (),
) -> dict[str, Any]:
    """Build the .sigmf-meta of a complex64 file: a .sigmf-data, or another one, such as a .npy.

    Parameters
    ----------
    dataset_name : str, optional
        Bare name of the file, in the same folder as the metadata, if it is not the .sigmf-data of the same name.
    header_bytes : int, optional
        Of such a file, bytes before the first sample (`NpyHeader.header_bytes`).
    num_samples : int
        Stored as ``heimdall:num_samples``, to detect a truncated file.
    sample_rate_hz, frequency_hz : float
        Complex samples per second; centre frequency.
    start_time_unix_ns : int
        UTC of the first sample.
    lat, lon, alt_m : float
        Of the receiver: degrees, m.
    description, recorder : str
        What was recorded; the recording software.
    extra : Mapping[str, object], optional
        Further values by bare name; each becomes ``heimdall:NAME`` of the global object.
    holes : sequence of tuple of int
        First sample and number of samples that were lost and are zeros; each becomes an annotation.

    Returns
    -------
    dict
        To be written with ``json.dumps``.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, or the time outside the years 1 to 9999.
    TypeError
        If a value of `extra` cannot be written as JSON.
    """
    core: dict[str, Any] = {
        "core:datatype": "cf32_le",
        "core:version": sigmf.__specification__,
        "core:sample_rate": sample_rate_hz,
        "core:num_channels": 1,
        **({} if dataset_name is None else {"core:dataset": dataset_name}),
        "core:description": description,
        "core:recorder": recorder,
        "core:extensions": [dict(_EXTENSION)],
        "heimdall:num_samples": num_samples,
    }
    core |= {f"heimdall:{name}": value for name, value in (extra or {}).items()}
    capture: dict[str, Any] = {
        "core:sample_start": 0,
        **({} if dataset_name is None else {"core:header_bytes": header_bytes}),
        "core:frequency": frequency_hz,
        "core:datetime": iso_from_unix_ns(start_time_unix_ns),
        "core:geolocation": {"type": "Point", "coordinates": [lon, lat, alt_m]},
    }
    annotations = [
        {
            "core:sample_start": first,
            "core:sample_count": count,
            "core:label": "hole",
            "core:comment": "samples lost between receiver and recorder, filled with zeros",
        }
        for first, count in holes
    ]
    meta = {"global": core, "captures": [capture], "annotations": annotations}
    json.dumps(meta, allow_nan=False)  # JSON has no NaN: refuse it here
    return meta
