"""Map of a session's position: likelihood over shaded relief, stations, hyperbolas and ellipse."""

import io

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from heimdall_pipelines.pictures import MAX_PNG_BYTES, small_png
from heimdall_pipelines.report_page import MapArea
from heimdall_pipelines.rf.positioning import log_likelihood
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.rf.terrain import Terrain
from heimdall_pipelines.sessions.position_files import ellipse_outline, hyperbolas
from heimdall_pipelines.sessions.session_position import SYSTEMATIC_US, SessionPosition
from heimdall_pipelines.terrain.pictures import draw_relief

_PIXELS = 220
_MARGIN = 0.15  # of the extent of stations and position, around them
_LEVELS_SHOWN = 12.0  # of the natural logarithm of the likelihood
_OVER_RELIEF = 0.6  # opacity of the likelihood


def position_png(position: SessionPosition, terrain: Terrain | None = None) -> bytes | None:
    """Draw the map as a PNG below 100 kB; None if it does not fit.

    Parameters
    ----------
    position : SessionPosition
    terrain : Terrain, optional
        Ground whose shaded relief lies below.
    """
    return small_png(position_figure(position, terrain), MAX_PNG_BYTES)


def map_area(position: SessionPosition) -> MapArea:
    """What a map of a position shows: stations, position and known source, with a margin, as high as wide."""
    fix, source = position.fix, position.session.known_source
    lats = [fix.latitude, *(receiver.latitude for receiver in position.receivers)]
    lons = [fix.longitude, *(receiver.longitude for receiver in position.receivers)]
    if source is not None:
        lats.append(source.latitude)
        lons.append(source.longitude)
    # Longitudes relative to the position, so that the antimeridian is a line like any other.
    relative = np.array([_relative(lon, fix.longitude) for lon in lons])
    middle = float((min(lats) + max(lats)) / 2)
    aspect = 1 / max(np.cos(np.radians(middle)), 0.05)
    half = float(max(np.ptp(lats), np.ptp(relative) / aspect, 0.1)) * (0.5 + _MARGIN)
    centre = float(relative.min() + relative.max()) / 2 + fix.longitude
    return MapArea(max(middle - half, -89.9), centre - half * aspect, min(middle + half, 89.9), centre + half * aspect)


def likelihood(position: SessionPosition, area: MapArea) -> NDArray[np.float64]:
    """Logarithm of the likelihood less its maximum, not below -12: rows from south, columns from west."""
    grid_lat, grid_lon = np.meshgrid(
        np.linspace(area.south, area.north, _PIXELS), np.linspace(area.west, area.east, _PIXELS), indexing="ij"
    )
    values = log_likelihood(position.receivers, position.differences, grid_lat, grid_lon, systematic_us=SYSTEMATIC_US)
    return np.asarray(np.clip(values - values.max(), -_LEVELS_SHOWN, 0), np.float64)


def likelihood_overlay(position: SessionPosition, area: MapArea) -> bytes:
    """The likelihood as a PNG that covers an area, the more transparent the less likely."""
    share = 1 + likelihood(position, area)[::-1] / _LEVELS_SHOWN
    rgba = mpl.colormaps["YlGnBu"](share)
    rgba[..., 3] = 0.75 * share
    packed = io.BytesIO()
    Image.fromarray(np.rint(rgba * 255).astype(np.uint8)).resize((440, 440), Image.Resampling.BILINEAR).save(
        packed, format="png", optimize=True
    )
    return packed.getvalue()


def relief_background(terrain: Terrain, area: MapArea) -> bytes | None:
    """Shaded relief as a PNG that covers an area; None if it does not fit into 1 MB."""
    figure = Figure(figsize=(8, 8 * area.height / 860.0))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_aspect("auto")
    draw_relief(axes, terrain, _box(area), strength=0.7)
    axes.set_xlim(area.west, area.east)
    axes.set_ylim(area.south, area.north)
    return small_png(figure, 1_000_000)


def position_figure(position: SessionPosition, terrain: Terrain | None = None) -> Figure:
    """Draw the map: north is up, one degree of longitude as wide as at the middle latitude."""
    fix = position.fix
    source = position.session.known_source
    area = map_area(position)
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(7, 7), layout="constrained")
        axis = figure.subplots()
        axis.set_aspect(1 / area.stretch)
        if terrain is not None:
            draw_relief(axis, terrain, _box(area), strength=0.8)
        image = axis.imshow(
            likelihood(position, area),
            origin="lower",
            extent=(area.west, area.east, area.south, area.north),
            aspect=1 / area.stretch,
            cmap="YlGnBu",
            interpolation="bilinear",
            alpha=_OVER_RELIEF if terrain is not None else None,
        )
        for _, _, _, line in hyperbolas(position):
            line_lons = [_relative(lon, fix.longitude) + fix.longitude for lon, _ in line]
            axis.plot(line_lons, [lat for _, lat in line], color="0.35", linewidth=0.6)
        outline = ellipse_outline(fix.latitude, fix.longitude, fix.ellipse)
        axis.plot(
            [_relative(lon, fix.longitude) + fix.longitude for lon, _ in outline],
            [lat for _, lat in outline],
            color="tab:red",
            linewidth=1.2,
            label="95 %",
        )
        axis.plot(fix.longitude, fix.latitude, "+", color="tab:red", markersize=9, label="position")
        if source is not None:
            axis.plot(
                _relative(source.longitude, fix.longitude) + fix.longitude,
                source.latitude,
                "*",
                color="tab:orange",
                markersize=9,
                label="known source",
            )
        for receiver in position.receivers:
            lon = _relative(receiver.longitude, fix.longitude) + fix.longitude
            axis.plot(lon, receiver.latitude, "^", color="black", markersize=6)
            axis.annotate(
                receiver.rx_id,
                (lon, receiver.latitude),
                xytext=(5, 4),
                textcoords="offset points",
                parse_math=False,
            )
        axis.set_xlim(area.west, area.east)
        axis.set_ylim(area.south, area.north)
        axis.set_xlabel("longitude, degrees")
        axis.set_ylabel("latitude, degrees")
        axis.legend(loc="lower right")
        figure.colorbar(image, ax=axis, label="log likelihood less its maximum", shrink=0.7)
        figure.suptitle(
            f"{position.session.slug}: {fix.latitude:.4f}, {fix.longitude:.4f}, ellipse "
            f"{fix.ellipse.semi_major_m / 1e3:.2f} x {fix.ellipse.semi_minor_m / 1e3:.2f} km",
            fontsize=9,
            parse_math=False,
        )
    return figure


def _box(area: MapArea) -> BoundingBox:
    return BoundingBox(south=area.south, north=area.north, west=area.west, east=area.east)


def _relative(longitude: float, to: float) -> float:
    return (longitude - to + 180) % 360 - 180
