"""Pictures of a dataset, small enough to be kept with every materialization."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from heimdall_pipelines.datasets.baseline_summary import BaselineSummary
from heimdall_pipelines.datasets.summary import DatasetSummary
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.pictures import literal, small_png
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.rf.terrain import Terrain
from heimdall_pipelines.terrain.pictures import draw_relief

_WIDTH_IN = 8.0  # 720 pixels
_MAX_POINTS = 20_000  # drawn in one panel; more only cover each other
_BLUE, _GREY, _RED, _GREEN = "#1f5fa8", "#b8bec6", "#c03028", "#2a7f3f"
_SNR_BIN_DB = 2.0
_GDOP_BINS = 30
_LINEAR_DB = 0.1  # errors of the SNR are drawn linearly up to here, logarithmically beyond
_LEAST_HZ = 1e-5  # smaller errors of the frequency are drawn as this: estimates have six digits
_LEAST_US = 1e-3  # smaller errors of time differences are drawn as this: they are stored in nanoseconds
_LEAST_M = 0.1  # smaller errors of positions are drawn as this
_ERROR_BINS = 40
_PERCENT_NAMES = {5: "5 %", 50: "median", 95: "95 %"}
_TREND_BIN_DB = 5.0
_FEWEST_IN_TREND = 5
_NAME_APART = (0.12, 0.06)  # of the map's width and height: of two receivers closer than this one has its name below
_EDGE = 0.2  # of the map's width, in which names are written towards the middle


def summary_pictures(summary: DatasetSummary, terrain: Terrain | None = None) -> dict[str, bytes]:
    """Draw a dataset: its map, its histograms, its estimates against the truth.

    Parameters
    ----------
    summary : DatasetSummary
    terrain : Terrain, optional
        The ground whose shaded relief lies under the map.

    Returns
    -------
    dict of str to bytes
        Title to PNG, each below 100 kB; empty for a dataset without samples.
    """
    drawn = {title: draw() for title, draw in summary_drawings(summary, terrain).items()}
    return {title: png for title, png in drawn.items() if png is not None}


def summary_drawings(summary: DatasetSummary, terrain: Terrain | None = None) -> dict[str, Callable[[], bytes | None]]:
    """Functions that draw the pictures of `summary_pictures`, by title, so that each may fail on its own."""
    if not summary.transmissions.latitude.size:
        return {}
    spec = summary.dataset.spec
    drawings: dict[str, Callable[[], bytes | None]] = {
        "Transmitters and receivers": partial(_drawn, partial(_map, summary, spec, terrain)),
        "SNR and GDOP": partial(_drawn, partial(_histograms, summary, spec)),
        "Error of estimates": partial(_drawn, partial(_errors, summary)),
    }
    if summary.differences.error_us.size:
        drawings["Error of time differences"] = partial(_drawn, partial(_difference_errors, summary))
    if summary.baselines is not None:
        drawings["Error of positions"] = partial(_drawn, partial(_baselines, summary, summary.baselines))
    return drawings


def _drawn(make_figure: Callable[[], Figure]) -> bytes | None:
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False}):
        return small_png(make_figure())


def _map(summary: DatasetSummary, spec: DatasetSpec, terrain: Terrain | None) -> Figure:
    sent, links = summary.transmissions, summary.links
    around = summary.dataset.receivers[0].longitude
    shown = _thinned(sent.latitude.size)
    latitude, longitude = sent.latitude[shown], _near(sent.longitude[shown], around)
    if spec.use_random_receivers:
        names = []
        some = _thinned(links.rx_latitude.size)
        rx_latitude, rx_longitude = links.rx_latitude[some], _near(links.rx_longitude[some], around)
        num_receivers = f"{links.rx_latitude.size} at random"
    else:
        names = [literal(receiver.rx_id) for receiver in summary.dataset.receivers]
        rx_latitude = np.array([receiver.latitude for receiver in summary.dataset.receivers])
        rx_longitude = _near(np.array([receiver.longitude for receiver in summary.dataset.receivers]), around)
        num_receivers = f"{len(names)}"

    west, east = _limits(np.concatenate([longitude, rx_longitude]))
    south, north = _limits(np.concatenate([latitude, rx_latitude]))
    stretch = 1 / max(math.cos(math.radians((south + north) / 2)), 0.05)
    height_in = float(np.clip((_WIDTH_IN - 1.6) * (north - south) * stretch / (east - west) + 0.9, 3.0, 8.0))
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(stretch)
    if terrain is not None:
        draw_relief(axes, terrain, BoundingBox(south=south, north=north, west=west, east=east))
    axes.xaxis.set_major_formatter(lambda degrees, _: f"{(degrees + 180) % 360 - 180:.5g}")
    axes.set_xlabel("longitude, °")
    axes.set_ylabel("latitude, °")
    axes.grid(color="0.9", linewidth=0.6, zorder=0)
    _draw_transmitters(figure, axes, longitude, latitude, sent.num_detected[shown], spec.min_snr_db)
    if names:
        axes.scatter(rx_longitude, rx_latitude, marker="^", s=110, color="black", edgecolors="white", zorder=4)
        _name_receivers(axes, names, rx_longitude, rx_latitude)
    else:
        axes.scatter(
            rx_longitude,
            rx_latitude,
            marker="^",
            s=max(4.0, _dot_area(rx_latitude.size)),
            facecolors="none",
            edgecolors=to_rgba(_RED, 0.6),
            linewidths=0.5,
            zorder=1,
        )
    num_transmitters = _number(sent.latitude.size, shown.size)
    drawn = f"transmitters {num_transmitters} (dots), receivers {num_receivers} (triangles)"
    axes.set_title(f"{literal(summary.dataset.name)}: {drawn}", loc="left")
    return figure


def _draw_transmitters(
    figure: Figure,
    axes: Axes,
    longitude: NDArray[np.float64],
    latitude: NDArray[np.float32],
    num_detected: NDArray[np.int16],
    min_snr_db: float,
) -> None:
    """Draw dots in one colour for each number of receivers."""
    fewest, most = int(num_detected.min()), int(num_detected.max())
    num_colours = most - fewest + 1
    dots = axes.scatter(
        longitude,
        latitude,
        c=num_detected,
        s=_dot_area(latitude.size),
        cmap=mpl.colormaps["viridis_r"].resampled(num_colours),
        norm=BoundaryNorm(np.arange(fewest, most + 2) - 0.5, num_colours),
        linewidths=0,
        zorder=2,
    )
    bar = figure.colorbar(dots, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label(f"receivers that reach {min_snr_db:g} dB SNR")
    bar.set_ticks(range(fewest, most + 1, 1 + (most - fewest) // 10))
    bar.ax.minorticks_off()


def _name_receivers(
    axes: Axes, names: Sequence[str], longitudes: NDArray[np.floating], latitudes: NDArray[np.floating]
) -> None:
    """Write names above the receivers, below those that have another close above."""
    west, east = axes.get_xlim()
    south, north = axes.get_ylim()
    for name, longitude, latitude in zip(names, longitudes, latitudes, strict=True):
        above = (latitudes - latitude) / (north - south)
        across = np.abs(longitudes - longitude) / (east - west)
        is_below = bool(np.any((above > 0) & (above < _NAME_APART[1]) & (across < _NAME_APART[0])))
        place = (longitude - west) / (east - west)
        side = "left" if place < _EDGE else "right" if place > 1 - _EDGE else "center"
        axes.annotate(
            name,
            (longitude, latitude),
            xytext=({"left": -8, "right": 8, "center": 0}[side], -7 if is_below else 7),
            textcoords="offset points",
            ha=side,
            va="top" if is_below else "bottom",
            fontsize=8.5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
        )


def _histograms(summary: DatasetSummary, spec: DatasetSpec) -> Figure:
    figure = Figure(figsize=(_WIDTH_IN, 3.3), layout="constrained")
    of_snr, of_gdop = figure.subplots(1, 2)
    snr_db = summary.links.snr_db
    present = snr_db[summary.links.signal_present]
    first, last = math.floor(snr_db.min() / _SNR_BIN_DB), math.floor(snr_db.max() / _SNR_BIN_DB)
    edges_db = np.arange(first, last + 2) * _SNR_BIN_DB
    of_snr.hist(snr_db, edges_db, color=_GREY, label=f"all {snr_db.size} links")
    of_snr.hist(present, edges_db, color=_BLUE, label=f"signal found in {present.size}")
    of_snr.axvline(spec.min_snr_db, color=_RED, linewidth=1.2, linestyle="--", label="min_snr_db")
    of_snr.set_xlabel(f"true SNR over {spec.sample_rate_hz / 1e3:g} kHz, dB")
    of_snr.set_ylabel(f"links per {_SNR_BIN_DB:g} dB")
    _legend_above(of_snr)

    gdop = summary.transmissions.gdop
    low, high = float(gdop.min()), float(gdop.max())
    spread = 1.05 if high > 2 * low else 1.5
    low, high = low / spread, high * spread
    of_gdop.hist(gdop, np.geomspace(low, high, _GDOP_BINS + 1), color=_GREEN, label=f"samples: {gdop.size}")
    median = float(np.median(gdop))
    of_gdop.axvline(median, color="black", linewidth=1.2, linestyle=":", label=f"median {median:.3g}")
    of_gdop.set_xscale("log")
    of_gdop.set_xticks(list(_round_numbers(low, high)))
    of_gdop.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    of_gdop.xaxis.set_minor_formatter(NullFormatter())
    of_gdop.set_xlabel(f"true GDOP of the receivers that reach {spec.min_snr_db:g} dB")
    of_gdop.set_ylabel("samples per bin")
    _legend_above(of_gdop)
    for axes in (of_snr, of_gdop):
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"{literal(summary.dataset.name)}: SNR and GDOP", x=0.01, ha="left", fontsize=10)
    return figure


def _errors(summary: DatasetSummary) -> Figure:
    links = summary.links
    figure = Figure(figsize=(_WIDTH_IN, 5.6), layout="constrained")
    of_snr, of_frequency = figure.subplots(2, 1, sharex=True)
    compared = links.signal_present & np.isfinite(links.snr_error_db)
    if compared.any():
        error_db = links.snr_error_db[compared]
        limit_db = max(2 * _LINEAR_DB, 1.2 * float(np.abs(error_db).max()))
        of_snr.set_yscale("symlog", linthresh=_LINEAR_DB, linscale=1.5)
        of_snr.set_ylim(-limit_db, limit_db)
        _cloud(of_snr, links.snr_db[compared], error_db, (5, 50, 95))
    of_snr.axhline(0, color="0.3", linewidth=0.8)
    of_snr.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    of_snr.set_ylabel("SNR: estimate less truth, dB")

    compared = links.signal_present & np.isfinite(links.frequency_error_hz)
    if compared.any():
        magnitude_hz = np.maximum(np.abs(links.frequency_error_hz[compared]), _LEAST_HZ)
        decades = np.log10([magnitude_hz.min(), magnitude_hz.max()])
        of_frequency.set_yscale("log")
        of_frequency.set_ylim(10 ** np.floor(decades[0]) / 1.5, 10 ** np.ceil(decades[1]) * 1.5)
        of_frequency.yaxis.set_minor_formatter(NullFormatter())
        _cloud(of_frequency, links.snr_db[compared], magnitude_hz, (50, 95))
    of_frequency.set_ylabel("frequency: magnitude of error, Hz")
    of_frequency.set_xlabel("true SNR, dB")
    for axes in (of_snr, of_frequency):
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(
        f"{literal(summary.dataset.name)}: estimates against truth, links with a signal found",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return figure


def _difference_errors(summary: DatasetSummary) -> Figure:
    found = summary.differences
    figure = Figure(figsize=(_WIDTH_IN, 3.0), layout="constrained")
    axes = figure.subplots()
    magnitude_us = np.maximum(np.abs(found.error_us), _LEAST_US)
    edges_us = np.geomspace(_LEAST_US, max(10.0, 1.01 * float(magnitude_us.max())), _ERROR_BINS + 1)
    for name, chosen, colour in (("in line of sight", found.in_sight, _BLUE), ("not", ~found.in_sight, _GREY)):
        if chosen.any():
            median_us = float(np.median(magnitude_us[chosen]))
            label = f"{name}: {np.count_nonzero(chosen)} pairs, median {median_us:.2g} us"
            axes.hist(magnitude_us[chosen], list(edges_us), color=colour, alpha=0.75, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("magnitude of error of the time difference, us")
    axes.set_ylabel("pairs per bin")
    _legend_above(axes)
    figure.suptitle(f"{literal(summary.dataset.name)}: time differences against truth", x=0.01, ha="left", fontsize=10)
    return figure


def _baselines(summary: DatasetSummary, found: BaselineSummary) -> Figure:
    """Error of each method against the distance of the transmitter."""
    figure = Figure(figsize=(_WIDTH_IN, 3.6), layout="constrained")
    axes = figure.subplots()
    distance_km = found.distance_m / 1e3
    for (method, errors_m), colour in zip(found.errors_m.items(), (_GREEN, _BLUE, _GREY), strict=True):
        drawn = np.isfinite(errors_m) & np.isfinite(distance_km)
        if not drawn.any():
            continue
        x, y = distance_km[drawn], np.maximum(errors_m[drawn], _LEAST_M)
        label = f"{literal(method)}: median {np.median(y):.3g} m"
        axes.scatter(x, y, s=_dot_area(x.size), color=colour, alpha=0.5, linewidths=0, label=label)
        centres, medians = _medians(x, y)
        axes.plot(centres, medians, color=colour, linewidth=1.8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("distance of the transmitter from the middle of the receivers that detect, km")
    axes.set_ylabel("error of the position, m")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    _legend_above(axes)
    number = _number(found.num_of, found.num_samples)
    figure.suptitle(
        f"{literal(summary.dataset.name)}: errors of the baselines, {number} samples", x=0.01, ha="left", fontsize=10
    )
    return figure


def _medians(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median of y in tenths of the points, by x; nothing of a few points."""
    parts = np.array_split(np.argsort(x), 10)
    full = [part for part in parts if part.size >= _FEWEST_IN_TREND]
    return np.array([np.median(x[part]) for part in full]), np.array([np.median(y[part]) for part in full])


def _cloud(axes: Axes, x: NDArray[np.float32], y: NDArray[np.float32], percents: tuple[int, ...]) -> None:
    """Draw points and, where there are enough, lines through their percentiles."""
    shown = _thinned(x.size)
    label = f"{_number(x.size, shown.size)} links"
    axes.scatter(x[shown], y[shown], s=_dot_area(shown.size), color=_BLUE, alpha=0.35, linewidths=0, label=label)
    centres, lines = _trend(x, y, percents)
    if centres.size > 1:
        for percent, line in zip(percents, lines.T, strict=True):
            width, style = (1.6, "-") if percent == 50 else (0.9, "--")
            axes.plot(centres, line, color=_RED, linewidth=width, linestyle=style, label=_PERCENT_NAMES[percent])
    _legend_above(axes)


def _trend(
    x: NDArray[np.float32], y: NDArray[np.float32], percents: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentiles of y in bins of x; bins of few points are left out."""
    bins = np.floor(x / _TREND_BIN_DB).astype(int)
    full = [
        number for number, count in zip(*np.unique(bins, return_counts=True), strict=True) if count >= _FEWEST_IN_TREND
    ]
    lines = [np.percentile(y[bins == number], percents) for number in full]
    return (np.array(full) + 0.5) * _TREND_BIN_DB, np.array(lines).reshape(len(full), len(percents))


def _legend_above(axes: Axes) -> None:
    """Put the legend in a line above the panel, where it covers nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.98),
        ncols=4,
        frameon=False,
        fontsize=8,
        handlelength=1.2,
        columnspacing=1.0,
    )


def _thinned(size: int) -> NDArray[np.intp]:
    """Indices of what is drawn of so many points: of too many a random choice, the same each time.

    Every tenth link, say, would not do: they come receiver by receiver.
    """
    if size <= _MAX_POINTS:
        return np.arange(size)
    return np.asarray(np.random.default_rng(0).choice(size, _MAX_POINTS, replace=False))


def _number(size: int, shown: int) -> str:
    return f"{size}" if size == shown else f"{shown} of {size}"


def _dot_area(number: int) -> float:
    """Points squared: 16 for a few points, 2 for many."""
    return float(np.clip(500 / math.sqrt(max(number, 1)), 2.0, 16.0))


def _near(longitudes: NDArray[np.floating], around: float) -> NDArray[np.float64]:
    """Longitudes within 180 degrees of another, so that a network across the 180th meridian stays together."""
    return np.asarray((longitudes.astype(np.float64) - around + 180) % 360 - 180 + around)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Least and greatest with a margin around."""
    low, high = float(values.min()), float(values.max())
    margin = max(0.05 * (high - low), 0.02)
    return low - margin, high + margin


def _round_numbers(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 in each decade within the limits."""
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 2, 5):
            if low <= digit * 10.0**exponent <= high:
                yield digit * 10.0**exponent
