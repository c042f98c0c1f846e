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
    _spread(work[0, 0], work[0, 1], band[0], band[1], low, phasor[0], phasor[1])
    re, im = _transform(work[0, 1], work[0, 0], work[1, 1], work[1, 0], phasor)[::-1]  # swapped parts: the inverse
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
    re, im = _transform(work[0, 0], work[0, 1], work[1, 0], work[1, 1], phasor)
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
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    spare_re: NDArray[np.float32],
    spare_im: NDArray[np.float32],
    phasor: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Forward transform; the result is in one of the two pairs of arrays."""
    size, stride = re.size, 1
    while size > 1:
        step = _radix_4 if size % 4 == 0 else _radix_2
        step(spare_re, spare_im, re, im, stride, phasor[0], phasor[1])
        re, im, spare_re, spare_im = spare_re, spare_im, re, im
        stride *= 4
        size //= 4
    return re, im


@compiled
def _radix_4(
    out_re: NDArray[np.float32],
    out_im: NDArray[np.float32],
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    stride: int,
    cosines: NDArray[np.float32],
    sines: NDArray[np.float32],
) -> None:
    """Radix-4 butterflies; ``stride`` of them share the same factors."""
    quarter = re.size // 4
    ar, br, cr, dr = re[:quarter], re[quarter:], re[2 * quarter :], re[3 * quarter :]
    ai, bi, ci, di = im[:quarter], im[quarter:], im[2 * quarter :], im[3 * quarter :]
    for start in range(0, quarter, stride):
        c1, s1 = cosines[2 * start], sines[2 * start]
        c2, s2 = cosines[4 * start], sines[4 * start]
        c3, s3 = cosines[6 * start], sines[6 * start]
        to_re, to_im = out_re[4 * start : 4 * (start + stride)], out_im[4 * start : 4 * (start + stride)]
        for q in range(stride):
            i = start + q
            sum_re, difference_re = ar[i] + cr[i], ar[i] - cr[i]
            sum_im, difference_im = ai[i] + ci[i], ai[i] - ci[i]
            other_re, turned_im = br[i] + dr[i], br[i] - dr[i]
            other_im, turned_re = bi[i] + di[i], di[i] - bi[i]
            to_re[q] = sum_re + other_re
            to_im[q] = sum_im + other_im
            x, y = difference_re - turned_re, difference_im - turned_im
            to_re[stride + q] = x * c1 + y * s1
            to_im[stride + q] = y * c1 - x * s1
            x, y = sum_re - other_re, sum_im - other_im
            to_re[2 * stride + q] = x * c2 + y * s2
            to_im[2 * stride + q] = y * c2 - x * s2
            x, y = difference_re + turned_re, difference_im + turned_im
            to_re[3 * stride + q] = x * c3 + y * s3
            to_im[3 * stride + q] = y * c3 - x * s3


@compiled
def _radix_2(
    out_re: NDArray[np.float32],
    out_im: NDArray[np.float32],
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    _stride: int,
    _cosines: NDArray[np.float32],
    _sines: NDArray[np.float32],
) -> None:
    """Radix-2 butterflies: the last step of sizes that are not powers of four."""
    half = re.size // 2
    for i in range(half):
        out_re[i] = re[i] + re[half + i]
        out_re[half + i] = re[i] - re[half + i]
        out_im[i] = im[i] + im[half + i]
        out_im[half + i] = im[i] - im[half + i]


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
