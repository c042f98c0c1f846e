"""Positions of sessions as they are stored, and the delays of stations that they rest on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

METHOD = "tdoa soft-L1 2"  # the estimator of rf/positioning.py, counted up where its results change


@dataclass(frozen=True)
class MeasuredDifference:
    """Time difference of a pair of stations, as measured; the element of ``positions.time_differences``.

    Attributes
    ----------
    rx_a, rx_b : str
    tdoa_us : float or None
        Positive where the signal is later at b; None with a ``reason``.
    std_us : float or None
    peak : float
        Normalised correlation, 0 to 1.
    """

    rx_a: str
    rx_b: str
    tdoa_us: float | None
    std_us: float | None
    peak: float
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON object; a missing reason is left out."""
        values = asdict(self)
        if self.reason is None:
            del values["reason"]
        return values

    @classmethod
    def from_json(cls, element: dict[str, Any]) -> MeasuredDifference:
        """Read an element of ``positions.time_differences``; KeyError or TypeError where it is malformed."""
        return cls(
            str(element["rx_a"]),
            str(element["rx_b"]),
            None if element["tdoa_us"] is None else float(element["tdoa_us"]),
            None if element["std_us"] is None else float(element["std_us"]),
            float(element["peak"]),
            element.get("reason"),
        )


@dataclass(frozen=True)
class StoredPosition:
    """A row of the table positions; its columns are described there.

    ``segment_idx`` is None for the whole session. Without a position, ``reason`` says why.
    """

    segment_idx: int | None
    method: str
    latitude: float | None
    longitude: float | None
    semi_major_m: float | None
    semi_minor_m: float | None
    azimuth_deg: float | None
    second_latitude: float | None
    second_longitude: float | None
    is_at_edge: bool | None
    closure_us: float | None
    residuals_us: dict[str, float]
    stations_used: tuple[str, ...]
    stations_left_out: dict[str, str]
    time_differences: tuple[MeasuredDifference, ...]
    station_delays_us: dict[str, float]
    delays_from: str | None
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        """Values by column."""
        return vars(self) | {
            "stations_used": list(self.stations_used),
            "time_differences": [difference.to_json() for difference in self.time_differences],
        }


@dataclass(frozen=True)
class StationDelay:
    """A row of the table station_delays: how much later than the others' mean a station stamps a signal."""

    rx_id: str
    delay_us: float
    uncertainty_us: float
    valid_from: datetime
    valid_to: datetime | None
    session_slug: str
    known_source: str
    note: str
    id: int = 0
    created_at: datetime | None = None
    withdrawn_at: datetime | None = None
