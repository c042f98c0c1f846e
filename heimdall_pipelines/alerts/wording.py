"""Text of alerts, as pure functions: one message per incident, or a summary of many."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from heimdall_pipelines.model.checks import Severity
from heimdall_pipelines.store.alert_deliveries import PendingAlert
from heimdall_pipelines.store.alerts import Alert

MAX_SUMMARY_LINES = 20
MAX_BODY_CHARACTERS = 4000

Tone = Literal["failure", "warning", "success", "info"]


@dataclass(frozen=True)
class Message:
    """A message: plain text and its severity."""

    title: str
    body: str
    tone: Tone


@dataclass(frozen=True)
class FailedCheck:
    """A failed check, as its evaluation reports it."""

    asset: str
    check_name: str
    partition: str | None
    severity: Severity
    description: str | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    examples: str | None = None
    to_repair: str | None = None
    run_id: str | None = None


def failed_check_text(check: FailedCheck, ui_url: str | None) -> tuple[str, str]:
    """Title and body of a failed check: numbers, examples, how to repair it, and a link to its run or its asset."""
    lines = []
    if check.numbers:
        lines.append(numbers_text(check.numbers))
    if check.examples:
        lines.append(check.examples)
    elif check.description:
        lines.append(check.description)
    body = _shortened("\n".join(lines))
    ends = []
    if check.to_repair:
        ends.append(f"To repair it: {check.to_repair}")
    if check.run_id:
        ends.append(run_link(ui_url, check.run_id))
    elif ui_url is not None:
        ends.append(check_link(ui_url, check.asset, check.check_name))
    title = f"{check.severity}: check {_check_name(check.asset, check.check_name, check.partition)} failed"
    return title, "\n".join(filter(None, (body, *ends)))


def failed_run_text(
    job_name: str, partition: str | None, run_id: str, reason: str, ui_url: str | None
) -> tuple[str, str]:
    """Title and body of a failed run."""
    title = f"ERROR: run of {job_name} failed" + (f" for {partition}" if partition else "")
    return title, f"{_shortened(reason)}\n{run_link(ui_url, run_id)}"


def message_of(pending: PendingAlert, ui_url: str | None) -> Message:
    """The message of one incident: its beginning, its end, or both."""
    alert = pending.alert
    if alert.recovered_at is None:
        since = "At" if alert.kind == "failed_run" else "Since"
        return Message(alert.title, f"{alert.body}\n{since} {moment(alert.raised_at)}", _tone(alert))
    name = _check_name(str(alert.asset), str(alert.check_name), alert.partition)
    since = moment(alert.recovered_at)
    if pending.failure_is_known:
        body = f"It failed at {moment(alert.raised_at)} and passes since {since}."
        if ui_url is not None:
            body += f"\n{check_link(ui_url, str(alert.asset), str(alert.check_name))}"
        return Message(f"Passes again: check {name}", body, "success")
    return Message(
        f"Failed and passes again: check {name}",
        f"It failed at {moment(alert.raised_at)} and passes again since {since}. The failure ({alert.severity}):\n"
        f"{alert.body}",
        "info",
    )


def summary_of(pending_alerts: Sequence[PendingAlert], ui_url: str | None) -> Message:
    """One message instead of many: counts by kind, and one line for each of the first 20."""
    counts = Counter(_kind_of(one) for one in pending_alerts)
    title = "Heimdall: " + ", ".join(f"{number} {_noun(kind, number)}" for kind, number in sorted(counts.items()))
    # Open incidents before recovered ones, errors before warnings; oldest first among equals.
    ranked = sorted(pending_alerts, key=lambda one: (one.alert.recovered_at is not None, one.alert.severity != "ERROR"))
    lines = [f"- {_line(one)}" for one in ranked[:MAX_SUMMARY_LINES]]
    if len(ranked) > MAX_SUMMARY_LINES:
        lines.append(f"and {len(ranked) - MAX_SUMMARY_LINES} more")
    lines.append("All of them: heimdall alerts list, or the table heimdall.alerts" + (f"\n{ui_url}" if ui_url else ""))
    wrong = [one for one in pending_alerts if one.alert.recovered_at is None]
    if not wrong:
        return Message(title, "\n".join(lines), "success")
    return Message(title, "\n".join(lines), "failure" if any(_tone(o.alert) == "failure" for o in wrong) else "warning")


def trial_message(at: datetime, ui_url: str | None) -> Message:
    """A message that shows that messages arrive."""
    body = f"Sent at {moment(at)} by: heimdall alerts test. Failed checks and runs are reported here."
    return Message("Heimdall: alerts arrive here", f"{body}\n{ui_url}" if ui_url else body, "info")


def numbers_text(numbers: Mapping[str, int]) -> str:
    """Numbers with their names.

    >>> numbers_text({"rows": 12, "problems": 3})
    'rows 12, problems 3'
    """
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def moment(at: datetime) -> str:
    """A time as text for messages.

    >>> moment(datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC))
    '2026-01-31 12:00:05 UTC'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def run_link(ui_url: str | None, run_id: str) -> str:
    """Link to a run; its id if the address of the UI is not known."""
    return f"run {run_id}" if ui_url is None else f"{ui_url}/runs/{quote(run_id)}"


def check_link(ui_url: str, asset: str, check_name: str) -> str:
    """Link to the evaluations of a check."""
    return f"{ui_url}/assets/{quote(asset)}?view=checks&checkDetail={quote(check_name)}"


def _check_name(asset: str, check_name: str, partition: str | None) -> str:
    return f"{check_name} of {asset}" + (f" for {partition}" if partition else "")


def _line(one: PendingAlert) -> str:
    alert = one.alert
    if alert.recovered_at is None:
        numbers = f" ({numbers_text(alert.numbers)})" if alert.numbers else ""
        return f"{alert.title}{numbers}"
    return message_of(one, None).title + f", since {moment(alert.recovered_at)}"


def _kind_of(one: PendingAlert) -> str:
    if one.alert.kind == "failed_run":
        return "failed run"
    return "failed check" if one.alert.recovered_at is None else "recovered check"


def _noun(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}s"


def _tone(alert: Alert) -> Tone:
    return "failure" if alert.severity == "ERROR" else "warning"


def _shortened(body: str) -> str:
    return body if len(body) <= MAX_BODY_CHARACTERS else f"{body[:MAX_BODY_CHARACTERS]} …"
