"""The receiver network of a YAML file, and its sync into the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.field_problems import field_problems
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.known_sources import KnownSource, add_missing_known_sources, list_known_sources
from heimdall_pipelines.store.stations import Station, add_missing_stations, list_stations

DEFAULT_FILE = Path(__file__).with_name("stations.yaml")

Position = tuple[float, float, float]


class NetworkFileError(HeimdallError):
    """A stations file cannot be read; the message names the file and the entry."""


@dataclass(frozen=True)
class Network:
    """Stations and sources to sync, and positions of further receivers, for imports."""

    stations: tuple[Station, ...]
    known_sources: tuple[KnownSource, ...]
    other_positions: dict[str, Position]

    def position_of(self, rx_id: str) -> Position | None:
        """Latitude and longitude (degrees) and altitude (m) of a receiver; None if the file has none."""
        for station in self.stations:
            if station.rx_id == rx_id:
                return station.latitude, station.longitude, station.altitude_m
        return self.other_positions.get(rx_id)


@dataclass(frozen=True)
class SyncReport:
    """What a sync added, and which rows differ from the file (the rows stay)."""

    added: tuple[str, ...]
    drift: tuple[str, ...]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    stations: tuple[Station, ...] = ()
    known_sources: tuple[KnownSource, ...] = ()
    receivers_of_recordings: tuple[ReceiverSite, ...] = ()


def load_network(*files: Path) -> Network:
    """Read the network from YAML files; entries of later files override those of earlier ones.

    Parameters
    ----------
    *files : Path
        ``stations.yaml`` files; default: the file that the project ships.

    Raises
    ------
    NetworkFileError
        A file is missing or not YAML, or an entry is invalid.
    """
    parsed = [_parse(file) for file in files or (DEFAULT_FILE,)]
    stations: dict[str, Station] = {}
    sources: dict[str, KnownSource] = {}
    positions: dict[str, Position] = {}
    for content in parsed:
        stations |= {station.rx_id: station for station in content.stations}
        sources |= {source.name: source for source in content.known_sources}
        positions |= {
            site.rx_id: (site.latitude, site.longitude, site.altitude_m) for site in content.receivers_of_recordings
        }
    return Network(tuple(stations.values()), tuple(sources.values()), positions)


def sync_network(database: Database, network: Network) -> SyncReport:
    """Add stations and sources that have no row yet; report rows that differ, without changing them."""
    with database.transaction() as connection:
        added = add_missing_stations(connection, network.stations)
        added += add_missing_known_sources(connection, network.known_sources)
    drift = _differences(network.stations, list_stations(database), "rx_id")
    drift += _differences(network.known_sources, list_known_sources(database), "name")
    return SyncReport(tuple(added), tuple(drift))


def _differences(wanted: Sequence[Any], rows: Sequence[Any], key: str) -> list[str]:
    by_key = {getattr(row, key): row for row in rows}
    found = []
    for entry in wanted:
        row = by_key[getattr(entry, key)]
        found += [
            f"{getattr(entry, key)}: {field} is {getattr(row, field)!r}, the file has {value!r}"
            for field, value in vars(entry).items()
            if getattr(row, field) != value
        ]
    return found


def _parse(file: Path) -> _File:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NetworkFileError(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise NetworkFileError(f"{file}: a mapping with stations is expected")
    content = {section: entries for section, entries in content.items() if entries is not None}
    defaults = content.pop("defaults", {})
    if not isinstance(defaults, dict):
        raise NetworkFileError(f"{file}: defaults must be a mapping of a station's fields")
    defaults_by_section = {"stations": defaults, "receivers_of_recordings": {"altitude_m": 0.0}}
    completed = {
        section: _with_defaults(entries, defaults_by_section.get(section, {})) for section, entries in content.items()
    }
    try:
        return _File.model_validate(completed)
    except ValidationError as error:
        problems = "; ".join(f"{problem.path}: {problem.message}" for problem in field_problems(error))
        raise NetworkFileError(f"{file}: {problems}") from None


def _with_defaults(entries: Any, defaults: dict[str, Any]) -> Any:
    """Complete the entries of a section; what is no list or mapping is left as it is, for the validation."""
    if not isinstance(entries, list):
        return entries
    return [defaults | entry if isinstance(entry, dict) else entry for entry in entries]
