"""SigMF recordings: reads a .sigmf-meta with its samples, and builds the metadata of our own objects.

Specification: SigMF 1.2, https://sigmf.org. A .npy file described by a .sigmf-meta is a Non-Conforming Dataset:
``core:dataset`` names it and ``core:header_bytes`` of the capture skips its header.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sigmf

from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.npy import NPY_MAGIC, read_npy_header
from heimdall_pipelines.formats.samples import Encoding, RecordingFormatError, SampleLayout, file_size, open_file
from heimdall_pipelines.formats.sigmf_metadata import (
    capture_time_ns,
    check_contiguous,
    encoding_of,
    position_of,
    read_metadata,
)
from heimdall_pipelines.formats.utc import iso_from_unix_ns

_EXTENSION = {"name": "heimdall", "version": "1.0.0", "optional": True}


def open_sigmf(path: Path, given: GivenValues) -> IqRecording:
    """Open a SigMF recording by its .sigmf-meta or .sigmf-data.

    Parameters
    ----------
    path : Path
        Either file of the pair.
    given : GivenValues
        Completes or overrides sample rate, frequency and time of the first capture.

    Raises
    ------
    RecordingFormatError
        If the metadata violate the SigMF schema, describe anything else than one channel of complex samples at one
        frequency without gaps, do not fit the data file, or a value is missing. ``core:sha512`` is not checked.
    """
    meta_path = path.with_name(path.name[: -len("data")] + "meta") if path.name.lower().endswith("data") else path
    meta = read_metadata(meta_path)
    core = meta["global"]
    captures = meta["captures"] or [{"core:sample_start": 0}]
    encoding = encoding_of(meta_path, core)
    layout = _layout(meta_path, core, captures, encoding)
    if path not in (meta_path, layout.path):
        raise RecordingFormatError(path, f"is not what {meta_path.name} describes: that is {layout.path.name}")
    first = captures[0]
    in_file = GivenValues(core.get("core:sample_rate"), first.get("core:frequency"), capture_time_ns(meta_path, first))
    values = resolve_values(meta_path, given, in_file)
    check_contiguous(meta_path, captures, values.sample_rate_hz)
    return IqRecording(
        path=path,
        format="sigmf",
        receiver_name=core.get("core:hw"),
        position=position_of(meta_path, first.get("core:geolocation") or core.get("core:geolocation")),
        layout=layout,
        **vars(values),
    )


def _layout(
    meta_path: Path, core: Mapping[str, Any], captures: list[dict[str, Any]], encoding: Encoding
) -> SampleLayout:
    dataset = core.get("core:dataset")
    if dataset is None:
        data_path = meta_path.with_name(meta_path.name[: -len("meta")] + "data")
    elif Path(dataset).name != dataset or dataset == ".." or "\\" in dataset or "\0" in dataset:
        raise RecordingFormatError(meta_path, f"core:dataset {dataset[:100]!r} must be a bare file name beside it")
    else:
        data_path = meta_path.with_name(dataset)
    header_bytes = int(captures[0].get("core:header_bytes", 0))
    with open_file(data_path) as file:
        size = file_size(file)
        starts_as_npy = file.read(len(NPY_MAGIC)) == NPY_MAGIC
        file.seek(0)
        npy = read_npy_header(file, data_path) if starts_as_npy else None
    if npy is not None and (npy.header_bytes != header_bytes or npy.encoding != encoding):
        raise RecordingFormatError(
            meta_path,
            f"says core:header_bytes {header_bytes} and {core['core:datatype']}, but {data_path.name} is a .npy file "
            f"with a header of {npy.header_bytes} bytes before samples of {npy.dtype}",
        )
    sample_bytes = size - header_bytes - int(core.get("core:trailing_bytes", 0))
    if sample_bytes < 0:
        raise RecordingFormatError(
            data_path, f"is truncated: has {size} bytes, fewer than its header and trailer", size
        )
    num_samples, rest = divmod(sample_bytes, encoding.sample_bytes)
    if rest:
        raise RecordingFormatError(
            data_path,
            f"ends within a sample: {sample_bytes} bytes are not a multiple of {encoding.sample_bytes}",
            header_bytes + sample_bytes - rest,
        )
    declared = core.get("heimdall:num_samples", num_samples)
    if declared != num_samples:
        raise RecordingFormatError(
            data_path, f"holds {num_samples} samples, its metadata say {str(declared)[:40]}", size
        )
    if captures[-1]["core:sample_start"] >= num_samples:
        raise RecordingFormatError(data_path, f"holds {num_samples} samples, fewer than its captures begin at", size)
    return SampleLayout.contiguous(data_path, encoding, header_bytes, num_samples)


def sigmf_meta(
    *,
    dataset_name: str,
    header_bytes: int,
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
    """Build the .sigmf-meta of a complex64 file that is not a .sigmf-data, such as a .npy.

    Parameters
    ----------
    dataset_name : str
        Bare name of the file, in the same folder as the metadata.
    header_bytes : int
        Bytes before the first sample (`NpyHeader.header_bytes`), 0 for a headerless file.
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
        "core:dataset": dataset_name,
        "core:description": description,
        "core:recorder": recorder,
        "core:extensions": [dict(_EXTENSION)],
        "heimdall:num_samples": num_samples,
    }
    core |= {f"heimdall:{name}": value for name, value in (extra or {}).items()}
    capture: dict[str, Any] = {
        "core:sample_start": 0,
        "core:header_bytes": header_bytes,
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
