"""Cramer-Rao bound of a sample's position, from its truth and the dataset's parameters."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from heimdall_pipelines.learning.bounds import MIN_RECEIVERS, arrival_std_s, position_bounds
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.model.truth import PositionBound, SampleTruth

DECIMALS = 3  # mm and thousandths of a degree: the last digits of a processor do not show


def with_bound(truth: SampleTruth, places_deg: Sequence[tuple[float, float]], spec: DatasetSpec) -> SampleTruth:
    """Add the bound of the position to a truth.

    Parameters
    ----------
    truth : SampleTruth
        Of a sample whose IQ was made.
    places_deg : sequence of (float, float)
        Latitude and longitude of its receivers, in the order of the truth.
    spec : DatasetSpec

    Returns
    -------
    SampleTruth
        With the ellipse of 95 % of the receivers that detect, by `learning.bounds`, or the reason why there is none.
    """
    counted = [
        (place, link.snr_db)
        for place, link in zip(places_deg, truth.receivers, strict=True)
        if link.detected and link.snr_db is not None
    ]
    if len(counted) < MIN_RECEIVERS:
        return _without(truth, f"{len(counted)} receivers detect, a position needs {MIN_RECEIVERS}")
    ellipse = position_bounds(
        np.array([truth.tx_latitude]),
        np.array([truth.tx_longitude]),
        np.zeros(len(counted), np.int64),
        np.array([latitude for (latitude, _), _ in counted]),
        np.array([longitude for (_, longitude), _ in counted]),
        arrival_std_s(
            np.array([snr_db for _, snr_db in counted]),
            sample_rate_hz=float(spec.sample_rate_hz),
            bandwidth_hz=float(spec.bandwidth_hz),
            duration_s=spec.duration_s,
            clock_std_s=spec.receiver_clock_ns * 1e-9,
        ),
    )[0]
    if not np.isfinite(ellipse).all():
        return _without(truth, "the receivers that detect do not determine a position")
    major_m, minor_m, azimuth_deg = (round(float(value), DECIMALS) for value in ellipse)
    return replace(truth, position_bound=PositionBound(major_m, minor_m, azimuth_deg % 180))


def _without(truth: SampleTruth, reason: str) -> SampleTruth:
    return replace(truth, position_bound=PositionBound(None, None, None, reason))
