"""The metadata of a SigMF recording, as standards and real writers have it, and what they say of the samples.

What the specification demands but the samples do not need may be missing or malformed: it is read with a note. Whatever
decides how samples, rate, frequency or time are read must be right.
"""

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sigmf import validate as sigmf_schema

from heimdall_pipelines.formats.iq_recording import SourceMetadata
from heimdall_pipelines.formats.samples import COMPONENTS, Encoding, RecordingFormatError, open_file
from heimdall_pipelines.formats.utc import unix_ns_from_iso

MAX_META_BYTES = 4 << 20
_MAX_ALTITUDE_M = 1e9
_MIN_CAPTURE_TOLERANCE_S = 1e-3  # many recorders write times in milliseconds
_MAX_COUNT = 1 << 62
_ENCODINGS = {
    f"{name}_{order}": Encoding.of(sign + component)
    for name, component in COMPONENTS.items()
    for order, sign in (("le", "<"), ("be", ">"))
}
_ENCODINGS |= {name: _ENCODINGS[f"{name}_le"] for name in ("ci8", "cu8")}  # one byte has no order
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,100})?)"
    r"(?P<zone>[Zz]|[+-]00:?00[Zz]?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Capture:
    """A capture segment; `start` counts samples from the beginning of the data file."""

    start: int
    header_bytes: int
    frequency_hz: float | None
    raw: Mapping[str, Any]


@dataclass
class SigmfMetadata:
    """What the metadata say of the samples, with notes on what was read tolerantly."""

    path: Path
    core: dict[str, Any]
    captures: list[Capture]
    annotations: list[Any]
    encoding_name: str
    encoding: Encoding
    sample_rate_hz: float | None
    trailing_bytes: int
    offset: int
    notes: list[str] = field(default_factory=list)

    def source(self) -> SourceMetadata:
        """Everything that was said, to be kept with the samples."""
        return SourceMetadata(
            global_=self.core,
            captures=tuple(dict(capture.raw) for capture in self.captures),
            annotations=tuple(entry for entry in self.annotations if isinstance(entry, dict)),
            first_sample=self.captures[0].start + self.offset,
        )


def read_metadata(path: Path, content: bytes | None = None) -> SigmfMetadata:
    """Read a .sigmf-meta; does not read its data.

    Parameters
    ----------
    path : Path
        The file, or the archive that holds it.
    content : bytes, optional
        Its content, where it lies in an archive.

    Raises
    ------
    RecordingFormatError
        If it cannot be read, is longer than 4 MiB, is not JSON, or if anything that decides how the samples are read is
        missing, malformed or not supported: says where and how.
    """
    meta = _json(path, content)
    reader = _Reader(path)
    core, captures = meta.get("global"), meta.get("captures", [])
    if not isinstance(core, dict) or not isinstance(captures, list):
        raise RecordingFormatError(path, "is no SigMF: 'global' must be an object and 'captures' a list")
    if not all(isinstance(capture, dict) for capture in captures):
        raise RecordingFormatError(path, "violates the SigMF schema: captures must be objects")
    annotations = meta.get("annotations")
    if not isinstance(annotations, list):
        reader.notes.append("has no annotations, which SigMF demands")
        annotations = []
    _check_schema(reader, meta)
    if core.get("core:metadata_only") is True:
        raise RecordingFormatError(path, "has metadata only (core:metadata_only): its samples were not distributed")
    encoding_name, encoding = _encoding(reader, core)
    channels = reader.count(core, "core:num_channels", 1)
    if channels != 1:
        raise RecordingFormatError(path, f"core:num_channels is {channels}: only one channel is supported")
    offset = reader.count(core, "core:offset", 0)
    return SigmfMetadata(
        path=path,
        core=core,
        captures=_captures(reader, captures or [{}], core, offset),
        annotations=annotations,
        encoding_name=encoding_name,
        encoding=encoding,
        sample_rate_hz=reader.number(core, "core:sample_rate"),
        trailing_bytes=reader.count(core, "core:trailing_bytes", 0),
        offset=offset,
        notes=reader.notes,
    )


def _json(path: Path, content: bytes | None) -> dict[str, Any]:
    if content is None:
        with open_file(path) as file:
            content = file.read(MAX_META_BYTES + 1)
    if len(content) > MAX_META_BYTES:
        raise RecordingFormatError(path, f"has more than {MAX_META_BYTES} bytes, too long for metadata")
    try:
        meta = json.loads(
            content.removeprefix(b"\xef\xbb\xbf"), parse_float=_float_or_text, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(path, f"is not JSON: {error}") from error
    if not isinstance(meta, dict):
        raise RecordingFormatError(path, "violates the SigMF schema: is not a JSON object")
    return meta


def _float_or_text(text: str) -> float | str:
    """A number; one that is too large for a float stays text, since JSON could not hold it when it is written again."""
    number = float(text)
    return number if math.isfinite(number) else text


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _check_schema(reader: "_Reader", meta: dict[str, Any]) -> None:
    """Note what violates the schema; the fields that are used are checked one by one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of extensions that are not declared
            sigmf_schema.validate(meta)  # reads no data
    except Exception as error:  # jsonschema's own, and any other of sigmf's checks
        reason = str(getattr(error, "message", error))[:200]
        where = "/".join(str(part) for part in getattr(error, "absolute_path", ()))
        reader.notes.append(f"violates the SigMF schema, and is read all the same: {where or 'metadata'}: {reason}")


class _Reader:
    """Reads fields tolerantly, and notes where it had to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []

    def number(self, part: Mapping[str, Any], key: str) -> float | None:
        """A finite number; a number in quotes is read with a note."""
        value = part.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            self.notes.append(f"{key} is text, {value[:40]!r}, not a number")
            try:
                value = float(value)
            except ValueError:
                raise self._wrong(key, value, "a number") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._wrong(key, value, "a finite number")
        return number

    def count(self, part: Mapping[str, Any], key: str, default: int) -> int:
        """A whole number of at least 0."""
        value = part.get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
            raise self._wrong(key, value, "a whole number of at least 0")
        return value

    def _wrong(self, key: str, value: object, expected: str) -> RecordingFormatError:
        return RecordingFormatError(
            self.path, f"violates the SigMF schema: {key} must be {expected}, not {str(value)[:40]!r}"
        )


def _encoding(reader: _Reader, core: Mapping[str, Any]) -> tuple[str, Encoding]:
    datatype = core.get("core:datatype")
    if not isinstance(datatype, str):
        raise RecordingFormatError(
            reader.path, "has no core:datatype, which says how the samples are stored: add it, such as cf32_le"
        )
    name = datatype.strip().lower()
    if name in COMPONENTS and name not in _ENCODINGS:
        reader.notes.append(f"core:datatype {datatype!r} has no byte order: little-endian is assumed")
        name += "_le"
    if name not in _ENCODINGS:
        hint = "real samples" if name.startswith("r") else "samples"
        raise RecordingFormatError(
            reader.path,
            f"core:datatype {datatype[:40]!r}: {hint} of this type are not supported; "
            f"supported are: {', '.join(_ENCODINGS)}",
        )
    return name, _ENCODINGS[name]


def _captures(reader: _Reader, captures: list[dict[str, Any]], core: Mapping[str, Any], offset: int) -> list[Capture]:
    found: list[Capture] = []
    for number, capture in enumerate(captures):
        if "core:sample_start" not in capture:
            if number:
                raise RecordingFormatError(reader.path, f"capture {number} has no core:sample_start")
            if capture:
                reader.notes.append("its first capture has no core:sample_start: 0 is assumed")
        start = reader.count(capture, "core:sample_start", offset) - offset
        if start < 0 or (found and start < found[-1].start):
            raise RecordingFormatError(
                reader.path, f"capture {number} begins before {'the previous one' if found else 'core:offset'}"
            )
        frequency_hz = reader.number(capture, "core:frequency")
        if frequency_hz is None and number == 0:
            frequency_hz = reader.number(core, "core:frequency")
        found.append(Capture(start, reader.count(capture, "core:header_bytes", 0), frequency_hz, capture))
    if found[0].start:
        reader.notes.append(f"its first capture begins at sample {found[0].start}: those before it are left out")
    return found


def check_contiguous(meta: SigmfMetadata, sample_rate_hz: float) -> None:
    """Refuse captures that one start time, one rate and one frequency cannot describe.

    Sample counts must agree where ``core:global_index`` gives them, times to within 1 ms or a sample.
    """
    path, reader, first = meta.path, _Reader(meta.path), meta.captures[0]
    first_ns = capture_time_ns(meta, first.raw)
    first_index = reader.count(first.raw, "core:global_index", 0)
    for number, capture in enumerate(meta.captures[1:], start=1):
        since_first = capture.start - first.start
        if capture.frequency_hz is not None and capture.frequency_hz != first.frequency_hz:
            raise RecordingFormatError(
                path,
                f"capture {number} changes the frequency, from {first.frequency_hz} to {capture.frequency_hz} Hz: "
                "split the recording there",
            )
        if reader.count(capture.raw, "core:global_index", first_index + since_first) != first_index + since_first:
            raise RecordingFormatError(path, f"samples are missing before capture {number}: split the recording there")
        time_ns = capture_time_ns(meta, capture.raw)
        if time_ns is None or first_ns is None:
            continue
        late_s = (time_ns - first_ns) / 1e9 - since_first / sample_rate_hz
        if abs(late_s) > max(1.0 / sample_rate_hz, _MIN_CAPTURE_TOLERANCE_S):
            raise RecordingFormatError(
                path,
                f"capture {number} begins {late_s:.6f} s off the end of the previous capture, a gap: "
                "split the recording there",
            )


def capture_time_ns(meta: SigmfMetadata, capture: Mapping[str, Any]) -> int | None:
    """Return ``core:datetime`` of a capture in ns of UTC, None if it is missing; see `unix_ns_from_datetime`."""
    text = capture.get("core:datetime")
    if text is None:
        return None
    try:
        time_ns, note = unix_ns_from_datetime(text)
    except ValueError as error:
        raise RecordingFormatError(meta.path, f"core:datetime {error}") from error
    if note is not None and note not in meta.notes:
        meta.notes.append(note)
    return time_ns


def unix_ns_from_datetime(text: object) -> tuple[int, str | None]:
    """Read the times that real writers put into ``core:datetime``, all of them UTC, with a note where not as specified.

    Raises
    ------
    ValueError
        If it is another text, or a time with an offset from UTC, which SigMF does not allow.

    Examples
    --------
    >>> unix_ns_from_datetime("1970-01-01 00:00:01")
    (1000000000, "core:datetime '1970-01-01 00:00:01' is not as SigMF demands (T and Z): taken as UTC")
    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{str(text)[:60]!r} is not a UTC instant like 2017-11-27T10:41:56.038122299Z")
    proper = f"{match['day']}T{match['clock'].replace(',', '.')}Z"
    time_ns = unix_ns_from_iso(proper)
    if proper == text:
        return time_ns, None
    return time_ns, f"core:datetime {text!r} is not as SigMF demands (T and Z): taken as UTC"


def position_of(path: Path, point: object) -> tuple[float, float, float] | None:
    """Return latitude, longitude (degrees) and altitude (m) of a ``core:geolocation``; a missing altitude is 0."""
    if point is None:
        return None
    coordinates = point.get("coordinates") if isinstance(point, Mapping) else None
    if not isinstance(coordinates, list) or not 2 <= len(coordinates) <= 3:
        raise RecordingFormatError(path, "core:geolocation is not a GeoJSON point of longitude, latitude and altitude")
    numbers = [*coordinates, 0.0][:3]
    if not all(
        isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= limit
        for number, limit in zip(numbers, (180, 90, _MAX_ALTITUDE_M), strict=True)
    ):
        raise RecordingFormatError(path, "core:geolocation is not a longitude, latitude and altitude on Earth")
    longitude, latitude, altitude_m = numbers
    return float(latitude), float(longitude), float(altitude_m)
