"""Map of a session's position: likelihood, stations, hyperbolas and ellipse."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from heimdall_pipelines.pictures import MAX_PNG_BYTES, small_png
from heimdall_pipelines.rf.positioning import log_likelihood
from heimdall_pipelines.sessions.position_files import ellipse_outline, hyperbolas
from heimdall_pipelines.sessions.session_position import SYSTEMATIC_US, SessionPosition

_PIXELS = 220
_MARGIN = 0.15  # of the extent of stations and position, around them
_LEVELS_SHOWN = 12.0  # of the natural logarithm of the likelihood


def position_png(position: SessionPosition) -> bytes | None:
    """Draw the map as a PNG below 100 kB; None if it does not fit."""
    return small_png(position_figure(position), MAX_PNG_BYTES)


def position_figure(position: SessionPosition) -> Figure:
    """Draw the map: north is up, one degree of longitude as wide as at the middle latitude."""
    fix = position.fix
    source = position.session.known_source
    lats = [fix.latitude, *(receiver.latitude for receiver in position.receivers)]
    lons = [fix.longitude, *(receiver.longitude for receiver in position.receivers)]
    if source is not None:
        lats.append(source.latitude)
        lons.append(source.longitude)
    # Longitudes relative to the position, so that the antimeridian is a line like any other.
    relative = np.array([_relative(lon, fix.longitude) for lon in lons])
    middle = float(np.mean(lats))
    aspect = 1 / max(np.cos(np.radians(middle)), 0.05)
    half = max(np.ptp(lats), np.ptp(relative) / aspect, 0.1) * (0.5 + _MARGIN)
    south, north = middle - half, middle + half
    centre = (relative.min() + relative.max()) / 2
    west, east = centre - half * aspect, centre + half * aspect
    grid_lat, grid_lon = np.meshgrid(
        np.linspace(max(south, -89.9), min(north, 89.9), _PIXELS), np.linspace(west, east, _PIXELS), indexing="ij"
    )
    likelihood = log_likelihood(
        position.receivers, position.differences, grid_lat, grid_lon + fix.longitude, systematic_us=SYSTEMATIC_US
    )
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(7, 7), layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(
            np.clip(likelihood - likelihood.max(), -_LEVELS_SHOWN, 0),
            origin="lower",
            extent=(west + fix.longitude, east + fix.longitude, south, north),
            aspect=aspect,
            cmap="YlGnBu",
            interpolation="bilinear",
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
        axis.set_xlim(west + fix.longitude, east + fix.longitude)
        axis.set_ylim(south, north)
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


def _relative(longitude: float, to: float) -> float:
    return (longitude - to + 180) % 360 - 180
