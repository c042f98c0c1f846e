"""Rows of alerts: incidents, opened and closed by evaluations of checks, and failed runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from heimdall_pipelines.model.batches import BATCH_SUFFIX
from heimdall_pipelines.model.checks import Severity
from heimdall_pipelines.store.columns import listed
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

Change = Literal["raised", "worsened", "recovered"]

# Any constant works if every version of this project uses the same one, and no other lock has it.
_RECORDING_LOCK = 0x4845_494D_0001


@dataclass(frozen=True)
class CheckEvaluation:
    """One evaluation of a check in Dagster's event log.

    ``event_id`` grows with each event of the log; ``title`` and ``body`` are the message if it failed.
    """

    event_id: int
    evaluated_at: datetime
    asset: str
    check_name: str
    partition: str | None
    passed: bool
    severity: Severity
    run_id: str | None
    title: str
    body: str
    numbers: Mapping[str, int]

    @property
    def subject(self) -> str:
        """Subject of an incident; each subject has at most one open incident."""
        return ":".join(filter(None, (self.asset, self.check_name, self.partition)))


@dataclass(frozen=True)
class FailedRun:
    """A run that failed and is not retried."""

    event_id: int
    failed_at: datetime
    run_id: str
    partition: str | None
    title: str
    body: str


@dataclass(frozen=True)
class Alert:
    """One incident: a check from its first failure to its next pass, or a failed run.

    ``closed_at`` is set if the dataset or session was deleted before the check passed again.
    """

    id: int
    kind: str
    severity: Severity
    asset: str | None
    check_name: str | None
    partition: str | None
    run_id: str | None
    title: str
    body: str
    numbers: Mapping[str, int]
    raised_at: datetime
    recovered_at: datetime | None
    closed_at: datetime | None = None


@dataclass(frozen=True)
class NotedChange:
    """A change of the table by an event."""

    change: Change
    title: str
    body: str


@dataclass(frozen=True)
class Delivery:
    """State of a message to one destination."""

    message: str
    destination: str
    attempts: int
    last_error: str | None
    delivered_at: datetime | None


@dataclass(frozen=True)
class AlertOverview:
    """An alert with its deliveries, for lists."""

    alert: Alert
    deliveries: tuple[Delivery, ...]


ALERT_COLUMNS = listed((field.name for field in fields(Alert)), "alerts")
IS_OPEN_SQL = "kind = 'failed_check' AND recovered_at IS NULL AND closed_at IS NULL"
_RENAMED_CHECKS = ["samples_made_again_agree"]  # samples_regenerate_identically since 0.1


def note_evaluations(database: Database, event_log: str, evaluations: Iterable[CheckEvaluation]) -> list[NotedChange]:
    """Open, update and close incidents in the order of the events; repeated events change nothing.

    Parameters
    ----------
    database : Database
    event_log : str
        Id of the Dagster instance that numbers the events; another instance has other numbers.
    evaluations : iterable of CheckEvaluation
        In any order. Evaluations that are not newer than the last one of their subject are ignored.

    Returns
    -------
    list of NotedChange
        Changes to report; a check that fails again while its incident is open is not one.
    """
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.event_id)
    changes = []
    with _recording(database) as connection:
        latest = _latest(connection, sorted({evaluation.subject for evaluation in ordered}))
        for evaluation in ordered:
            known = latest.get(evaluation.subject)
            if known is not None and known.event_log == event_log and evaluation.event_id <= known.event_id:
                continue
            if known is not None and known.closed_at is not None and evaluation.evaluated_at <= known.closed_at:
                continue  # its subject was deleted since; a new one may have the same name
            is_open = known is not None and known.recovered_at is None and known.closed_at is None
            if evaluation.passed and not is_open:
                continue
            if known is not None and is_open:
                row, change = _update(connection, event_log, known, evaluation)
            else:
                row, change = _insert(connection, event_log, evaluation), "raised"
            latest[evaluation.subject] = row
            if change is not None:
                changes.append(NotedChange(change, row.title, row.body))
    return changes


def _latest(connection: Connection, subjects: Sequence[str]) -> dict[str, Row[Any]]:
    rows = connection.execute(
        text(
            f"SELECT DISTINCT ON (subject) subject, {_NOTED} FROM heimdall.alerts"
            " WHERE subject = ANY(:subjects) AND kind = 'failed_check' ORDER BY subject, id DESC"
        ),
        {"subjects": list(subjects)},
    )
    return {row.subject: row for row in rows}


_NOTED = "id, severity, event_log, event_id, recovered_at, closed_at, title, body"


def _insert(connection: Connection, event_log: str, evaluation: CheckEvaluation) -> Row[Any]:
    return connection.execute(
        text(
            "INSERT INTO heimdall.alerts (kind, subject, severity, asset, check_name, partition, run_id, title, body,"
            " numbers, event_log, event_id, raised_at) VALUES ('failed_check', :subject, :severity, :asset,"
            " :check_name, :partition, :run_id, :title, :body, :numbers, :event_log, :event_id, :at)"
            f" RETURNING {_NOTED}"
        ),
        _values(event_log, evaluation)
        | {"asset": evaluation.asset, "check_name": evaluation.check_name, "partition": evaluation.partition},
    ).one()


def _update(
    connection: Connection, event_log: str, known: Row[Any], evaluation: CheckEvaluation
) -> tuple[Row[Any], Change | None]:
    values = _values(event_log, evaluation) | {"id": known.id}
    if evaluation.passed:
        changed = "recovered_at = :at"
    else:
        changed = "severity = :severity, run_id = :run_id, title = :title, body = :body, numbers = :numbers"
    row = connection.execute(
        text(
            f"UPDATE heimdall.alerts SET {changed}, event_log = :event_log, event_id = :event_id"
            f" WHERE id = :id RETURNING {_NOTED}"
        ),
        values,
    ).one()
    if evaluation.passed:
        return row, "recovered"
    return row, "worsened" if (known.severity, row.severity) == ("WARN", "ERROR") else None


def _values(event_log: str, evaluation: CheckEvaluation) -> dict[str, Any]:
    return {
        "subject": evaluation.subject,
        "severity": evaluation.severity,
        "run_id": evaluation.run_id,
        "title": evaluation.title,
        "body": evaluation.body,
        "numbers": json.dumps(dict(evaluation.numbers)),
        "event_log": event_log,
        "event_id": evaluation.event_id,
        "at": evaluation.evaluated_at,
    }


def known_failed_runs(database: Reading, run_ids: Sequence[str]) -> set[str]:
    """The runs that are already in the table."""
    rows = database.read(
        "SELECT subject FROM heimdall.alerts WHERE kind = 'failed_run' AND subject = ANY(%(run_ids)s)",
        {"run_ids": list(run_ids)},
    )
    return {row.subject for row in rows}


def note_failed_runs(database: Database, event_log: str, runs: Iterable[FailedRun]) -> list[NotedChange]:
    """Add failed runs, each once; returns the new ones."""
    changes = []
    with _recording(database) as connection:
        for run in runs:
            added = connection.execute(
                text(
                    "INSERT INTO heimdall.alerts (kind, subject, severity, partition, run_id, title, body, event_log,"
                    " event_id, raised_at) VALUES ('failed_run', :run_id, 'ERROR', :partition, :run_id, :title, :body,"
                    " :event_log, :event_id, :failed_at)"
                    " ON CONFLICT (subject) WHERE kind = 'failed_run' DO NOTHING RETURNING id"
                ),
                vars(run) | {"event_log": event_log},
            ).first()
            if added is not None:
                changes.append(NotedChange("raised", run.title, run.body))
    return changes


def close_alerts_of_deleted(database: Database) -> int:
    """Close open alerts of deleted datasets and sessions, and of renamed checks; no recovery is sent.

    These checks do not run again, so these alerts would stay open. A failure that is recorded after the deletion is
    closed by the next call.

    Returns
    -------
    int
        Number of alerts closed.
    """
    with _recording(database) as connection:
        closed = connection.execute(
            text(
                f"UPDATE heimdall.alerts SET closed_at = now() WHERE {IS_OPEN_SQL}"
                " AND (check_name = ANY(:renamed) OR CASE"
                "   WHEN asset IN ('recorded/measurement_features', 'recorded/positions') THEN NOT EXISTS"
                "     (SELECT FROM heimdall.recording_sessions WHERE slug = partition)"
                "   WHEN asset = 'synthetic/dataset_summary' THEN NOT EXISTS"
                "     (SELECT FROM heimdall.synthetic_datasets WHERE name = partition)"
                "   WHEN asset IN ('synthetic/measurement_features', 'synthetic/raw_iq_objects') THEN NOT EXISTS"
                "     (SELECT FROM heimdall.synthetic_datasets WHERE name = regexp_replace(partition, :batch, ''))"
                "   ELSE false END)"
            ),
            {"renamed": _RENAMED_CHECKS, "batch": f"{BATCH_SUFFIX}$"},
        )
        return closed.rowcount


@contextmanager
def _recording(database: Database) -> Iterator[Connection]:
    """One process at a time: the state of a subject must not change between reading and writing."""
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _RECORDING_LOCK})
        yield connection


def list_alerts(database: Reading, limit: int, *, only_open: bool = False) -> list[AlertOverview]:
    """The newest alerts with their deliveries; ``only_open``: only checks that still fail."""
    where = f" WHERE {IS_OPEN_SQL}" if only_open else ""
    rows = database.read(
        f"SELECT {ALERT_COLUMNS} FROM heimdall.alerts{where} ORDER BY raised_at DESC, id DESC LIMIT %(limit)s",
        {"limit": limit},
    )
    alerts = [Alert(**row._asdict()) for row in rows]
    deliveries: dict[int, list[Delivery]] = {}
    for alert_id, *values in database.read(
        "SELECT alert_id, message, destination, attempts, last_error, delivered_at"
        " FROM heimdall.alert_deliveries WHERE alert_id = ANY(%(ids)s)"
        " ORDER BY alert_id, message, destination",
        {"ids": [alert.id for alert in alerts]},
    ):
        deliveries.setdefault(alert_id, []).append(Delivery(*values))
    return [AlertOverview(alert, tuple(deliveries.get(alert.id, ()))) for alert in alerts]
