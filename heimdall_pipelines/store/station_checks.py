"""Rows of station_checks: the history of station status."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.reading import Reading

_CHECKS_OF_LAST_DAYS = (
    "FROM heimdall.station_checks c JOIN heimdall.websdr_stations w ON w.id = c.websdr_station_id"
    " WHERE c.checked_at > clock_timestamp() - %(days)s * INTERVAL '1 day'"
)


@dataclass(frozen=True)
class StationCheck:
    """Status of a station at a check; None for what it does not report."""

    rx_id: str
    api_type: str
    is_up: bool
    latency_ms: float | None = None
    gnss_fix_age_s: float | None = None
    num_users: int | None = None
    max_users: int | None = None
    software: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class StationUptime:
    """Uptime of a station."""

    rx_id: str
    num_checks: int
    num_up: int


@dataclass(frozen=True)
class PastCheck:
    """One entry of the history."""

    rx_id: str
    checked_at: datetime
    is_up: bool
    latency_ms: float | None


def add_station_checks(database: Database, checks: Sequence[StationCheck]) -> None:
    """Store checks of stations; stations that were deleted meanwhile are left out."""
    with database.transaction() as connection:
        for check in checks:
            connection.execute(
                text(
                    "INSERT INTO heimdall.station_checks (websdr_station_id, is_up, latency_ms, gnss_fix_age_s,"
                    " num_users, max_users, software, reason) SELECT id, :is_up, :latency_ms, :gnss_fix_age_s,"
                    " :num_users, :max_users, :software, :reason FROM heimdall.websdr_stations WHERE rx_id = :rx_id"
                ),
                {name: value for name, value in vars(check).items() if name != "api_type"},
            )


def station_uptimes(database: Reading, days: float) -> list[StationUptime]:
    """How often each station was up during the last days, by rx_id; stations without a check are left out."""
    rows = database.read(
        f"SELECT w.rx_id, count(*) AS num_checks, count(*) FILTER (WHERE c.is_up) AS num_up {_CHECKS_OF_LAST_DAYS}"
        " GROUP BY w.rx_id ORDER BY w.rx_id",
        {"days": days},
    )
    return [StationUptime(**row._asdict()) for row in rows]


def past_checks(database: Reading, days: float) -> list[PastCheck]:
    """The checks of every station during the last days, by rx_id and time."""
    rows = database.read(
        f"SELECT w.rx_id, c.checked_at, c.is_up, c.latency_ms {_CHECKS_OF_LAST_DAYS} ORDER BY w.rx_id, c.checked_at",
        {"days": days},
    )
    return [PastCheck(**row._asdict()) for row in rows]
