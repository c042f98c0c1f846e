"""The features of a receiver's samples: name, unit, range, definition and version of each, in one table.

The estimator fills a structure with these names; the checks, the view `receiver_features`, the column schema of the
assets and the table in docs/science.md are made from it.

A feature is added at the end, `since` the next version, and `FEATURE_VERSION` is raised to that; `features.py` computes
it; the table in docs/science.md is rewritten (see `test_documented_features.py`). The meaning of a feature is
fixed: another computation is another feature with a name of its own, so that rows of every version stay comparable.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FEATURE_VERSION = 3
"""Version of the set of features of a row; it is stored with each row. 3 adds time differences between receivers."""

TIME_DIFFERENCES_SINCE = 3
"""First version of which rows have the column time_differences."""

STATISTICS = ("mean", "std", "min", "max")
"""What is kept of each feature, over the chunks in which it was observed."""


@dataclass(frozen=True)
class Feature:
    """Definition of a feature, a number measured in each chunk.

    Attributes
    ----------
    name : str
        As in JSON, SQL and Python; ends with the unit, if it has one.
    unit : str
        Empty for a plain number.
    range : tuple of float
        Least and greatest possible value. A number outside is a defect, not a rare observation.
    definition : str
        Markdown in one line, with the symbols of `extract_features`.
    since : int
        First version of the feature set that has it.
    """

    name: str
    unit: str
    range: tuple[float, float]
    definition: str
    since: int


_LEVEL_DBM = (-250.0, 100.0)  # levels leave room for any calibration
_FREQUENCY_HZ = (-1.2e6, 1.2e6)
_ANY_MAGNITUDE = (0.0, math.inf)
_SHARE = (0.0, 1.0)

FEATURES: tuple[Feature, ...] = (
    Feature("rssi_dbm", "dBm", _LEVEL_DBM, "S, the power in the channel less the noise's; null where not positive", 1),
    Feature(
        "snr_db", "dB", (-100.0, 200.0), "S / (N0 F), over the band F that is received; null where S is not positive", 1
    ),
    Feature(
        "noise_floor_dbm",
        "dBm",
        _LEVEL_DBM,
        "N0 F: noise density by forward consecutive mean excision, over the band F that is received; null for silence",
        1,
    ),
    Feature(
        "frequency_offset_hz",
        "Hz",
        _FREQUENCY_HZ,
        "Hann-weighted mean of arg(z[n+1] conj(z[n])) if carrier to noise is 7 dB or more and at most a tenth of the "
        "samples are faint, under four times the noise (which rules out keyed carriers, whose gaps are noise); else "
        "arg of the sum of z[n+1] conj(z[n]) less that of the noise. The latter weights by power: a channel that "
        "passes one side of a frequency-modulated signal better pulls it by hundreds of hertz. Null where D < 5",
        1,
    ),
    Feature(
        "bandwidth_hz",
        "Hz",
        (0.0, 2.4e6),
        "occupied bandwidth, 99 % of S (ITU-R SM.443); null below 10 dB carrier to noise. The window resolves 15 / T",
        1,
    ),
    Feature(
        "psd_dbm_per_hz",
        "dBm/Hz",
        (-300.0, 100.0),
        "mean density in the channel of signal and noise together, S / B + N0; null for silence",
        1,
    ),
    Feature("spectral_centroid_hz", "Hz", _FREQUENCY_HZ, "mean frequency of S; null where D < 5", 1),
    Feature(
        "spectral_rolloff_hz",
        "Hz",
        _FREQUENCY_HZ,
        "frequency, from -B/2 to B/2, below which 85 % of S lies; null where D < 5",
        1,
    ),
    Feature("envelope_mean", "sqrt(W)", _ANY_MAGNITUDE, "mean of abs(z); null for silence", 1),
    Feature("envelope_std", "sqrt(W)", _ANY_MAGNITUDE, "standard deviation of abs(z); null for silence", 1),
    Feature("envelope_max", "sqrt(W)", _ANY_MAGNITUDE, "greatest abs(z); null for silence", 1),
    Feature("peak_to_avg_ratio_db", "dB", (-0.01, 100.0), "greatest over mean abs(z)²; null for silence", 1),
    Feature(
        "zero_crossing_rate",
        "",
        _SHARE,
        "share of successive samples between which Re(z) changes its sign; null for silence",
        1,
    ),
    Feature(
        "multipath_delay_spread_us",
        "us",
        (0.0, 1e6),
        "magnitude of the slope of ln(abs(z)) over the instantaneous frequency, over 2 pi: about half the rms spread "
        "where there is any, no more than its own error where not; null for unmodulated carriers and below 10 dB "
        "carrier to noise",
        1,
    ),
    Feature(
        "coherence_bandwidth_khz",
        "kHz",
        _ANY_MAGNITUDE,
        "1 / (5 delay spread), where the confidence in it is at least 0.5 and the spread above twice its standard "
        "error; else null",
        1,
    ),
    Feature(
        "delay_spread_confidence",
        "",
        _SHARE,
        "1 / (1 + (standard error of the delay spread / 1 us)²); 0 where there is no delay spread",
        1,
    ),
    Feature(
        "confidence_score", "", _SHARE, "share of the channel's power that is signal, S / (S + N0 B); 0 if D < 5", 1
    ),
    Feature(
        "cn0_dbhz",
        "dB-Hz",
        (-61.0, 264.0),  # that of snr_db, times the least and the greatest sample rate
        "carrier-to-noise density, 10 log10(S / N0) (Kaplan and Hegarty, Understanding GPS/GNSS, 3rd ed., 2017): the "
        "same at any sample rate, so that it compares between receivers where snr_db does not; null where S is not "
        "positive, and for silence",
        2,
    ),
)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def names_of_version(version: int) -> set[str]:
    """Return the names of the features that rows of a version have.

    Parameters
    ----------
    version : int
        Version of the features, from 1.

    Returns
    -------
    set of str

    Examples
    --------
    >>> names_of_version(2) - names_of_version(1)
    {'cn0_dbhz'}
    """
    return {feature.name for feature in FEATURES if feature.since <= version}


def wrong_feature_set(names: Collection[str], version: int) -> Iterator[str]:
    """Describe how the features of a receiver differ from those of its row's version.

    Parameters
    ----------
    names : collection of str
        Of the receiver's features.
    version : int
        Version of the row.

    Yields
    ------
    str
        What is missing, and what is unknown.

    Examples
    --------
    >>> list(wrong_feature_set(names_of_version(1), 2))
    ['lacks cn0_dbhz']
    """
    expected = names_of_version(version)
    if missing := sorted(expected.difference(names)):
        yield f"lacks {', '.join(missing)}"
    if unknown := sorted(set(names) - expected):
        yield f"has {', '.join(unknown)}, which feature version {version} does not have"


def out_of_range(features: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Describe each statistic of a receiver's features that is impossible.

    Parameters
    ----------
    features : mapping
        ``{feature: {"mean": …, "std": …, "min": …, "max": …}}``; None where nothing was observed.

    Yields
    ------
    str
        Such as ``snr_db.mean = 1e+09 is outside -100..200``.
    """
    for feature, statistics in features.items():
        low, high = _RANGES.get(feature, (-math.inf, math.inf))
        for statistic, value in statistics.items():
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                yield f"{feature}.{statistic} = {value!r} is no number"
                continue
            lowest, highest = (0.0, math.inf) if statistic == "std" else (low, high)
            if not (lowest <= value <= highest and math.isfinite(value)):
                yield f"{feature}.{statistic} = {value} is outside {lowest:g}..{highest:g}"


_RANGES = {feature.name: feature.range for feature in FEATURES}
