"""Levels by a receiver's own meter: where its gain control follows the signal, samples alone tell no level."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.receivers.stream import LevelKind

_KEY = "level_readings"


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
