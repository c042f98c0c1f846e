"""The picture of station uptime, small enough to be kept with every materialization."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from heimdall_pipelines.pictures import literal, small_png
from heimdall_pipelines.store.station_checks import PastCheck

CELL = timedelta(hours=1)  # checks are made hourly
MIN_CELLS = 24
LATENCY_RANGE_MS = (1.0, 1_000.0)
_DOWN_COLOUR = "tab:red"
_NOT_CHECKED_COLOUR = "0.93"


def uptime_png(checks: Sequence[PastCheck], now: datetime) -> bytes | None:
    """Draw a row per station and a cell per hour: red where it was down, else its mean latency by colour.

    Parameters
    ----------
    checks : sequence of PastCheck
    now : datetime
        With a time zone; the last cell ends here, or less than an hour later.

    Returns
    -------
    bytes or None
        A PNG below 100 kB; None without any check, or if the PNG would be longer.
    """
    if not checks:
        return None
    rx_ids = sorted({check.rx_id for check in checks})
    end = now.replace(minute=0, second=0, microsecond=0) + CELL
    num_cells = max(MIN_CELLS, 1 + max((end - check.checked_at) // CELL for check in checks))
    return small_png(_figure(rx_ids, *_cells(checks, rx_ids, end, num_cells), end, num_cells))


def _cells(
    checks: Sequence[PastCheck], rx_ids: Sequence[str], end: datetime, num_cells: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Per station and hour, mean latency (NaN: none) and whether it was down at least once; labels of the rows."""
    sum_ms, num_answers, num_down = (np.zeros((len(rx_ids), num_cells)) for _ in range(3))
    num_up = dict.fromkeys(rx_ids, 0)
    num_checks = dict.fromkeys(rx_ids, 0)
    for check in checks:
        cell = rx_ids.index(check.rx_id), num_cells - 1 - max((end - check.checked_at) // CELL, 0)
        num_checks[check.rx_id] += 1
        num_up[check.rx_id] += check.is_up
        num_down[cell] += not check.is_up
        if check.is_up:
            sum_ms[cell] += LATENCY_RANGE_MS[0] if check.latency_ms is None else check.latency_ms
            num_answers[cell] += 1
    with np.errstate(invalid="ignore"):
        latency_ms = sum_ms / num_answers
    labels = [f"{literal(rx_id)}  {100 * num_up[rx_id] / num_checks[rx_id]:.0f} %" for rx_id in rx_ids]
    return latency_ms, num_down > 0, labels


def _figure(
    rx_ids: Sequence[str],
    latency_ms: np.ndarray,
    was_down: np.ndarray,
    labels: list[str],
    end: datetime,
    num_cells: int,
) -> Figure:
    with mpl.rc_context({"font.size": 8, "timezone": "UTC", "date.converter": "concise"}):
        figure = Figure(figsize=(8, 1.1 + 0.24 * len(rx_ids)), layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor(_NOT_CHECKED_COLOUR)
        edges = date2num([end - CELL * (num_cells - number) for number in range(num_cells + 1)])  # type: ignore[no-untyped-call]
        rows = np.arange(len(rx_ids) + 1) - 0.5
        answered = axes.pcolormesh(edges, rows, latency_ms, norm=LogNorm(*LATENCY_RANGE_MS), cmap="viridis_r")
        axes.pcolormesh(edges, rows, np.where(was_down, 1.0, np.nan), cmap=ListedColormap([_DOWN_COLOUR]))
        axes.hlines(rows[1:-1], edges[0], edges[-1], color="white", linewidth=1)
        axes.xaxis_date()
        axes.set_yticks(range(len(rx_ids)), labels)
        axes.invert_yaxis()
        figure.colorbar(answered, ax=axes, label="latency, ms", pad=0.01, extend="both")
        axes.legend(
            handles=[Patch(color=_DOWN_COLOUR, label="down"), Patch(color=_NOT_CHECKED_COLOUR, label="not checked")],
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            frameon=False,
            borderaxespad=0.2,
        )
        axes.set_title("up, in percent of checks; UTC", loc="right", fontsize=8)
    return figure
