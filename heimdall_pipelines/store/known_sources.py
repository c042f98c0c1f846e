"""Rows of known_sources: transmitters with known position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.store.columns import insert_sql, listed
from heimdall_pipelines.store.digest_rows import seal_rows
from heimdall_pipelines.store.sql import text
from heimdall_pipelines.store.stations import MAX_FREQUENCY_HZ, MAX_LEVEL_DBM, MAX_NAME_CHARACTERS, StationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.reading import Reading


@dataclass(frozen=True)
class KnownSource:
    """A transmitter with known position; WGS84 degrees."""

    name: str
    frequency_hz: float
    latitude: float
    longitude: float
    altitude_m: float = 0.0
    power_dbm: float | None = None

    def check_as_new(self) -> None:
        """Check the numbers of a transmitter that is added now; NaN is refused, too.

        Raises
        ------
        StationError
            A text is too long, or a number is not finite or outside its range.
        """
        problems = [
            f"{what} {value} is outside {low:g}..{high:g}"
            for what, value, low, high in (
                ("latitude", self.latitude, -90.0, 90.0),
                ("longitude", self.longitude, -180.0, 180.0),
                ("altitude_m", self.altitude_m, -500.0, 100_000.0),
                ("power_dbm", self.power_dbm, -MAX_LEVEL_DBM, MAX_LEVEL_DBM),
            )
            if value is not None and not low <= value <= high
        ]
        if not 0 < self.frequency_hz <= MAX_FREQUENCY_HZ:
            problems.append(f"frequency_hz {self.frequency_hz} is not above 0 and up to {MAX_FREQUENCY_HZ:g}")
        if not 0 < len(self.name) <= MAX_NAME_CHARACTERS or "\0" in self.name:
            problems.append(f"name is empty, has a NUL character, or is longer than {MAX_NAME_CHARACTERS} characters")
        if problems:
            raise StationError(f"source {self.name[:MAX_NAME_CHARACTERS]}: " + "; ".join(problems))


SOURCE_COLUMNS = tuple(field.name for field in fields(KnownSource))
_INSERT = f"{insert_sql('known_sources', SOURCE_COLUMNS)} ON CONFLICT (name) DO NOTHING RETURNING name"


def list_known_sources(database: Reading) -> list[KnownSource]:
    """All transmitters with known position, by name."""
    rows = database.read(f"SELECT {listed(SOURCE_COLUMNS)} FROM heimdall.known_sources ORDER BY name")
    return [KnownSource(**row._asdict()) for row in rows]


def add_missing_known_sources(connection: Connection, sources: Sequence[KnownSource]) -> list[str]:
    """Add the sources whose name does not exist yet; returns the added names; raises StationError for invalid ones."""
    added = []
    for source in sources:
        source.check_as_new()
        inserted = connection.execute(text(_INSERT), vars(source)).first()
        if inserted is not None:
            added.append(source.name)
    if added:
        seal_rows(connection, "known_sources", "name = ANY(:added)", {"added": added})
    return added


def known_source_id(connection: Connection, name: str | None) -> UUID | None:
    """Primary key of a transmitter, None for None; the StationError for an unknown name lists the known ones."""
    if name is None:
        return None
    found: UUID | None = connection.execute(
        text("SELECT id FROM heimdall.known_sources WHERE name = :name"), {"name": name}
    ).scalar()
    if found is None:
        known = connection.execute(text("SELECT name FROM heimdall.known_sources ORDER BY name")).scalars()
        raise StationError(f"unknown source {name}; known are: {', '.join(known) or 'none'}")
    return found
