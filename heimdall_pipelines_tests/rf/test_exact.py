"""Elementary functions of our own agree with the C library's, whose own error is below one unit in the last place."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.signal.windows import kaiser

from heimdall_pipelines.rf import exact

from .signals import generator


def uniform(low, high, num_values=2000):
    return generator(1).uniform(low, high, num_values).tolist()


def test_cosine_and_sine_err_by_less_than_1e_15():
    for turns in [*uniform(-0.5, 0.5), -0.5, -0.25, 0.0, 0.125, 0.25, 0.5]:
        cosine, sine = exact.cos_sin_of_turns(turns)
        assert cosine == pytest.approx(math.cos(2 * math.pi * turns), abs=1e-15)
        assert sine == pytest.approx(math.sin(2 * math.pi * turns), abs=1e-15)
        again = exact.cos_sin_of_turns(turns + 8.0)  # adding 8 drops three bits of turns, 4e-16 each
        assert again == pytest.approx((cosine, sine), abs=2 * math.pi * 1e-15)


def test_whole_quarters_of_a_turn_are_exact():
    assert [exact.cos_sin_of_turns(quarters / 4) for quarters in range(4)] == [(1, 0), (0, 1), (-1, 0), (0, -1)]


def test_powers_of_two_and_ten_err_by_less_than_the_rounding_of_their_exponent():
    for x in uniform(-300, 300):
        # The exponent is rounded to 2**-53 of itself, and once more when it is made one of 2.
        assert exact.exp2(x) == pytest.approx(2**x, rel=1e-15 + abs(x) * 2e-16)
        assert exact.pow10(x) == pytest.approx(10**x, rel=1e-15 + abs(x) * 1.2e-15)
    assert [exact.exp2(float(n)) for n in (-1022, -1, 0, 1, 1022)] == [2.0**n for n in (-1022, -1, 0, 1, 1022)]


def test_powers_beyond_the_range_are_zero_or_infinite():
    assert [exact.pow10(x) for x in (-math.inf, -400.0, 400.0, math.inf)] == [0, 0, math.inf, math.inf]


def test_logarithms_err_by_less_than_1e_15():
    for x in [*uniform(1e-300, 1), *uniform(0.5, 2), *uniform(1, 1e9), 1.0, 2.0, 1e-307, 1e308]:
        assert exact.log(x) == pytest.approx(math.log(x), rel=1e-15, abs=1e-15)
        assert exact.decibels(x) == pytest.approx(10 * math.log10(x), rel=2e-15, abs=1e-14)
    assert exact.log(0.0) == -math.inf


def test_whole_numbers_next_to_a_number_are_found():
    assert [exact.nearest(x) for x in (-2.6, -0.5, 0.49, 0.5, 1.5, 2.0**40 + 0.7)] == [-3, 0, 0, 0, 2, 2**40 + 1]


def test_drawn_normals_are_normal_and_a_function_of_the_generator():
    drawn = exact.normals(generator(3), 200_000)
    assert drawn.dtype == np.float32
    assert stats.kstest(drawn, "norm").pvalue > 0.001
    assert np.array_equal(drawn[:100], exact.normals(generator(3), 100))


def test_the_window_is_kaisers():
    window = [exact.kaiser_window(n / 20, 10.0) for n in range(-20, 21)]
    assert window == pytest.approx(kaiser(41, 10.0), rel=1e-13)
