"""Cramer-Rao bound of a position along straight lines, to compare with `learning.bounds`, which follows the ground."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.rf.arrivals import Arrivals
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_pipelines.rf.positioning import Receiver, excess_delays


def straight_bound(
    lat_deg: float, lon_deg: float, receivers: Sequence[Receiver], std_s: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Ellipse of 95 %: semi-axes in m and azimuth of the larger one in degrees, from each receiver's deviation."""
    arrivals = Arrivals(list(receivers), np.zeros(len(receivers)), std_s, std_s)
    _, design = excess_delays(arrivals, lat_deg, lon_deg)
    information = design.T @ (design / (std_s[:, None] * SPEED_OF_LIGHT_M_PER_S) ** 2)
    variances, axes = np.linalg.eigh(np.linalg.inv(information)[:2, :2])
    minor_m, major_m = math.sqrt(-2 * math.log(0.05)) * np.sqrt(variances)
    return float(major_m), float(minor_m), math.degrees(math.atan2(*axes[:, 1])) % 180


def assert_is_bound(
    found: tuple[float, float, float],
    place_deg: tuple[float, float],
    receivers: Sequence[Receiver],
    snr_db: Sequence[float],
    spec: DatasetSpec,
) -> None:
    """Assert that axes in m and azimuth in degrees are those of the bound of receivers with these SNRs."""
    carrier_hz = 10 ** (np.asarray(snr_db) / 10) * spec.sample_rate_hz
    std_s = np.sqrt(1 / (8 * np.pi**2 * spec.bandwidth_hz**2 / 12 * carrier_hz * spec.duration_s) + 50e-9**2)
    major_m, minor_m, azimuth_deg = straight_bound(*place_deg, receivers, std_s)
    # Stored to the mm, from azimuths on the ground; the other follows straight lines through the ellipsoid, which
    # leave the ground at up to 1 degree: 1.5e-4 of the distance.
    assert found[0] == pytest.approx(major_m, rel=2e-4, abs=6e-4)
    assert found[1] == pytest.approx(minor_m, rel=2e-4, abs=6e-4)
    turned = abs(found[2] - azimuth_deg) % 180
    assert min(turned, 180 - turned) < 0.01
