"""Rows of websdr_stations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.receiver_kind import ReceiverKind, kinds_text
from heimdall_pipelines.model.slugs import is_slug
from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.columns import insert_sql, listed
from heimdall_pipelines.store.digest_rows import seal_rows
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

MAX_RX_ID_CHARACTERS = 63
MAX_NAME_CHARACTERS = 200
MAX_URL_CHARACTERS = 2000
MAX_TIMEOUT_S = 3600.0
MAX_RETRIES = 100
MAX_FREQUENCY_HZ = 1e12  # as in the SigMF schema
MAX_LEVEL_DBM = 300.0
_LONGEST_SCHEME = 8


class StationError(HeimdallError):
    """A station or source that is unknown, given twice or invalid."""


@dataclass(frozen=True)
class Station:
    """A receiver; positions are WGS84 degrees and metres above sea level, ``antenna_height_m`` is above the ground."""

    rx_id: str
    name: str
    latitude: float
    longitude: float
    altitude_m: float = 0.0
    url: str | None = None
    api_type: str = ReceiverKind.NONE
    frequency_ranges_hz: tuple[tuple[float, float], ...] = ()
    full_scale_dbm: float | None = None
    is_active: bool = True
    timeout_seconds: float = 30.0
    retry_count: int = 3
    antenna_height_m: float = 10.0

    def __post_init__(self) -> None:
        problems = []
        if not is_slug(self.rx_id):
            problems.append(f"rx_id {self.rx_id!r} is not a slug (a-z, 0-9, single - and _)")
        if not self.name:
            problems.append("name is empty")
        if not -90 <= self.latitude <= 90:
            problems.append(f"latitude {self.latitude} is outside -90..90 degrees")
        if not -180 <= self.longitude <= 180:
            problems.append(f"longitude {self.longitude} is outside -180..180 degrees")
        if not -500 <= self.altitude_m <= 10_000:
            problems.append(f"altitude_m {self.altitude_m} is outside -500..10000 m")
        if not 0 < self.antenna_height_m <= 500:
            problems.append(f"antenna_height_m {self.antenna_height_m} is not above 0 and up to 500 m")
        if self.api_type not in tuple(ReceiverKind):
            problems.append(f"api_type {self.api_type!r} is not {kinds_text(tuple(ReceiverKind))}")
        if self.url is not None and not self.url.startswith(("http://", "https://", "ws://", "wss://")):
            scheme = self.url.partition(":")[0][:_LONGEST_SCHEME]  # the rest may hold a password
            problems.append(f"url begins with {scheme!r}: http://, https://, ws:// or wss:// is expected")
        if not 0 < self.timeout_seconds < math.inf:
            problems.append(f"timeout_seconds {self.timeout_seconds} is not above 0")
        if self.retry_count < 0:
            problems.append(f"retry_count {self.retry_count} is negative")
        problems += [
            f"frequency range {low}..{high} Hz is empty or negative"
            for low, high in self.frequency_ranges_hz
            if not 0 <= low < high
        ]
        if problems:
            raise StationError(f"station {self.rx_id}: " + "; ".join(problems))

    @property
    def has_client(self) -> bool:
        """Whether there is a client that records this kind of receiver."""
        return self.api_type != ReceiverKind.NONE

    def check_as_new(self) -> None:
        """Check what only a station that is added now must keep; stored ones of earlier versions stay readable.

        Raises
        ------
        StationError
            A text is too long, or a number is not finite or outside its range.
        """
        problems = []
        if len(self.rx_id) > MAX_RX_ID_CHARACTERS:
            problems.append(f"rx_id has {len(self.rx_id)} characters, up to {MAX_RX_ID_CHARACTERS} are allowed")
        if len(self.name) > MAX_NAME_CHARACTERS:
            problems.append(f"name has {len(self.name)} characters, up to {MAX_NAME_CHARACTERS} are allowed")
        if self.url is not None and len(self.url) > MAX_URL_CHARACTERS:
            problems.append(f"url has {len(self.url)} characters, up to {MAX_URL_CHARACTERS} are allowed")
        if any("\0" in text_ for text_ in (self.name, self.url or "")):
            problems.append("name or url contains a NUL character")
        if self.full_scale_dbm is not None and not abs(self.full_scale_dbm) <= MAX_LEVEL_DBM:
            problems.append(
                f"full_scale_dbm {self.full_scale_dbm} is outside -{MAX_LEVEL_DBM:g}..{MAX_LEVEL_DBM:g} dBm"
            )
        if not self.timeout_seconds <= MAX_TIMEOUT_S:
            problems.append(f"timeout_seconds {self.timeout_seconds:g} is above {MAX_TIMEOUT_S:g}")
        if self.retry_count > MAX_RETRIES:
            problems.append(f"retry_count {self.retry_count} is above {MAX_RETRIES}")
        problems += [
            f"frequency range {low:g}..{high:g} Hz ends above {MAX_FREQUENCY_HZ:g} Hz"
            for low, high in self.frequency_ranges_hz
            if not high <= MAX_FREQUENCY_HZ
        ]
        if problems:
            raise StationError(f"station {self.rx_id[:MAX_RX_ID_CHARACTERS]}: " + "; ".join(problems))


_STATION_COLUMNS = tuple(field.name for field in fields(Station))
_INSERT_STATION = f"{insert_sql('websdr_stations', _STATION_COLUMNS)} ON CONFLICT (rx_id) DO NOTHING RETURNING rx_id"


def list_stations(database: Reading) -> list[Station]:
    """All stations, by rx_id."""
    rows = database.read(f"SELECT {listed(_STATION_COLUMNS)} FROM heimdall.websdr_stations ORDER BY rx_id")
    return [_station(row) for row in rows]


def get_station(database: Reading, rx_id: str) -> Station:
    """The station of this slug; a StationError if there is none."""
    found = database.read(
        f"SELECT {listed(_STATION_COLUMNS)} FROM heimdall.websdr_stations WHERE rx_id = %(rx_id)s", {"rx_id": rx_id}
    )
    if not found:
        raise _unknown(rx_id)
    return _station(found[0])


def add_missing_stations(connection: Connection, stations: Sequence[Station]) -> list[str]:
    """Add the stations whose rx_id does not exist yet; existing rows stay unchanged.

    Returns
    -------
    list of str
        The rx_id of each added station.

    Raises
    ------
    StationError
        A station that has no row yet is invalid, see `Station.check_as_new`.
    """
    rx_ids = [station.rx_id for station in stations]
    known = station_ids(connection, rx_ids)
    for station in stations:
        if station.rx_id not in known:
            station.check_as_new()
    added = []
    for station in stations:
        values = vars(station) | {"frequency_ranges_hz": json.dumps(station.frequency_ranges_hz)}
        inserted = connection.execute(text(_INSERT_STATION), values).first()
        if inserted is not None:
            added.append(station.rx_id)
    if added:
        seal_rows(connection, "websdr_stations", "rx_id = ANY(:added)", {"added": added})
    return added


def add_station(database: Database, station: Station) -> None:
    """Add one station; an error if its rx_id is taken."""
    with database.transaction() as connection:
        if not add_missing_stations(connection, [station]):
            raise StationError(f"station {station.rx_id} exists already; see: heimdall station list")


def set_station_active(database: Database, rx_id: str, is_active: bool) -> None:
    """Activate or deactivate a station for recordings."""
    _set_column(database, rx_id, "is_active", is_active)


def set_station_url(database: Database, rx_id: str, url: str) -> None:
    """Set a station's URL."""
    _set_column(database, rx_id, "url", url)


def station_ids(connection: Connection, rx_ids: Sequence[str]) -> dict[str, UUID]:
    """Primary keys of the stations with these rx_ids; unknown ones are left out."""
    rows = connection.execute(
        text("SELECT rx_id, id FROM heimdall.websdr_stations WHERE rx_id = ANY(:rx_ids)"), {"rx_ids": list(rx_ids)}
    )
    return {row.rx_id: row.id for row in rows}


def _set_column(database: Database, rx_id: str, column: str, value: object) -> None:
    of_station = {"rx_id": rx_id}
    with (
        database.transaction() as connection,
        changing(connection, "websdr_stations", "rx_id = :rx_id", of_station, reason=f"its {column} was set"),
    ):
        changed = connection.execute(
            text(f"UPDATE heimdall.websdr_stations SET {column} = :value WHERE rx_id = :rx_id RETURNING 1"),
            of_station | {"value": value},
        ).first()
    if changed is None:
        raise _unknown(rx_id)


def _unknown(rx_id: str) -> StationError:
    return StationError(f"unknown station {rx_id}; see: heimdall station list")


def _station(row: Any) -> Station:
    values = row._asdict()
    values["frequency_ranges_hz"] = tuple((low, high) for low, high in values["frequency_ranges_hz"])
    return Station(**values)
