"""Frequencies as command-line values: 145MHz, 7050.1kHz, 77500."""

from __future__ import annotations

import re

import typer

_UNITS_HZ = {"": 1.0, "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
_FREQUENCY = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*((?:[kmg]?hz)?)", re.IGNORECASE | re.ASCII)


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
    match = _FREQUENCY.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{option} {text}: a number with its unit is expected, such as 77.5kHz or 145.5MHz, or a number of Hz"
        )
    return float(f"{float(match[1]) * _UNITS_HZ[match[2].lower()]:.15g}")


def optional_frequency_hz(text: str | None, option: str) -> float | None:
    """Read a frequency where one is given, see `frequency_hz`."""
    return None if text is None else frequency_hz(text, option)
