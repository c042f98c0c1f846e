"""What samples behind a gain control tell, with and without the receiver's own level meter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.receivers.stream import LevelKind

_KEY = "level_readings"
# The gain control follows the envelope within a chunk, and audio of one sideband has been through a codec.
_UNKNOWN_OF_AUDIO = (
    "envelope_mean",
    "envelope_std",
    "envelope_max",
    "peak_to_avg_ratio_db",
    "multipath_delay_spread_us",
    "coherence_bandwidth_khz",
    "delay_spread_confidence",
)
_LEVELS = ("rssi_dbm", "noise_floor_dbm", "psd_dbm_per_hz")

Statistics = dict[str, float | None]


@dataclass(frozen=True)
class MeterLevels:
    """Mean reading of each second of a recording.

    Attributes
    ----------
    kind : LevelKind
        dBm, by the receiver's own calibration, or dB relative to its full scale before its gain control.
    means_db : tuple of float or None
        None for a second without readings.
    """

    kind: LevelKind
    means_db: tuple[float | None, ...]

    def full_scale_db(self, iq: NDArray[np.complex64], first_sample: int, sample_rate_hz: float) -> float | None:
        """Level of ``abs(x) = 1`` during some samples: the reading over the samples' own mean power.

        Parameters
        ----------
        iq : NDArray[complex64], shape (samples,)
            After the receiver's gain control.
        first_sample : int
            Number of the first one in the recording.
        sample_rate_hz : float

        Returns
        -------
        float or None
            None without readings, or if the samples are all zero.
        """
        first_s = int(first_sample / sample_rate_hz)
        last_s = int((first_sample + iq.size - 1) / sample_rate_hz)
        readings = [10 ** (db / 10) for db in self.means_db[first_s : last_s + 1] if db is not None]
        power = float(np.mean(np.square(iq.real, dtype=np.float64) + np.square(iq.imag, dtype=np.float64)))
        if not readings or power <= 0:
            return None
        return 10 * math.log10(sum(readings) / len(readings) / power)


def sidecar_levels(kind: LevelKind | None, means_db: Sequence[float | None]) -> dict[str, Any]:
    """Write readings as extra values of a station's SigMF description; none without readings."""
    if kind is None or not means_db:
        return {}
    return {_KEY: {"kind": kind.value, "interval_s": 1.0, "means_db": list(means_db)}}


def meter_levels(sidecar: Mapping[str, Any]) -> MeterLevels | None:
    """Read the readings of a recording whose gain was automatic from its SigMF description; None without any.

    With a fixed gain the samples themselves tell the level.
    """
    stored = sidecar.get("global", {}).get(f"heimdall:{_KEY}")
    if not sidecar.get("global", {}).get("heimdall:automatic_gain_control") or not isinstance(stored, dict):
        return None
    return MeterLevels(LevelKind(stored["kind"]), tuple(stored["means_db"]))


def has_phase(sidecar: Mapping[str, Any]) -> bool:
    """Whether a recording is the receiver's own IQ, by its SigMF description; else it is made from audio."""
    return sidecar.get("global", {}).get("heimdall:has_phase") is not False


def known_of_audio(features: Mapping[str, Statistics], *, has_levels: bool) -> dict[str, Statistics]:
    """Features of a recording made from audio, null where they cannot be known.

    Parameters
    ----------
    features : mapping of str to dict
        As measured; their statistics.
    has_levels : bool
        Whether the receiver's own meter tells the levels.
    """
    unknown = _unknown_of_audio(has_levels=has_levels)
    return {name: dict.fromkeys(statistics) if name in unknown else statistics for name, statistics in features.items()}


def unknown_of_audio_text(*, has_levels: bool) -> str:
    """Say which features are null, and why, as a flag."""
    names = ", ".join(_unknown_of_audio(has_levels=has_levels))
    return f"audio of one sideband after automatic gain control does not tell {names}: null"


def _unknown_of_audio(*, has_levels: bool) -> tuple[str, ...]:
    return _UNKNOWN_OF_AUDIO if has_levels else (*_LEVELS, *_UNKNOWN_OF_AUDIO)
