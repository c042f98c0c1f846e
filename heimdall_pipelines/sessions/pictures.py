"""Pictures of a session, small enough to be kept with every materialization."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from heimdall_pipelines.pictures import MAX_PNG_BYTES, literal, small_png
from heimdall_pipelines.sessions.extraction import ExtractionReport, StationSummary


def spectrogram_png(report: ExtractionReport) -> bytes | None:
    """Draw a spectrogram per station, one above the other.

    Returns
    -------
    bytes or None
        A PNG below 100 kB; None if no station could be read.
    """
    stations = [station for station in report.stations if station.spectrogram_dbm_per_hz]
    if not stations:
        return None
    return small_png(_spectrogram_figure(report, stations), MAX_PNG_BYTES)


def _spectrogram_figure(report: ExtractionReport, stations: Sequence[StationSummary]) -> Figure:
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(8, 0.7 + 1.45 * len(stations)), layout="constrained")
        axes = figure.subplots(len(stations), 1, sharex=True, squeeze=False)[:, 0]
        for axis, station in zip(axes, stations, strict=True):
            power = np.concatenate(station.spectrogram_dbm_per_hz).T
            finite = power[np.isfinite(power)]
            low, high = np.percentile(finite, [5, 99.9]) if finite.size else (0, 1)
            half_khz = station.sample_rate_hz / 2e3
            image = axis.imshow(
                power,
                aspect="auto",
                origin="lower",
                extent=(0, report.duration_s, -half_khz, half_khz),
                vmin=low,
                vmax=max(high, low + 1),
                cmap="viridis",
                interpolation="nearest",
            )
            axis.set_title(literal(station.rx_id), loc="left", fontsize=8, pad=2)
            axis.set_ylabel("offset, kHz")
            figure.colorbar(image, ax=axis, label="dBm/Hz", pad=0.01)
        axes[-1].set_xlabel("time, s")
        centre = f"centre {report.session.frequency_hz / 1e3:.10g} kHz"
        figure.suptitle(f"{literal(report.session.slug)}, {centre}", fontsize=9)
    return figure
