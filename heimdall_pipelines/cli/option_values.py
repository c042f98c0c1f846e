"""Frequencies as command-line values: 145MHz, 7050.1kHz, 77500."""

from __future__ import annotations

import typer

from heimdall_pipelines.formats.frequencies import frequency_hz_of


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
