"""Real signals from a few of their Fourier coefficients and back, in single precision, bit-identical on any processor.

Libraries contain code for several processors and choose at run time. This one is a Stockham transform of
radix 4 (Cochran et al., "What is the fast Fourier transform?", Proc. IEEE 55, 1967) in the order written, for sizes
that are powers of two. A real signal of N values is transformed as N / 2 complex ones. Signals are band-limited: their
coefficients outside the band are 0 or ignored.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.exact import phasors
from heimdall_pipelines.rf.philox import compiled

MIN_SIZE = 64
_TILE = 256  # butterflies that are worked on at once, in the first cache
_TRANSPOSED_ROWS = 16


def values_of_series(band: NDArray[np.float32], low: int, num_values: int) -> NDArray[np.float32]:
    """Sum a Fourier series: ``x[n] = sum of 2 Re(c[k] exp(2j pi k n / num_values))``.

    Parameters
    ----------
    band : ndarray of float32, shape (2, num_bins)
        Real and imaginary parts of the coefficients from ``k = low`` on, all below ``num_values / 4``.
    low : int
        1 or more.
    num_values : int
        A power of two, `MIN_SIZE` or more.

    Returns
    -------
    ndarray of float32, shape (num_values,)
    """
    phasor, half = _phasors(num_values), num_values // 2
    _check(low + band.shape[1], num_values)
    work = np.zeros((2, 2, half), np.float32)
    im, re = work[0]  # swapped parts: the inverse
    _spread(re, im, band[0], band[1], low, phasor[0], phasor[1])
    im, re = _transform(work[0], work[1], phasor)
    values = np.empty(num_values, np.float32)
    _interleave(values, re, im)
    return values


def coefficients_of_values(values: NDArray[np.float32], low: int, num_bins: int) -> NDArray[np.float32]:
    """Fourier coefficients of a band: ``c[k] = sum of x[n] exp(-2j pi k n / x.size)``.

    Parameters
    ----------
    values : ndarray of float32, shape (num_values,)
    low, num_bins : int
        The band, see `values_of_series`.

    Returns
    -------
    ndarray of float32, shape (2, num_bins)
        Real and imaginary parts.
    """
    phasor, half = _phasors(values.size), values.size // 2
    _check(low + num_bins, values.size)
    work = np.empty((2, 2, half), np.float32)
    _separate(work[0, 0], work[0, 1], values)
    re, im = _transform(work[0], work[1], phasor)
    band = np.empty((2, num_bins), np.float32)
    _gather(band[0], band[1], re, im, low, phasor[0], phasor[1])
    return band


def _check(end: int, num_values: int) -> None:
    if end > num_values // 4:
        raise ValueError(f"bins up to {end} lie beyond a quarter of {num_values} values")


@functools.lru_cache(maxsize=8)
def _phasors(num_values: int) -> NDArray[np.float32]:
    """Cosines and sines of k / num_values turns."""
    if num_values < MIN_SIZE or num_values & (num_values - 1):
        raise ValueError(f"num_values must be a power of two, {MIN_SIZE} or more, not {num_values}")
    table = phasors(num_values).astype(np.float32)
    table.flags.writeable = False
    return table


def _transform(
    values: NDArray[np.float32], spare: NDArray[np.float32], phasor: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Forward transform of real and imaginary parts, one row each; the result is in the one array or in the other.

    A step has ``stride`` transforms of ``size`` values each. While ``size`` is the greater, the values of a transform
    lie side by side, later the same value of all transforms: the inner loops, which vectorise, are long in every step.
    """
    stride, size = 1, values.shape[1]
    sums = np.empty((8, _TILE), np.float32)
    for factors in _factors(size):
        _radix_4_along_values(spare, values, stride, factors, sums)
        values, spare = spare, values
        stride, size = 4 * stride, size // 4
    for part in range(2):
        _transpose(spare[part], values[part], stride)
    values, spare = spare, values
    while size > 1:
        if size % 4 == 0:
            _radix_4_along_transforms(spare, values, stride, phasor, sums)
        else:
            _radix_2(spare, values)
        values, spare = spare, values
        stride, size = 4 * stride, size // 4
    return values


@functools.lru_cache(maxsize=8)
def _factors(num_values: int) -> list[NDArray[np.float32]]:
    """Cosines and sines by which each step of `_radix_4_along_values` turns its outputs 1 to 3."""
    phasor, steps = _phasors(2 * num_values), []
    stride, size = 1, num_values
    while stride < size // 4:
        turned = [phasor[:, 0 : n * num_values // 2 : 2 * n * stride] for n in (1, 2, 3)]
        steps.append(np.array(turned))
        steps[-1].flags.writeable = False
        stride, size = 4 * stride, size // 4
    return steps


@compiled
def _radix_4_along_values(
    out: NDArray[np.float32],
    values: NDArray[np.float32],
    stride: int,
    factors: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Butterflies of four, whose outputs are turned by ``factors``, of shape (3, 2, values of a quarter)."""
    quarter = factors.shape[2]
    for transform in range(stride):
        for start in range(0, quarter, _TILE):
            size = min(_TILE, quarter - start)
            to, apart = transform * quarter + start, stride * quarter
            _butterflies(out, to, apart, values, 4 * transform * quarter + start, quarter, size, sums)
            for n in range(3):
                first = to + (n + 1) * apart
                re, im = out[0, first : first + size], out[1, first : first + size]
                cosines, sines = factors[n, 0, start : start + size], factors[n, 1, start : start + size]
                for i in range(size):
                    x, y = re[i], im[i]
                    re[i] = x * cosines[i] + y * sines[i]
                    im[i] = y * cosines[i] - x * sines[i]


@compiled
def _radix_4_along_transforms(
    out: NDArray[np.float32],
    values: NDArray[np.float32],
    stride: int,
    phasor: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Butterflies of four, each ``stride`` of them, of as many transforms, with the same factors."""
    quarter = values.shape[1] // 4
    for value in range(0, quarter, stride):
        for start in range(value, value + stride, _TILE):
            size = min(_TILE, value + stride - start)
            to = 3 * value + start
            _butterflies(out, to, stride, values, start, quarter, size, sums)
            for n in range(1, 4):
                first = to + n * stride
                re, im = out[0, first : first + size], out[1, first : first + size]
                cosine, sine = phasor[0, 2 * n * value], phasor[1, 2 * n * value]
                for i in range(size):
                    x, y = re[i], im[i]
                    re[i] = x * cosine + y * sine
                    im[i] = y * cosine - x * sine


@compiled
def _butterflies(
    out: NDArray[np.float32],
    to: int,
    apart_out: int,
    values: NDArray[np.float32],
    start: int,
    apart: int,
    size: int,
    sums: NDArray[np.float32],
) -> None:
    """Transforms of four values each, ``apart`` from each other, before their outputs are turned.

    One sum and one difference at a time: with more arrays in a loop the compiler gives up proving that they don't
    overlap, and vectorising.
    """
    for part in range(2):
        a, b = values[part, start : start + size], values[part, start + apart : start + apart + size]
        c, d = values[part, start + 2 * apart :][:size], values[part, start + 3 * apart :][:size]
        _sums_and_differences(sums[4 * part], sums[4 * part + 1], a, c)
        _sums_and_differences(sums[4 * part + 2], sums[4 * part + 3], b, d)
    re, im = out[0, to:], out[1, to:]
    _sums_and_differences(re, re[2 * apart_out :], sums[0, :size], sums[2])
    _sums_and_differences(im, im[2 * apart_out :], sums[4, :size], sums[6])
    _sums_and_differences(re[apart_out:], re[3 * apart_out :], sums[1, :size], sums[7])
    _sums_and_differences(im[3 * apart_out :], im[apart_out:], sums[5, :size], sums[3])


@compiled
def _sums_and_differences(
    sums: NDArray[np.float32], differences: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> None:
    for i in range(x.size):
        a, b = x[i], y[i]
        sums[i] = a + b
        differences[i] = a - b


@compiled
def _transpose(out: NDArray[np.float32], values: NDArray[np.float32], num_rows: int) -> None:
    """Write the columns of a matrix one after the other; a few rows at a time stay in the first cache."""
    num_columns = values.size // num_rows
    for first in range(0, num_rows, _TRANSPOSED_ROWS):
        end = min(first + _TRANSPOSED_ROWS, num_rows)
        for column in range(num_columns):
            for row in range(first, end):
                out[column * num_rows + row] = values[row * num_columns + column]


@compiled
def _radix_2(out: NDArray[np.float32], values: NDArray[np.float32]) -> None:
    """Butterflies of two: the last step of sizes that are no powers of four."""
    half = values.shape[1] // 2
    for part in range(2):
        _sums_and_differences(out[part], out[part, half:], values[part, :half], values[part, half:])


@compiled
def _spread(
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    band_re: NDArray[np.float32],
    band_im: NDArray[np.float32],
    low: int,
    cosines: NDArray[np.float32],
    sines: NDArray[np.float32],
) -> None:
    """Coefficients of the complex signal whose parts are the real signal's even and odd values."""
    for n in range(band_re.size):
        k = low + n
        x, y, c, s = band_re[n], band_im[n], cosines[k], sines[k]
        turned_re, turned_im = -(x * s + y * c), x * c - y * s  # times 1j exp(2j pi k / num_values)
        re[k], im[k] = x + turned_re, y + turned_im
        re[re.size - k], im[re.size - k] = x - turned_re, turned_im - y


@compiled
def _gather(
    band_re: NDArray[np.float32],
    band_im: NDArray[np.float32],
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    low: int,
    cosines: NDArray[np.float32],
    sines: NDArray[np.float32],
) -> None:
    """Coefficients of the real signal from those of the complex one."""
    half = np.float32(0.5)
    for n in range(band_re.size):
        k = low + n
        c, s = cosines[k], sines[k]
        even_re, even_im = re[k] + re[re.size - k], im[k] - im[re.size - k]
        odd_re, odd_im = im[k] + im[re.size - k], re[re.size - k] - re[k]
        band_re[n] = half * (even_re + (odd_re * c + odd_im * s))
        band_im[n] = half * (even_im + (odd_im * c - odd_re * s))


@compiled
def _interleave(out: NDArray[np.float32], even: NDArray[np.float32], odd: NDArray[np.float32]) -> None:
    for i in range(even.size):
        out[2 * i] = even[i]
        out[2 * i + 1] = odd[i]


@compiled
def _separate(even: NDArray[np.float32], odd: NDArray[np.float32], values: NDArray[np.float32]) -> None:
    for i in range(even.size):
        even[i] = values[2 * i]
        odd[i] = values[2 * i + 1]
