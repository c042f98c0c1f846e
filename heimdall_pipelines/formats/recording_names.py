"""What recorders state in the names of their files: start, frequency, rate, station.

Each entry of the table is one recorder's form of name.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from heimdall_pipelines.formats.frequencies import scaled_hz
from heimdall_pipelines.formats.iq_recording import GivenValues
from heimdall_pipelines.formats.samples import RecordingFormatError
from heimdall_pipelines.formats.utc import unix_ns_from_iso

_LOCAL_TIME_NOTE = (
    "its name has the local time of the machine that recorded it, here taken as UTC: give --start if that is wrong"
)


@dataclass(frozen=True)
class NameForm:
    """One recorder's form of file name.

    Attributes
    ----------
    recorder : str
        Who writes it.
    example : str
        Without the suffix, for the documentation and tests.
    pattern : re.Pattern
        Of the name without suffix. Groups: ``date`` with ``clock``; ``fraction``; ``hz``, ``khz``, ``mhz`` or
        ``number`` with ``unit``; ``rate`` with ``rate_unit``; ``station``; ``encoding``.
    is_local_time : bool
        The recorder writes its machine's local time.
    """

    recorder: str
    example: str
    pattern: re.Pattern[str]
    is_local_time: bool = False


@dataclass(frozen=True)
class NamedValues:
    """What a name states; None: nothing."""

    recorder: str | None
    given_values: GivenValues
    receiver_name: str | None = None
    raw_format: str | None = None
    notes: tuple[str, ...] = ()


NOTHING_NAMED = NamedValues(None, GivenValues())


def _form(recorder: str, example: str, pattern: str, *, is_local_time: bool = False) -> NameForm:
    return NameForm(recorder, example, re.compile(pattern, re.ASCII | re.IGNORECASE), is_local_time)


_DATE, _CLOCK = r"(?P<date>[0-9]{8})", r"(?P<clock>[0-9]{6})"
NAME_FORMS = (
    _form(
        "kiwirecorder",
        "20171127T104156Z_77500_DF0KL_iq",
        rf"{_DATE}T{_CLOCK}Z_(?P<hz>[0-9]{{1,12}})(?:_(?P<station>.+))?_iq",
    ),
    _form(
        "KiwiSDR web page",
        "my.kiwisdr.example_2024-05-01T12_00_00Z_7100.00_iq",
        r"(?P<station>.+)_(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})T(?P<clock>[0-9]{2}_[0-9]{2}_[0-9]{2})Z_"
        r"(?P<khz>[0-9]{1,9}(?:\.[0-9]{1,6})?)(?:_(?!iq)[a-z0-9]+)?_iq",
    ),
    _form(
        "UberSDR iq-recorder",
        "n0call_14074000_2026-01-21T15:10:19.937Z",
        r"(?P<station>.+)_(?P<hz>[0-9]{1,12})_(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})T"
        r"(?P<clock>[0-9]{2}[:_-][0-9]{2}[:_-][0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?Z",
    ),
    _form(
        "gqrx",
        "gqrx_20240501_120000_145500000_48000_fc",
        rf"gqrx_{_DATE}_{_CLOCK}_(?P<hz>[0-9]{{1,12}})_(?P<rate>[0-9]{{1,9}})_(?P<encoding>fc)",
    ),
    _form(
        "SDR++",
        "baseband_145500000Hz_12-00-00_01-01-2020",
        r".*?_?(?P<hz>[0-9]{1,12})Hz_(?P<clock>[0-9]{2}-[0-9]{2}-[0-9]{2})_(?P<dmy>[0-9]{2}-[0-9]{2}-[0-9]{4})",
        is_local_time=True,
    ),
    _form(
        "SatDump",
        "2024-05-01_12-00-00_2400000SPS_137100000Hz",
        r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})_(?P<clock>[0-9]{2}-[0-9]{2}-[0-9]{2})(?:-[0-9]+)?_"
        r"(?P<rate>[0-9]{1,9})SPS_(?P<hz>[0-9]{1,12})Hz",
    ),
    _form(
        "SDR Console",
        "25-Nov-2013 183045.123 14.213MHz",
        r"(?P<dby>[0-9]{2}-[a-z]{3}-[0-9]{4}) (?P<clock>[0-9]{6})(?:\.(?P<fraction>[0-9]{1,9}))? "
        r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,9})?)(?P<unit>[kMG]?Hz).*",
    ),
    _form(
        "HDSDR, SDR#, SDRuno, Airspy",
        "HDSDR_20200101_120000Z_14200kHz_RF",
        rf".+?_{_DATE}_{_CLOCK}(?P<utc>Z?)_(?P<number>[0-9]{{1,12}}(?:\.[0-9]{{1,9}})?)(?P<unit>[kMG]?Hz)(?:_.*)?",
    ),
    _form(
        "rtl_433",
        "g001_433.92M_250k",
        r".+?_(?P<number>[0-9]{1,6}(?:\.[0-9]{1,9})?)(?P<unit>[kMG])(?:Hz)?_"
        r"(?P<rate>[0-9]{1,6}(?:\.[0-9]{1,6})?)(?P<rate_unit>[kM])(?:sps)?",
    ),
)
_RAW_FORMATS = {"fc": "cf32"}
_INDEX = re.compile(r"[0-9]{1,3}", re.ASCII)


def values_in_name(path: Path) -> NamedValues | None:
    """Return what the name of a file states, None for a name of no known form.

    Raises
    ------
    RecordingFormatError
        If the name has a known form, but no valid date.

    Examples
    --------
    >>> values_in_name(Path("my.kiwisdr.example_2024-05-01T12_00_00Z_7100.00_iq.wav")).given_values.frequency_hz
    7100000.0
    """
    for form in NAME_FORMS:
        match = form.pattern.fullmatch(path.stem)
        if match is not None:
            return _values(path, form, match.groupdict())
    return None


def _values(path: Path, form: NameForm, found: dict[str, str | None]) -> NamedValues:
    is_local = form.is_local_time or found.get("utc") == ""
    start_ns = _start_ns(path, found)
    station = found.get("station")
    if station is not None and _INDEX.fullmatch(station):
        station = None  # kiwirecorder's number of the connection
    return NamedValues(
        recorder=form.recorder,
        given_values=GivenValues(_rate_hz(found), _frequency_hz(found), start_ns),
        receiver_name=station,
        raw_format=_RAW_FORMATS.get((found.get("encoding") or "").lower()),
        notes=(_LOCAL_TIME_NOTE,) if is_local and start_ns is not None else (),
    )


def _start_ns(path: Path, found: dict[str, str | None]) -> int | None:
    clock = re.sub(r"[^0-9]", "", found.get("clock") or "")
    if not clock:
        return None
    try:
        if found.get("dby"):
            day = datetime.strptime(found["dby"] or "", "%d-%b-%Y").strftime("%Y%m%d")
        elif found.get("dmy"):
            day_, month, year = (found["dmy"] or "").split("-")
            day = year + month + day_
        else:
            day = (found.get("date") or "").replace("-", "")
        fraction = f".{found['fraction']}" if found.get("fraction") else ""
        iso = f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}{fraction}Z"
        return unix_ns_from_iso(iso)
    except ValueError as error:
        raise RecordingFormatError(path, f"the file name has no valid date: {error}") from error


def _frequency_hz(found: dict[str, str | None]) -> float | None:
    for group, unit in (("hz", "hz"), ("khz", "khz"), ("number", found.get("unit") or "")):
        text = found.get(group)
        if text:
            return scaled_hz(text, unit)
    return None


def _rate_hz(found: dict[str, str | None]) -> float | None:
    text = found.get("rate")
    return scaled_hz(text, found.get("rate_unit") or "") if text else None
