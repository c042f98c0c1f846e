"""Rows of station_delays: added by calibrations, withdrawn by command, never changed."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.position import StationDelay
from heimdall_pipelines.store.columns import columns_of, insert_sql
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

_COLUMNS = columns_of(StationDelay)
_GIVEN = [field.name for field in fields(StationDelay) if field.name not in ("id", "created_at", "withdrawn_at")]


class DelayNotFoundError(HeimdallError):
    """There is no such delay that could be withdrawn."""


def add_delays(database: Database, session_id: UUID, delays: Sequence[StationDelay]) -> None:
    """Add the delays of one calibration; earlier ones stay."""
    calibration = uuid4()
    with database.transaction() as connection:
        for delay in delays:
            connection.execute(
                text(insert_sql("station_delays", ["calibration", "recording_session_id", *_GIVEN])),
                vars(delay) | {"calibration": calibration, "recording_session_id": session_id},
            )


def list_delays(database: Reading) -> list[StationDelay]:
    """All delays, also withdrawn ones: by station, newest first."""
    rows = database.read(f'SELECT {_COLUMNS} FROM heimdall.station_delays ORDER BY rx_id COLLATE "C", id DESC')
    return [StationDelay(**row._asdict()) for row in rows]


def delays_at(database: Reading, time: datetime, rx_ids: Collection[str]) -> list[StationDelay]:
    """Delays of the calibration that holds for most of some stations at a time, the newest of equal ones.

    Delays of different calibrations are relative to the mean of different stations, so they are never mixed.
    """
    rows = database.read(
        f"SELECT {_COLUMNS} FROM heimdall.station_delays"
        f' WHERE {holding("CAST(%(rx_ids)s AS text[])", "%(time)s")} ORDER BY rx_id COLLATE "C"',
        {"rx_ids": list(rx_ids), "time": time},
    )
    return [StationDelay(**row._asdict()) for row in rows]


def holding(rx_ids: str, time: str) -> str:
    """Condition of the rows of station_delays that hold for some stations at a time, both as SQL expressions."""
    holds = (
        f"rx_id = ANY({rx_ids}) AND withdrawn_at IS NULL AND valid_from <= {time}"
        f" AND (valid_to IS NULL OR valid_to > {time})"
    )
    return (
        f"{holds} AND calibration = (SELECT calibration FROM heimdall.station_delays WHERE {holds}"
        " GROUP BY calibration HAVING count(*) > 1 ORDER BY count(*) DESC, max(id) DESC LIMIT 1)"
    )


def withdraw_delays(database: Database, number: int) -> list[StationDelay]:
    """Withdraw a delay and all others of its calibration, which are relative to each other.

    Raises
    ------
    DelayNotFoundError
        There is none with this number, or it was withdrawn before.
    """
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "UPDATE heimdall.station_delays SET withdrawn_at = clock_timestamp() WHERE withdrawn_at IS NULL"
                " AND calibration = (SELECT calibration FROM heimdall.station_delays WHERE id = :id)"
                f" RETURNING {_COLUMNS}"
            ),
            {"id": number},
        ).all()
    if not rows:
        raise DelayNotFoundError(f"no delay {number} is in use; see: heimdall station delays")
    return sorted((StationDelay(**row._asdict()) for row in rows), key=lambda delay: delay.rx_id)
