"""The sensor that records failed checks and runs as alerts and sends them; the same work for the command line."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from heimdall_pipelines.alerts.delivery import DestinationResult, deliver, destinations
from heimdall_pipelines.alerts.wording import FailedCheck, failed_check_text, failed_run_text
from heimdall_pipelines.defs.run_errors import step_failure_text
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.run_tags import PARTITION_TAG, WILL_RETRY_TAG
from heimdall_pipelines.store.alerts import (
    CheckEvaluation,
    FailedRun,
    NotedChange,
    close_alerts_of_deleted,
    known_failed_runs,
    note_evaluations,
    note_failed_runs,
)
from heimdall_pipelines.store.session_slugs import slugs_of_ids
from heimdall_pipelines.store.stores import Stores

EVENTS_PER_PAGE = 1000
# A page takes 0.4 s for new evaluations, and 8 s for failed runs, because the reason of each is read.
PAGES_PER_CALL = {dg.DagsterEventType.ASSET_CHECK_EVALUATION: 5, dg.DagsterEventType.RUN_FAILURE: 1}
# PostgreSQL assigns ids before it commits: events younger than this are read again, since others may appear among them.
SETTLED_AFTER_S = 60.0
# Old events are read to the end before anything is sent: what they report may have recovered since.
CAUGHT_UP_AGE_S = 600.0
MAX_CHANGES_LOGGED = 20


class EventLogError(HeimdallError):
    """Dagster's events cannot be read in a single order."""


@dataclass(frozen=True)
class Cursor:
    """The last processed Dagster events: ids of a check evaluation, and of a run failure."""

    evaluations: int = 0
    failures: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Parse a sensor's cursor; anything else means the beginning, which only takes more time."""
        try:
            values = json.loads(text or "")
            return cls(int(values["evaluations"]), int(values["failures"]))
        except (TypeError, LookupError, ValueError):
            return cls()

    def __str__(self) -> str:
        return json.dumps(vars(self))


@dataclass(frozen=True)
class AlertsOutcome:
    """What one call recorded and sent.

    ``deliveries`` is None if nothing was sent yet: another process is sending, or old events are still being read.
    """

    cursor: Cursor
    changes: tuple[NotedChange, ...] = ()
    deliveries: tuple[DestinationResult, ...] | None = None

    def __str__(self) -> str:
        counts = Counter(noted.change for noted in self.changes)
        words = [", ".join(f"{number} {change}" for change, number in counts.items()) or "nothing new"]
        if self.deliveries is None:
            words.append("nothing is sent yet: old events are still being read, or another process is sending")
        elif not self.deliveries and self.changes:
            words.append("HEIMDALL_ALERT_URLS is not set: see the table heimdall.alerts and the log")
        for delivery in self.deliveries or ():
            if delivery.num_alerts:
                words.append(f"sent {delivery.num_alerts} to {delivery.destination.label}")
            if delivery.error is not None:
                words.append(delivery.error)
        return "; ".join(words)


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Records failed checks and failed runs in the table heimdall.alerts and sends each of them once to "
    "HEIMDALL_ALERT_URLS, and a message when a check passes again.",
)
def failed_asset_check_alerts(
    context: dg.SensorEvaluationContext, stores: dg.ResourceParam[Stores], settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Read Dagster's events after the cursor; reading events again changes nothing."""
    try:
        outcome = note_and_deliver(context.instance, stores, settings, context.log, context.cursor)
    except EventLogError as error:
        return dg.SkipReason(str(error))
    return dg.SensorResult(skip_reason=str(outcome), cursor=str(outcome.cursor))


def note_and_deliver(
    instance: dg.DagsterInstance,
    stores: Stores,
    settings: Settings,
    log: logging.Logger,
    cursor: str | None = None,
    now: datetime | None = None,
) -> AlertsOutcome:
    """Record checks and failed runs from Dagster's event log after a cursor, and send pending alerts.

    Parameters
    ----------
    instance : dg.DagsterInstance
    stores : Stores
    settings : Settings
        Only ``alert_urls`` and ``ui_url`` are used.
    log : logging.Logger
        Gets new incidents, and destinations that did not accept their messages.
    cursor : str, optional
        Cursor of the previous outcome; default: from the beginning of the log.
    now : datetime, optional
        Default: the current time.

    Raises
    ------
    EventLogError
        The instance does not store its events in a single order.
    UnavailableError
        A server is down. Nothing is lost: the next call with the same cursor does the same.
    """
    if instance.event_log_storage.is_run_sharded:
        raise EventLogError(
            "Dagster's default SQLite storage keeps the events of each run in a separate file, without a common order. "
            "Alerts need its PostgreSQL storage: use this project's dagster.yaml"
        )
    now = datetime.now(UTC) if now is None else now
    reading = _Reading(instance, stores, settings.ui_url, Cursor.parse(cursor), now)
    reading.read()
    num_closed = close_alerts_of_deleted(stores.database)
    _log_changes(log, reading.changes)
    if num_closed:
        log.info(f"{num_closed} alerts were closed: their datasets or sessions were deleted, or their checks renamed")
    deliveries = None
    if not reading.is_behind:
        deliveries = deliver(stores.database, destinations(settings.alert_urls), now, settings.ui_url)
    for delivery in deliveries or ():
        if delivery.error is not None:
            log.error(f"{delivery.error}\nThe next tick retries; nothing is lost. See: heimdall alerts list")
    return AlertsOutcome(reading.cursor, tuple(reading.changes), None if deliveries is None else tuple(deliveries))


@dataclass
class _Reading:
    """One pass over the events after a cursor; each page is recorded before the next is read."""

    instance: dg.DagsterInstance
    stores: Stores
    ui_url: str | None
    cursor: Cursor
    now: datetime
    is_behind: bool = False
    changes: list[NotedChange] = field(default_factory=list)

    def read(self) -> None:
        # Ids restart in another database. Every SQL storage has this method; only their base class does not declare it.
        event_log: str = self.instance.run_storage.get_run_storage_id()  # type: ignore[attr-defined]

        def note_checks(page: Sequence[dg.EventLogRecord]) -> set[int]:
            seen = [record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in page]
            # A session has one incident, whether its partition key is an id (older partitions) or a slug.
            slugs = slugs_of_ids(self.stores.database, [evaluation.partition for evaluation in seen])
            evaluations = [_evaluation(record, self.ui_url, slugs) for record in page]
            self.changes += note_evaluations(self.stores.database, event_log, evaluations)
            return set()

        def note_failures(page: Sequence[dg.EventLogRecord]) -> set[int]:
            failed, undecided = self._failed_runs(page)
            self.changes += note_failed_runs(self.stores.database, event_log, failed)
            return undecided

        self.cursor = Cursor(
            self._pages(dg.DagsterEventType.ASSET_CHECK_EVALUATION, self.cursor.evaluations, note_checks),
            self._pages(dg.DagsterEventType.RUN_FAILURE, self.cursor.failures, note_failures),
        )

    def _pages(
        self, kind: dg.DagsterEventType, settled: int, note: Callable[[Sequence[dg.EventLogRecord]], Container[int]]
    ) -> int:
        """Record one kind of event; returns the id up to which all are recorded and no others can appear."""
        after, is_settled = settled, True
        for _ in range(PAGES_PER_CALL[kind]):
            # Not the instance's method: it warns and requires a cursor that cannot be made from ids.
            page = self.instance.event_log_storage.get_event_records(
                dg.EventRecordsFilter(kind, after_cursor=after), EVENTS_PER_PAGE, ascending=True
            )
            undecided = note(page)
            for record in page:
                after = record.storage_id
                is_settled = is_settled and self._age_s(record) > SETTLED_AFTER_S and after not in undecided
                settled = after if is_settled else settled
            if len(page) < EVENTS_PER_PAGE:
                return settled
        self.is_behind = self.is_behind or self._age_s(page[-1]) > CAUGHT_UP_AGE_S
        return settled

    def _failed_runs(self, page: Sequence[dg.EventLogRecord]) -> tuple[list[FailedRun], set[int]]:
        """Runs to report, and the events of runs for which Dagster has not decided yet whether to retry them."""
        known = known_failed_runs(self.stores.database, [record.run_id for record in page])
        new = [record for record in page if record.run_id not in known]
        if not new:
            return [], set()
        runs = {run.run_id: run for run in self.instance.get_runs(dg.RunsFilter([record.run_id for record in new]))}
        slugs = slugs_of_ids(self.stores.database, [_partition(run) for run in runs.values()])
        failed, undecided = [], set()
        for record in new:
            run = runs.get(record.run_id)
            will_retry = None if run is None else run.tags.get(WILL_RETRY_TAG)
            is_fresh = self._age_s(record) <= SETTLED_AFTER_S
            if run is not None and will_retry is None and is_fresh and self.instance.run_retries_enabled:
                undecided.add(record.storage_id)  # the tag is set shortly after the event
            elif will_retry != "true":
                failed.append(self._failed_run(record, run, slugs))
        return failed, undecided

    def _failed_run(self, record: dg.EventLogRecord, run: dg.DagsterRun | None, slugs: Mapping[str, str]) -> FailedRun:
        entry = record.event_log_entry
        job_name = str(entry.job_name if run is None else run.job_name)
        partition = None if run is None else _partition(run)
        partition = slugs.get(partition or "", partition)
        title, body = failed_run_text(job_name, partition, record.run_id, self._reason(record), self.ui_url)
        return FailedRun(record.storage_id, _moment(record), record.run_id, partition, title, body)

    def _reason(self, record: dg.EventLogRecord) -> str:
        failures = self.instance.all_logs(record.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        words = [step_failure_text(entry.get_dagster_event()) for entry in failures]
        if words:
            return "\n".join(dict.fromkeys(words))
        event = record.event_log_entry.get_dagster_event()
        return event.message or "the run failed before its first step"

    def _age_s(self, record: dg.EventLogRecord) -> float:
        return self.now.timestamp() - record.timestamp


def _evaluation(record: dg.EventLogRecord, ui_url: str | None, slugs: Mapping[str, str]) -> CheckEvaluation:
    seen = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
    check = FailedCheck(
        asset=seen.asset_key.to_user_string(),
        check_name=seen.check_name,
        partition=slugs.get(seen.partition or "", seen.partition),
        severity="WARN" if seen.severity is dg.AssetCheckSeverity.WARN else "ERROR",
        description=seen.description,
        numbers={
            name: value.value
            for name, value in seen.metadata.items()
            if isinstance(value, dg.IntMetadataValue) and value.value is not None
        },
        examples=_words(seen.metadata.get("examples")),
        to_repair=_words(seen.metadata.get("to_repair", seen.metadata.get("to_mend"))),  # to_mend: until 0.1
        # An event reported without a run has no step, but still a run id.
        run_id=record.run_id if record.event_log_entry.step_key is not None else None,
    )
    title, body = failed_check_text(check, ui_url)
    return CheckEvaluation(
        event_id=record.storage_id,
        evaluated_at=_moment(record),
        asset=check.asset,
        check_name=check.check_name,
        partition=check.partition,
        passed=seen.passed,
        severity=check.severity,
        run_id=check.run_id,
        title=title,
        body=body,
        numbers=check.numbers,
    )


def _words(value: dg.MetadataValue[Any] | None) -> str | None:
    return None if value is None else str(value.value) or None


def _moment(record: dg.EventLogRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp, UTC)


def _partition(run: dg.DagsterRun) -> str | None:
    if PARTITION_TAG in run.tags:
        return run.tags[PARTITION_TAG]
    ends = [run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end")]
    return " to ".join(end for end in ends if end) or None


def _log_changes(log: logging.Logger, changes: Sequence[NotedChange]) -> None:
    for noted in changes[:MAX_CHANGES_LOGGED]:
        if noted.change == "recovered":
            log.info(f"passes again, reported before as: {noted.title}")
        else:
            log.warning(f"{noted.title}\n{noted.body}")
    if len(changes) > MAX_CHANGES_LOGGED:
        log.warning(f"and {len(changes) - MAX_CHANGES_LOGGED} more: heimdall alerts list")
