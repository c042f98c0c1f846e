"""Frequencies as people write them: 145MHz, 7050.1kHz, 77500."""

import re

_UNIT_HZ = {"": 1.0, "hz": 1.0, "k": 1e3, "khz": 1e3, "m": 1e6, "mhz": 1e6, "g": 1e9, "ghz": 1e9}
_FREQUENCY = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*((?:[kmg]?hz)?)", re.IGNORECASE | re.ASCII)


def frequency_hz_of(value: object) -> float:
    """Read a frequency, a width or a rate: a number of Hz, or a text with or without a unit.

    Raises
    ------
    ValueError
        For anything else; says what is expected.

    Examples
    --------
    >>> frequency_hz_of("7050.1kHz"), frequency_hz_of("145 MHz"), frequency_hz_of("77500"), frequency_hz_of(77500)
    (7050100.0, 145000000.0, 77500.0, 77500.0)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _FREQUENCY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{str(value)[:60]}: a number with its unit is expected, such as 77.5kHz or 145.5MHz, or a number of Hz"
        )
    return scaled_hz(match[1], match[2])


def scaled_hz(number: str, unit: str) -> float:
    """A decimal number times its unit, such as Hz, kHz or k, without the rounding error of the product.

    >>> scaled_hz("7050.1", "kHz"), scaled_hz("2.4", "M")
    (7050100.0, 2400000.0)
    """
    return float(f"{float(number) * _UNIT_HZ[unit.lower()]:.15g}")
