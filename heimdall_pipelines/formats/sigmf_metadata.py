"""The metadata of a SigMF recording, and whether they describe one channel of complex samples without gaps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigmf import validate as sigmf_schema

from heimdall_pipelines.formats.samples import Encoding, RecordingFormatError, open_file
from heimdall_pipelines.formats.utc import unix_ns_from_iso

_MAX_META_BYTES = 4 << 20
_MAX_ALTITUDE_M = 1e9
_MIN_CAPTURE_TOLERANCE_S = 1e-3  # many recorders write times in milliseconds
_NUMBERS: dict[str, tuple[str, float, float]] = {
    "cf64": ("f8", 0.0, 1.0),
    "cf32": ("f4", 0.0, 1.0),
    "ci32": ("i4", 0.0, 2.0**31),
    "ci16": ("i2", 0.0, 2.0**15),
    "cu16": ("u2", 2.0**15 - 0.5, 2.0**15 - 0.5),
    "ci8": ("i1", 0.0, 2.0**7),
    "cu8": ("u1", 2.0**7 - 0.5, 2.0**7 - 0.5),
}
_ENCODINGS = {
    f"{name}_{order}": Encoding(sign + number, zero, full_scale)
    for name, (number, zero, full_scale) in _NUMBERS.items()
    for order, sign in (("le", "<"), ("be", ">"))
}
_ENCODINGS |= {name: _ENCODINGS[f"{name}_le"] for name in ("ci8", "cu8")}  # one byte has no order


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a .sigmf-meta and check it against the SigMF schema; does not read its data.

    Raises
    ------
    RecordingFormatError
        If it cannot be read, is longer than 4 MiB, is not JSON, or violates the schema: says where and how.
    """
    with open_file(path) as file:
        text = file.read(_MAX_META_BYTES + 1)
    if len(text) > _MAX_META_BYTES:
        raise RecordingFormatError(path, f"has more than {_MAX_META_BYTES} bytes, too long for metadata")
    try:
        meta = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(path, f"is not JSON: {error}") from error
    try:
        sigmf_schema.validate(meta)  # reads no data
    except Exception as error:  # jsonschema's own, and any other of sigmf's checks
        reason = str(getattr(error, "message", error))[:300]
        where = "/".join(str(part) for part in getattr(error, "absolute_path", ()))
        raise RecordingFormatError(path, f"violates the SigMF schema: {where or 'metadata'}: {reason}") from error
    if not isinstance(meta, dict):
        raise RecordingFormatError(path, "violates the SigMF schema: is not a JSON object")
    return meta


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def encoding_of(path: Path, core: Mapping[str, Any]) -> Encoding:
    """Return how the samples are stored, by ``core:datatype``; refuse real samples and several channels."""
    datatype = core["core:datatype"]
    if datatype not in _ENCODINGS:
        hint = "real samples" if datatype.startswith("r") else "samples"
        raise RecordingFormatError(
            path,
            f"core:datatype {datatype[:40]!r}: {hint} of this type are not supported; "
            f"supported are: {', '.join(_ENCODINGS)}",
        )
    if core.get("core:num_channels", 1) != 1:
        raise RecordingFormatError(
            path, f"core:num_channels is {core['core:num_channels']}: only one channel is supported"
        )
    return _ENCODINGS[datatype]


def check_contiguous(path: Path, captures: list[dict[str, Any]], sample_rate_hz: float) -> None:
    """Refuse captures that one start time, one rate and one frequency cannot describe.

    Sample counts must agree where ``core:global_index`` gives them, times to within 1 ms or a sample.
    """
    first = captures[0]
    if first["core:sample_start"] != 0:
        raise RecordingFormatError(path, f"the first capture begins at sample {first['core:sample_start']}, not 0")
    first_ns = capture_time_ns(path, first)
    first_index = first.get("core:global_index", 0)
    for number, capture in enumerate(captures[1:], start=1):
        start = int(capture["core:sample_start"])
        if capture.get("core:frequency", first.get("core:frequency")) != first.get("core:frequency"):
            raise RecordingFormatError(path, f"capture {number} changes the frequency: split the recording there")
        if capture.get("core:header_bytes", 0) != 0:
            raise RecordingFormatError(path, f"capture {number} has a header amid the samples: split the recording")
        if capture.get("core:global_index", first_index + start) != first_index + start:
            raise RecordingFormatError(path, f"samples are missing before capture {number}: split the recording there")
        time_ns = capture_time_ns(path, capture)
        if time_ns is None or first_ns is None:
            continue
        late_s = (time_ns - first_ns) / 1e9 - start / sample_rate_hz
        if abs(late_s) > max(1.0 / sample_rate_hz, _MIN_CAPTURE_TOLERANCE_S):
            raise RecordingFormatError(
                path, f"capture {number} begins {late_s:.6f} s off the previous capture: split the recording there"
            )


def capture_time_ns(path: Path, capture: Mapping[str, Any]) -> int | None:
    """Return ``core:datetime`` of a capture in ns of UTC, None if it is missing."""
    text = capture.get("core:datetime")
    if text is None:
        return None
    try:
        return unix_ns_from_iso(text)
    except ValueError as error:
        raise RecordingFormatError(path, f"core:datetime {error}") from error


def position_of(path: Path, point: Mapping[str, Any] | None) -> tuple[float, float, float] | None:
    """Return latitude, longitude (degrees) and altitude (m) of a ``core:geolocation``; a missing altitude is 0."""
    if point is None:
        return None
    longitude, latitude, altitude_m = [*point["coordinates"], 0.0][:3]
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and abs(altitude_m) <= _MAX_ALTITUDE_M):
        raise RecordingFormatError(path, "core:geolocation is not a longitude, latitude and altitude on Earth")
    return float(latitude), float(longitude), float(altitude_m)
