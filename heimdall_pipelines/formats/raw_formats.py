"""How headerless files store their numbers: names, suffixes that imply a format, and what the bytes look like."""

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.file_formats import RAW_FORMATS
from heimdall_pipelines.formats.samples import COMPONENTS, Encoding

RAW_ENCODINGS = {
    name: Encoding.of((">" if name.endswith("_be") else "<") + COMPONENTS[name.removesuffix("_be")])
    for name in RAW_FORMATS
}

_MIN_NUMBERS = 512
_SMALLEST, _GREATEST = 1e-12, 1e6  # floats of receivers: full scale is 1, or 32768 where integers were not scaled
_PLAUSIBLE_SHARE = 0.99
_MIN_NONZERO_SHARE = 0.5
_ENTROPY_DIFFERENCE_BITS = 0.15
_UNIFORM_SPREAD = 68.0  # standard deviation of uniform bytes is 73.9


def implausibility(data: bytes, raw_format: str) -> str | None:
    """Say why bytes cannot be samples of a format, with what they look like; None if they can be.

    Parameters
    ----------
    data : bytes
        From the file, from the beginning of a sample on; a few kB are enough. Fewer than 512 numbers are never judged.
    raw_format : str
        One of `RAW_FORMATS`.
    """
    encoding = RAW_ENCODINGS[raw_format]
    values = _numbers(data, raw_format)
    if values.size < _MIN_NUMBERS:
        return None
    suggestion = _suggestion(data, raw_format)
    if not encoding.is_integer:
        if _are_floats_plausible(values) or not values.any():
            return None
        finite = np.abs(values[np.isfinite(values)])
        greatest = f"numbers up to {finite.max():.0e}" if finite.size else "no finite numbers"
        return f"read as {raw_format} it holds {greatest}{suggestion}"
    if _is_implausible_byte_format(data, raw_format):
        around = "127" if raw_format == "ci8" else "0 and 255"
        return f"its bytes lie around {around}, which is not {raw_format}{suggestion}"
    for floats in ("cf32", "cf32_be", "cf64"):
        if _are_floats_plausible(_numbers(data, floats)):
            return f"it holds floating-point numbers, not {raw_format}{suggestion}"
    return None


def likely_format(data: bytes) -> str | None:
    """Guess how samples are stored from the statistics of their bytes; None if nothing fits.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> likely_format(rng.normal(127.5, 20, 4096).astype("u1").tobytes())
    'cu8'
    >>> likely_format(rng.normal(0, 0.1, 4096).astype("<f4").tobytes())
    'cf32'
    """
    for floats in ("cf32", "cf64", "cf32_be", "cf64_be"):
        values = _numbers(data, floats)
        if values.size >= _MIN_NUMBERS // 4 and _are_floats_plausible(values):
            return floats
    octets = np.frombuffer(data[: len(data) // 4 * 4], np.uint8)
    if octets.size < _MIN_NUMBERS or not octets.any():
        return None
    if _is_low_order(octets[0::2], octets[1::2]):
        return "ci16"
    if _is_low_order(octets[1::2], octets[0::2]):
        return "ci16_be"
    unsigned, signed = _distances(octets)
    if min(unsigned, signed) > 60:  # 64 for uniform bytes: nothing is known
        return None
    return "cu8" if unsigned < signed else "ci8"


def _numbers(data: bytes, raw_format: str) -> NDArray[np.float64]:
    dtype = np.dtype(RAW_ENCODINGS[raw_format].component)
    with np.errstate(all="ignore"):
        return np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype).astype(np.float64)


def _are_floats_plausible(values: NDArray[np.float64]) -> bool:
    if values.size == 0:
        return False
    magnitude = np.abs(values[values != 0])
    if magnitude.size < _MIN_NONZERO_SHARE * values.size:
        return False
    with np.errstate(invalid="ignore"):
        plausible = (magnitude >= _SMALLEST) & (magnitude <= _GREATEST)
    return bool(np.mean(plausible) >= _PLAUSIBLE_SHARE)


def _is_implausible_byte_format(data: bytes, raw_format: str) -> bool:
    """Whether bytes are of the other 8-bit format: offset binary read as two's complement, or the reverse."""
    unsigned, signed = _distances(np.frombuffer(data, np.uint8))
    if raw_format == "ci8":
        return unsigned < 45 and signed > 80
    return raw_format == "cu8" and signed < 45 and unsigned > 80


def _is_low_order(low: NDArray[np.uint8], high: NDArray[np.uint8]) -> bool:
    """Whether bytes are the lower halves of numbers of two: more random, or nearly uniform beside less spread ones."""
    low_spread, high_spread = float(np.std(low.view(np.int8))), float(np.std(high.view(np.int8)))
    return (
        _entropy_bits(high) < _entropy_bits(low) - _ENTROPY_DIFFERENCE_BITS
        or low_spread > _UNIFORM_SPREAD > high_spread / 0.8
    )


def _entropy_bits(octets: NDArray[np.uint8]) -> float:
    counts = np.bincount(octets, minlength=256)
    shares = counts[counts > 0] / octets.size
    return float(-np.sum(shares * np.log2(shares)))


def _distances(octets: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean distance of bytes from the zero of cu8 and of ci8."""
    return float(np.mean(np.abs(octets - 127.5))), float(np.mean(np.abs(octets.view(np.int8).astype(np.float64))))


def _suggestion(data: bytes, than: str) -> str:
    likely = likely_format(data)
    return f"; its bytes look like {likely}" if likely is not None and likely != than else ""
