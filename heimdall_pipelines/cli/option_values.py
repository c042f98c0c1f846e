"""Reads the values of options: frequencies and widths, levels, times, formats; other text is a usage error."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import typer

from heimdall_pipelines.formats.file_formats import RAW_FORMAT_ALIASES, RAW_FORMATS
from heimdall_pipelines.formats.frequencies import frequency_hz_of
from heimdall_pipelines.formats.utc import unix_ns_from_iso


def frequency_hz(text: str, option: str = "--frequency") -> float:
    """Read a frequency, a width or a rate: with its unit, or a number of Hz.

    Raises
    ------
    typer.BadParameter
        For other text; names the option.

    Examples
    --------
    >>> frequency_hz("7050.1kHz"), frequency_hz("145 MHz"), frequency_hz("77500")
    (7050100.0, 145000000.0, 77500.0)
    """
    try:
        return frequency_hz_of(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} {error}") from None


def optional_frequency_hz(text: str | None, option: str) -> float | None:
    """Read a frequency where one is given, see `frequency_hz`."""
    return None if text is None else frequency_hz(text, option)


def width_hz(text: str | None, option: str) -> float | None:
    """Read the width of a channel where one is given: a positive frequency."""
    width = optional_frequency_hz(text, option)
    if width is not None and not 0 < width < math.inf:
        raise typer.BadParameter(f"{option} {text}: a positive width is expected")
    return width


def start_unix_ns(text: str) -> int:
    """Read the value of --start."""
    try:
        return unix_ns_from_iso(text)
    except ValueError as error:
        raise typer.BadParameter(f"--start {text}: {error}") from None


def level_dbm(text: str, option: str) -> float:
    """Read a level in dBm."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{option} {text}: a number of dBm is expected")
    return value


def raw_format_name(text: str) -> str:
    """Read the value of --raw-format, or one of its aliases."""
    name = RAW_FORMAT_ALIASES.get(text.lower(), text.lower())
    if name not in RAW_FORMATS:
        raise typer.BadParameter(f"--raw-format {text}: one of {', '.join(RAW_FORMATS)} is expected")
    return name


def utc_time(text: str | None, option: str) -> datetime | None:
    """Read a time where one is given; without a time zone it is UTC."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text}: a time is expected, such as 2026-11-30T12:00:00") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
