"""Noise levels against P.372 and against thermal noise."""

import pytest

from heimdall_pipelines.rf.environment import ENVIRONMENTS, man_made_noise_figure_db, noise_power_dbm

LEVELS_DBM = {"city": -103.8, "residential": -107.7, "rural": -111.8}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_noise_at_145_mhz_is_that_of_the_environment(environment):
    # 0.1 dB: the figures are rounded to 0.1, and use -174 dBm/Hz for k T0.
    assert noise_power_dbm(145e6, 200e3, environment, noise_figure_db=6) == pytest.approx(
        LEVELS_DBM[environment], abs=0.1
    )


def test_man_made_noise_falls_by_28_db_per_decade():
    fall_db = man_made_noise_figure_db(20e6, "rural") - man_made_noise_figure_db(200e6, "rural")
    assert fall_db == pytest.approx(27.7)


def test_far_above_man_made_noise_the_receivers_own_remains():
    # k 290 K 1 Hz = -173.98 dBm; at 10 GHz man-made noise is -34 dB of that, and the warm ground is T0.
    assert noise_power_dbm(10e9, 1.0, "city", noise_figure_db=6.0) == pytest.approx(-173.975 + 6, abs=0.001)


def test_a_noise_figure_of_0_db_is_a_value():
    lossless_dbm = noise_power_dbm(145e6, 200e3, "rural", noise_figure_db=0.0)
    # A receiver without noise of its own leaves man-made noise alone: -120.965 + 7.33 dBm.
    assert lossless_dbm == pytest.approx(-173.975 + 53.010 + 67.2 - 59.870, abs=0.005)
    assert lossless_dbm < noise_power_dbm(145e6, 200e3, "rural")


def test_twice_the_band_has_twice_the_noise():
    assert noise_power_dbm(145e6, 400e3, "city") - noise_power_dbm(145e6, 200e3, "city") == pytest.approx(3.0103)
