"""Fourier series of our own against numpy's in double precision."""

import numpy as np
import pytest

from heimdall_pipelines.rf.fourier import MIN_SIZE, coefficients_of_values, values_of_series

from .signals import generator

SIZES = [MIN_SIZE, 2 * MIN_SIZE, 1024, 32_768, 65_536]
# Each of the up to 16 steps rounds to 6e-8 of the root mean square; the greatest of 65,536 errors is 5 sigma of 2.5e-7.
TOLERANCE = 1.5e-6


@pytest.mark.parametrize("size", SIZES)
def test_a_series_has_the_values_of_its_coefficients(size):
    low, num_bins = 3, size // 4 - 3
    band = generator(size).standard_normal((2, num_bins)).astype(np.float32)
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    spectrum[low : low + num_bins] = band[0] + 1j * band[1]
    expected = np.fft.irfft(spectrum, size) * size
    assert values_of_series(band, low, size) == pytest.approx(expected, abs=TOLERANCE * expected.std())


@pytest.mark.parametrize("size", SIZES)
def test_values_have_the_coefficients_of_their_band(size):
    values = generator(size).standard_normal(size).astype(np.float32)
    expected = np.fft.rfft(values)[5 : size // 4]
    real, imag = coefficients_of_values(values, 5, size // 4 - 5)
    tolerance = TOLERANCE * float(np.sqrt(np.mean(np.abs(expected) ** 2)))
    assert real == pytest.approx(expected.real, abs=tolerance)
    assert imag == pytest.approx(expected.imag, abs=tolerance)


@pytest.mark.parametrize("size", [0, 32, 96, 1000])
def test_sizes_that_are_no_powers_of_two_are_refused(size):
    with pytest.raises(ValueError, match="power of two"):
        values_of_series(np.zeros((2, 1), np.float32), 1, size)


def test_bins_beyond_a_quarter_of_the_rate_are_refused():
    with pytest.raises(ValueError, match="beyond a quarter"):
        values_of_series(np.zeros((2, 17), np.float32), 0, 64)
