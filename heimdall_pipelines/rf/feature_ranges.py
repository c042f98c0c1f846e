"""Within what a feature can be: a number outside is a defect, not a rare observation."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

# What the physics and the estimators allow; levels leave room for any calibration.
_LEVEL_DBM = (-250.0, 100.0)
_FREQUENCY_HZ = (-1.2e6, 1.2e6)
FEATURE_RANGES: dict[str, tuple[float, float]] = {
    "rssi_dbm": _LEVEL_DBM,
    "snr_db": (-60.0, 200.0),
    "noise_floor_dbm": _LEVEL_DBM,
    "frequency_offset_hz": _FREQUENCY_HZ,
    "bandwidth_hz": (0.0, 2.4e6),
    "psd_dbm_per_hz": (-300.0, 100.0),
    "spectral_centroid_hz": _FREQUENCY_HZ,
    "spectral_rolloff_hz": _FREQUENCY_HZ,
    "envelope_mean": (0.0, math.inf),
    "envelope_std": (0.0, math.inf),
    "envelope_max": (0.0, math.inf),
    "peak_to_avg_ratio_db": (-0.01, 100.0),
    "zero_crossing_rate": (0.0, 1.0),
    "multipath_delay_spread_us": (0.0, 1e6),
    "coherence_bandwidth_khz": (0.0, math.inf),
    "delay_spread_confidence": (0.0, 1.0),
    "confidence_score": (0.0, 1.0),
}

NUM_STATISTICS = 4  # of each feature: mean, std, min, max

Statistics = Mapping[str, Any]


def out_of_range(features: Mapping[str, Statistics]) -> Iterator[str]:
    """Name each statistic of a receiver's features that cannot be.

    Parameters
    ----------
    features : mapping
        ``{feature: {"mean": …, "std": …, "min": …, "max": …}}``; None where nothing was observed.

    Yields
    ------
    str
        Such as ``snr_db.mean = 1e+09 is outside -60..200``.
    """
    for feature, statistics in features.items():
        low, high = FEATURE_RANGES.get(feature, (-math.inf, math.inf))
        for statistic, value in statistics.items():
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                yield f"{feature}.{statistic} = {value!r} is no number"
                continue
            lowest, highest = (0.0, math.inf) if statistic == "std" else (low, high)
            if not (lowest <= value <= highest and math.isfinite(value)):
                yield f"{feature}.{statistic} = {value} is outside {lowest:g}..{highest:g}"
