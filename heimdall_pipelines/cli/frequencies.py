"""Frequencies with units, as command-line values."""

import re

import typer

_UNITS_HZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
_FREQUENCY = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kmg]?hz)", re.IGNORECASE)


def frequency_hz(text: str) -> float:
    """Read a frequency with its unit, such as 77.5kHz; raises typer.BadParameter for other text."""
    match = _FREQUENCY.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"--frequency {text}: a number with its unit is expected, such as 77.5kHz or 145.5MHz")
    return float(f"{float(match[1]) * _UNITS_HZ[match[2].lower()]:.15g}")
