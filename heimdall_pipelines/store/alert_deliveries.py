"""Rows of alert_deliveries: which messages of an alert were sent to each destination, and which are pending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from heimdall_pipelines.store.alerts import ALERT_COLUMNS, Alert
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

_SENDING_LOCK = 0x4845_494D_0002  # any constant, as that of alerts.py


@dataclass(frozen=True)
class PendingAlert:
    """An alert with messages to send to a destination, and whether its failure was already sent there."""

    alert: Alert
    failure_is_known: bool

    @property
    def messages(self) -> tuple[str, ...]:
        """Messages to send: both, if an incident ended before its failure was sent."""
        if self.alert.recovered_at is None:
            return ("raised",)
        return ("recovered",) if self.failure_is_known else ("raised", "recovered")


@contextmanager
def lock_sending(database: Database) -> Iterator[bool]:
    """Take the lock for sending alerts; False while another process has it: both would send the same messages."""
    with database.transaction() as connection:
        locked = connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _SENDING_LOCK})
        yield bool(locked.scalar_one())


def list_pending(database: Reading, destination: str, raised_since: datetime, limit: int) -> list[PendingAlert]:
    """Alerts with messages to send to a destination, oldest first.

    An open incident is always sent. A failed run and a recovered incident are sent only if they were raised since the
    given time; the recovery of an incident that was sent, if it recovered since. A closed one is not sent.
    """
    rows = database.read(
        f"SELECT {ALERT_COLUMNS}, failure.delivered_at IS NOT NULL AS failure_is_known FROM heimdall.alerts"
        " LEFT JOIN heimdall.alert_deliveries AS failure ON failure.alert_id = alerts.id"
        "   AND failure.message = 'raised' AND failure.destination = %(destination)s"
        " LEFT JOIN heimdall.alert_deliveries AS recovery ON recovery.alert_id = alerts.id"
        "   AND recovery.message = 'recovered' AND recovery.destination = %(destination)s"
        " WHERE closed_at IS NULL AND CASE"
        "   WHEN recovered_at IS NULL THEN (kind = 'failed_check' OR raised_at >= %(since)s) AND"
        "     (failure.delivered_at IS NULL OR failure.severity = 'WARN' AND alerts.severity = 'ERROR')"
        "   WHEN recovery.delivered_at IS NOT NULL THEN false"
        "   WHEN failure.delivered_at IS NULL THEN raised_at >= %(since)s"
        "   ELSE recovered_at >= %(since)s END"
        " ORDER BY alerts.id LIMIT %(limit)s",
        {"destination": destination, "since": raised_since, "limit": limit},
    )
    return [
        PendingAlert(failure_is_known=values.pop("failure_is_known"), alert=Alert(**values))
        for values in (row._asdict() for row in rows)
    ]


def mark_sent(database: Database, destination: str, pending_alerts: Sequence[PendingAlert], sent_at: datetime) -> None:
    """Record that a destination accepted the messages of these alerts."""
    _upsert(
        database,
        destination,
        pending_alerts,
        "severity = excluded.severity, delivered_at = excluded.delivered_at, last_error = NULL",
        delivered_at=sent_at,
        last_error=None,
    )


def mark_failed(database: Database, destination: str, pending_alerts: Sequence[PendingAlert], error: str) -> None:
    """Record why a destination did not accept the messages of these alerts; they stay pending."""
    _upsert(
        database, destination, pending_alerts, "last_error = excluded.last_error", delivered_at=None, last_error=error
    )


def _upsert(
    database: Database, destination: str, pending_alerts: Sequence[PendingAlert], changed: str, **values: Any
) -> None:
    rows = [(one.alert.id, message, one.alert.severity) for one in pending_alerts for message in one.messages]
    with database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO heimdall.alert_deliveries AS known"
                " (alert_id, message, destination, severity, attempts, last_error, delivered_at)"
                " SELECT alert_id, message, :destination, row.severity, 1, :last_error, :delivered_at"
                " FROM unnest(CAST(:ids AS bigint[]), CAST(:messages AS text[]), CAST(:severities AS text[]))"
                "   AS row (alert_id, message, severity)"
                " JOIN heimdall.alerts ON alerts.id = alert_id"  # it may have been deleted in the meantime
                " ON CONFLICT (alert_id, message, destination)"
                f" DO UPDATE SET attempts = known.attempts + 1, {changed}"
            ),
            {
                "ids": [row[0] for row in rows],
                "messages": [row[1] for row in rows],
                "severities": [row[2] for row in rows],
                "destination": destination,
            }
            | values,
        )
