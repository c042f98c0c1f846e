"""Pictures of terrain: shaded relief, the profile of a link, coverage."""

import math
from contextlib import AbstractContextManager

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from numpy.typing import NDArray

from heimdall_pipelines.pictures import small_png
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.rf.terrain import M_PER_DEG, Terrain
from heimdall_pipelines.terrain.coverage import Coverage
from heimdall_pipelines.terrain.link_profile import LinkProfile

_WIDTH_IN = 8.0
_RELIEF_POINTS = 300  # across
_RELIEF_SHADES = 12
_STEEPNESS = 6.0  # of the drawn relief over the true one
_BLUE, _RED, _BROWN, _SEA = "#1f5fa8", "#c03028", "#b39b7d", "#c9dcea"
_LEVELS_DBM = np.arange(-130, -49, 10)


def draw_relief(axes: Axes, terrain: Terrain, area: BoundingBox, strength: float = 0.5) -> None:
    """Draw the shaded relief of an area below everything else; nothing where no tile has heights.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Longitudes across, latitudes up, as of the area.
    terrain : Terrain
    area : BoundingBox
    strength : float
        0 is white.
    """
    columns = _RELIEF_POINTS
    stretch = max(math.cos(math.radians((area.south + area.north) / 2)), 0.05)
    rows = int(np.clip(columns * (area.north - area.south) / ((area.east - area.west) * stretch), 20, 2 * columns))
    latitudes, longitudes = np.linspace(area.north, area.south, rows), np.linspace(area.west, area.east, columns)
    everywhere = np.meshgrid(latitudes, longitudes, indexing="ij")
    heights_m = terrain.known_heights_m(everywhere[0].ravel(), everywhere[1].ravel()).reshape(rows, columns)
    shaded = _shaded(
        heights_m,
        M_PER_DEG * (area.north - area.south) / (rows - 1),
        M_PER_DEG * stretch * (area.east - area.west) / (columns - 1),
    )
    colours = np.repeat((1 - strength * (1 - shaded))[..., None], 3, axis=2)
    is_sea = heights_m == 0
    colours[is_sea] = mpl.colors.to_rgb(_SEA)
    colours[np.isnan(heights_m)] = 1.0
    axes.imshow(
        colours,
        extent=(area.west, area.east, area.south, area.north),
        interpolation="nearest",
        aspect=axes.get_aspect(),
        zorder=0,
    )


def profile_figure(link: LinkProfile) -> Figure:
    """Draw a link: ground with the Earth's bulge, ray, first Fresnel zone and loss."""
    with _style():
        figure = Figure(figsize=(_WIDTH_IN, 3.4), layout="constrained")
        axes = figure.subplots()
        km, earth_m = link.distances_m / 1e3, link.ground_m + link.bulge_m
        lowest = min(0.0, float(earth_m.min()))
        axes.fill_between(km, lowest, earth_m, color=_BROWN, linewidth=0, label="ground on the Earth's bulge")
        axes.plot(
            km, link.bulge_m + link.ground_m.min(), color="0.4", linewidth=0.8, linestyle=":", label="bulge alone"
        )
        axes.fill_between(
            km,
            link.ray_m - link.fresnel_m,
            link.ray_m + link.fresnel_m,
            color=_BLUE,
            alpha=0.25,
            linewidth=0,
            label="first Fresnel zone",
        )
        axes.plot(km, link.ray_m, color=_BLUE if link.is_line_of_sight else _RED, linewidth=1.0, label="ray")
        for at, end in ((0, link.tx), (-1, link.rx)):
            axes.plot([km[at]] * 2, [earth_m[at], earth_m[at] + end.mast_m], color="black", linewidth=2)
        sight = "line of sight" if link.is_line_of_sight else "no line of sight"
        axes.set_title(
            f"{link.tx.name} to {link.rx.name}, {link.frequency_hz / 1e6:g} MHz: {link.loss_db:.1f} dB "
            f"(free space {link.free_space_db:.1f}, diffraction {link.diffraction_db:.1f}), {sight}",
            loc="left",
        )
        axes.set_xlabel("distance, km")
        axes.set_ylabel("above the sea, m")
        axes.set_xlim(0, km[-1])
        axes.legend(loc="upper center", ncols=4, frameon=False, fontsize=8)
        axes.set_ylim(lowest, 1.25 * max(float(earth_m.max()), float((link.ray_m + link.fresnel_m).max())))
    return figure


def coverage_figure(coverage: Coverage, terrain: Terrain, name: str) -> Figure:
    """Draw the level over an area, in steps of 10 dB over shaded relief."""
    request = coverage.request
    west, east = float(coverage.longitudes[0]), float(coverage.longitudes[-1])
    north, south = float(coverage.latitudes[0]), float(coverage.latitudes[-1])
    with _style():
        figure = Figure(figsize=(_WIDTH_IN, 6.6), layout="constrained")
        axes = figure.subplots()
        axes.set_aspect(1 / max(math.cos(math.radians(request.latitude)), 0.05))
        draw_relief(axes, terrain, BoundingBox(south=south, north=north, west=west, east=east), strength=0.8)
        colours = mpl.colormaps["viridis"].resampled(_LEVELS_DBM.size - 1).with_extremes(under=(0, 0, 0, 0))
        drawn = axes.imshow(
            coverage.level_dbm,
            extent=(west, east, south, north),
            cmap=colours,
            norm=mpl.colors.BoundaryNorm(_LEVELS_DBM, _LEVELS_DBM.size - 1),
            alpha=0.55,
            interpolation="nearest",
            aspect=axes.get_aspect(),
            zorder=1,
        )
        figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02, extend="both").set_label("level, dBm (isotropic, 2 m)")
        axes.scatter([request.longitude], [request.latitude], marker="^", s=110, color="black", edgecolors="white")
        axes.xaxis.set_major_formatter(lambda degrees, _: f"{(degrees + 180) % 360 - 180:.5g}")
        axes.set_xlabel("longitude, °")
        axes.set_ylabel("latitude, °")
        axes.set_title(
            f"{name}: {request.power_dbm:g} dBm at {request.frequency_hz / 1e6:g} MHz, mast {request.mast_m:g} m",
            loc="left",
        )
    return figure


def png_of(figure: Figure) -> bytes:
    """A figure as a PNG below 100 kB, the coarsest one if it does not fit."""
    png = small_png(figure)
    return png if png is not None else small_png(figure, max_bytes=10_000_000) or b""


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False})


def _shaded(heights_m: NDArray[np.float64], row_m: float, column_m: float) -> NDArray[np.float64]:
    """Light from the north-west, in few shades, so that PNGs stay small."""
    filled = np.where(np.isnan(heights_m), 0.0, heights_m)
    shaded = LightSource(azdeg=315, altdeg=45).hillshade(filled, vert_exag=_STEEPNESS, dx=column_m, dy=row_m)
    return np.asarray(np.rint(shaded * _RELIEF_SHADES) / _RELIEF_SHADES)
