"""Elementary functions with bit-identical results on every processor.

Libraries select their sine, logarithm and power by processor, and round differently. These are polynomials in float64
that use additions, multiplications, divisions and conversions of IEEE 754 in the order written, and call nothing. Their
relative error is below 1e-14 (`pow10`, `exp2`) and 1e-15 (the others), which is checked in tests.
"""

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled, normal_pair, reinterpreted

_bits_of = reinterpreted(types.float64, types.int64)
_float_of = reinterpreted(types.int64, types.float64)

_ROUNDER = 1.5 * 2.0**52  # adding and subtracting it rounds a float64 below 2**51 to the nearest whole number
_TWO_PI = 6.283185307179586
_LN_2 = 0.6931471805599453
_LOG2_10 = 3.321928094887362
_DB_PER_LOG = 4.342944819032518  # 10 / ln 10
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_MIN_EXPONENT, _MAX_EXPONENT = -1022.0, 1023.0
_EXP2_TERMS = 14  # ln(2)/2 to the power of 14 over 14! is 2e-17
_TRIGONOMETRIC_TERMS = 9  # pi/4 to the power of 18 over 18! is 2e-18
_LOG_TERMS = 12  # 0.1716 to the power of 24 over 25 is 2e-20


@compiled
def nearest(x: float) -> float:
    """Round to the nearest whole number, to the even one of two.

    Parameters
    ----------
    x : float64
        Magnitude below 2**51.

    Returns
    -------
    float64
    """
    return (x + _ROUNDER) - _ROUNDER


@compiled
def cos_sin_of_turns(turns: float) -> tuple[float, float]:
    """Cosine and sine of an angle in turns.

    Parameters
    ----------
    turns : float64
        Magnitude below 2**49.

    Returns
    -------
    tuple of float64
        Cosine and sine of ``2 pi turns``.

    Notes
    -----
    Taylor series within an eighth of a turn.
    """
    within = turns - nearest(turns)
    quarters = nearest(4.0 * within)
    angle = (within - 0.25 * quarters) * _TWO_PI
    square = angle * angle
    cosine, sine = 1.0, 1.0
    for term in range(_TRIGONOMETRIC_TERMS, 0, -1):
        cosine = 1.0 - square / ((2 * term - 1) * (2 * term)) * cosine
        sine = 1.0 - square / ((2 * term) * (2 * term + 1)) * sine
    sine = angle * sine
    quarter = int(quarters) % 4
    if quarter == 1:
        return -sine, cosine
    if quarter == 2:
        return -cosine, -sine
    if quarter == 3:
        return sine, -cosine
    return cosine, sine


@compiled
def exp2(x: float) -> float:
    """Two to the power of x.

    Parameters
    ----------
    x : float64
        Exponent.

    Returns
    -------
    float64
        0 below the least normal number, infinite above the greatest.
    """
    if x < _MIN_EXPONENT:
        return 0.0
    if x >= _MAX_EXPONENT:
        return np.inf
    whole = nearest(x)
    y = (x - whole) * _LN_2
    value = 1.0
    for term in range(_EXP2_TERMS, 0, -1):
        value = 1.0 + y / term * value
    scale: float = _float_of(np.int64(np.int64(whole) + np.int64(1023)) << np.int64(52))
    return value * scale


@compiled
def pow10(x: float) -> float:
    """Ten to the power of x.

    Parameters
    ----------
    x : float64
        Exponent.

    Returns
    -------
    float64
        See `exp2`.
    """
    return exp2(x * _LOG2_10)


@compiled
def log(x: float) -> float:
    """Natural logarithm.

    Parameters
    ----------
    x : float64
        Normal and positive, or 0.

    Returns
    -------
    float64
        Minus infinity of 0.

    Notes
    -----
    The exponent apart, it is ``2 artanh((m - 1) / (m + 1))`` of a mantissa between sqrt(1/2) and sqrt(2).
    """
    if x <= 0.0:
        return -np.inf
    bits = _bits_of(x)
    exponent = np.int64(bits - np.int64(_SQRT_HALF_BITS)) >> np.int64(52)
    mantissa = _float_of(np.int64(bits - np.int64(exponent << np.int64(52))))
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = 0.0
    for term in range(_LOG_TERMS, -1, -1):
        series = series * square + 1.0 / (2 * term + 1)
    value: float = 2.0 * ratio * series + np.float64(exponent) * _LN_2
    return value


@compiled
def decibels(power: float) -> float:
    """Ratio in decibels: ten times the decimal logarithm.

    Parameters
    ----------
    power : float64
        Ratio of powers, not negative.

    Returns
    -------
    float64
        dB; minus infinity of 0.
    """
    return log(power) * _DB_PER_LOG


@compiled
def _fill_normals(out: NDArray[np.float32], words: NDArray[np.uint32]) -> None:
    """Two normal numbers from two words."""
    for i in range(out.size // 2):
        out[2 * i], out[2 * i + 1] = normal_pair(words[2 * i], words[2 * i + 1])


def normals(rng: np.random.Generator, num_values: int) -> NDArray[np.float32]:
    """Draw independent standard normal numbers.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random words.
    num_values : int
        Even.

    Returns
    -------
    ndarray of float32, shape (num_values,)

    Notes
    -----
    ``rng.standard_normal`` is not used: it calls the logarithm of the C library.
    """
    assert num_values % 2 == 0
    out = np.empty(num_values, np.float32)
    _fill_normals(out, rng.integers(2**32, size=num_values, dtype=np.uint32))
    return out


def phasors(num_steps: int) -> NDArray[np.float64]:
    """Cosines and sines of equal steps of a turn.

    Parameters
    ----------
    num_steps : int
        Steps in a turn.

    Returns
    -------
    ndarray of float64, shape (2, num_steps)
        Of ``n / num_steps`` turns, n from 0 to num_steps - 1.
    """
    out = np.empty((2, num_steps))
    _fill_phasors(out)
    return out


@compiled
def _fill_phasors(out: NDArray[np.float64]) -> None:
    for n in range(out.shape[1]):
        out[0, n], out[1, n] = cos_sin_of_turns(n / out.shape[1])


def kaiser_window(x: float, beta: float) -> float:
    """Value of the Kaiser window, 1 in the middle.

    Parameters
    ----------
    x : float
        Position, -1 to 1.
    beta : float
        Shape: greater values have lower side lobes.

    Returns
    -------
    float

    Notes
    -----
    Quotient of two modified Bessel functions, each by its series.
    """
    return _bessel_i0(beta * math.sqrt(max(0.0, 1 - x * x))) / _bessel_i0(beta)


def _bessel_i0(x: float) -> float:
    """Modified Bessel function of order 0 for x up to about 20."""
    total, term = 1.0, 1.0
    for n in range(1, 50):
        term *= (x / (2 * n)) ** 2
        total += term
    return total
