"""Waterfalls of a session's stations, one below the other, on one time axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from heimdall_pipelines.pictures import literal, small_png
from heimdall_pipelines.rf.spectrogram import spectrogram_dbm_per_hz
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.objects import ObjectNotFoundError, ObjectUnreadableError
from heimdall_pipelines.store.stores import Stores

MAX_PNG_BYTES = 1_500_000
_TIMES = 500
_BINS = 128
_AVERAGES = 8  # periodograms of each time


@dataclass(frozen=True, eq=False)
class Waterfall:
    """One station's power over time and frequency, or why there is none.

    Attributes
    ----------
    recording : StationRecording
    power_dbm_per_hz : ndarray of float32, shape (num_times, num_bins), or None
    reason : str or None
    """

    recording: StationRecording
    power_dbm_per_hz: NDArray[np.float32] | None
    reason: str | None

    @property
    def duration_s(self) -> float:
        """Of the recording."""
        return self.recording.samples_count / self.recording.sample_rate_hz if self.recording.samples_count else 0.0


def waterfalls(stores: Stores, recordings: Sequence[StationRecording]) -> list[Waterfall]:
    """Compute the waterfall of each station; 500 short stretches of each recording are read."""
    return [_waterfall(stores, recording) for recording in recordings]


def waterfall_png(found: Sequence[Waterfall], centre_hz: float, title: str) -> bytes | None:
    """Draw waterfalls below each other; None without any.

    Parameters
    ----------
    found : sequence of Waterfall
    centre_hz : float
        Frequency of the middle.
    title : str
    """
    drawn = [x for x in found if x.power_dbm_per_hz is not None]
    if not drawn:
        return None
    first_ns = min(x.recording.start_time_unix_ns for x in drawn)
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(9, 0.7 + 1.5 * len(drawn)), layout="constrained")
        axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
        for axis, one in zip(axes, drawn, strict=True):
            assert one.power_dbm_per_hz is not None
            power = one.power_dbm_per_hz.T
            finite = power[np.isfinite(power)]
            low, high = np.percentile(finite, [5, 99.9]) if finite.size else (0.0, 1.0)
            half_khz = one.recording.sample_rate_hz / 2e3
            start_s = (one.recording.start_time_unix_ns - first_ns) / 1e9
            image = axis.imshow(
                power,
                aspect="auto",
                origin="lower",
                extent=(start_s, start_s + one.duration_s, -half_khz, half_khz),
                vmin=low,
                vmax=max(high, low + 1),
                cmap="viridis",
                interpolation="nearest",
            )
            axis.set_title(literal(one.recording.station.rx_id), loc="left", fontsize=8, pad=2)
            axis.set_ylabel("offset, kHz")
            figure.colorbar(image, ax=axis, label="dBm/Hz", pad=0.01)
        ends_s = [(x.recording.start_time_unix_ns - first_ns) / 1e9 + x.duration_s for x in drawn]
        axes[-1].set_xlim(0, max(ends_s))
        axes[-1].set_xlabel("time since the first sample of all, s")
        figure.suptitle(f"{literal(title)}, centre {centre_hz / 1e3:.10g} kHz", fontsize=9)
        return small_png(figure, MAX_PNG_BYTES)


def _waterfall(stores: Stores, recording: StationRecording) -> Waterfall:
    if recording.location is None:
        return Waterfall(recording, None, recording.error_message or "nothing was recorded")
    try:
        iq = StationIq(stores.objects, recording)
        stretch = iq.num_samples // _TIMES
        if stretch < _BINS:
            return Waterfall(recording, None, "too short")
        length = min(stretch, _BINS * _AVERAGES)
        rows = [
            spectrogram_dbm_per_hz(
                iq.read(number * stretch, length),
                sample_rate_hz=recording.sample_rate_hz,
                full_scale_dbm=recording.full_scale_dbm,
                num_times=1,
                num_bins=_BINS,
            )
            for number in range(_TIMES)
        ]
    except (ObjectNotFoundError, ObjectUnreadableError, IqObjectError) as error:
        return Waterfall(recording, None, str(error))
    return Waterfall(recording, np.concatenate(rows), None)
