"""`heimdall alerts`: failures, recoveries and deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heimdall_pipelines.cli.arguments import Limit
from heimdall_pipelines.cli.console import output, table, time_text
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.errors import HeimdallError

if TYPE_CHECKING:
    from heimdall_pipelines.alerts.delivery import Destination
    from heimdall_pipelines.store.alerts import Alert, AlertOverview

app = typer.Typer(help="Alerts of failed checks and runs.", no_args_is_help=True)


class NoDestinationError(HeimdallError):
    """No URL for messages is set."""


@app.command("list")
def list_(
    only_open: Annotated[bool, typer.Option("--open", help="Only checks that still fail")] = False,
    limit: Limit = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs")] = False,
) -> None:
    """Show failures, recoveries and deliveries; the daemon (`heimdall dev`) records and sends alerts."""
    from heimdall_pipelines.alerts.delivery import destinations
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.alerts import list_alerts

    with stores() as opened:
        current = destinations(load_settings().alert_urls)
        alerts = list_alerts(opened.database, limit, only_open=only_open)
    if as_json:
        output.print_json([_json(overview, current) for overview in alerts])
        return
    if not alerts:
        output.print("no check fails" if only_open else "no alerts: no check and no run has failed")
        return
    print_alerts(alerts, current)


def print_alerts(alerts: Sequence[AlertOverview], current: Sequence[Destination]) -> None:
    """Print alerts and their deliveries."""
    from heimdall_pipelines.alerts.delivery import VARIABLE
    from heimdall_pipelines.alerts.wording import numbers_text

    rows = table("when, UTC", "severity", "what", "numbers", "state", "delivered")
    for overview in alerts:
        alert = overview.alert
        rows.add_row(
            time_text(alert.raised_at.astimezone(UTC)),
            alert.severity,
            _what(alert),
            numbers_text(alert.numbers),
            _state(alert),
            _delivered(overview, current),
        )
    output.print(rows)
    if not current:
        output.print(f"{VARIABLE} is not set here, so the destinations are unknown")


@app.command("test")
def test() -> None:
    """Send a test message to each URL of HEIMDALL_ALERT_URLS and show the result."""
    from heimdall_pipelines.alerts.delivery import VARIABLE, AlertUrlError, destinations, open_service, send
    from heimdall_pipelines.alerts.wording import trial_message
    from heimdall_pipelines.settings import load_local_settings

    settings = load_local_settings()
    to = destinations(settings.alert_urls)
    if not to:
        raise NoDestinationError(f"{VARIABLE} is not set; set it to one or more Apprise URLs, see docs/operations.md")
    message = trial_message(datetime.now(UTC), settings.ui_url)
    rows = table("destination", "result")
    failed = False
    for destination in to:
        try:
            problem = send(open_service(destination), destination, message)
        except AlertUrlError as error:
            problem = str(error)
        failed = failed or problem is not None
        rows.add_row(destination.label, "sent" if problem is None else f"failed: {problem}")
    output.print(rows)
    if failed:
        raise typer.Exit(1)


def _what(alert: Alert) -> str:
    if alert.kind == "failed_run":
        return f"{alert.title.removeprefix(f'{alert.severity}: ')} ({alert.run_id})"
    return f"{alert.asset}: {alert.check_name}" + (f", {alert.partition}" if alert.partition else "")


def _state(alert: Alert) -> str:
    from heimdall_pipelines.alerts.wording import moment

    if alert.recovered_at is not None:
        return f"recovered {moment(alert.recovered_at)}"
    if alert.closed_at is not None:
        return f"closed {moment(alert.closed_at)}: the checked data were deleted"
    return "failed" if alert.kind == "failed_run" else "open"


def _delivered(overview: AlertOverview, current: Sequence[Destination]) -> str:
    """The number of current destinations that received the latest message, and errors of the others."""
    if not current:
        num_sent = len({one.destination for one in overview.deliveries if one.delivered_at is not None})
        return f"to {num_sent}" if num_sent else "not sent"
    message = "raised" if overview.alert.recovered_at is None else "recovered"
    known = {one.destination: one for one in overview.deliveries if one.message == message}
    num_delivered = sum(d.key in known and known[d.key].delivered_at is not None for d in current)
    words = [f"{num_delivered} of {len(current)}"]
    for destination in current:
        delivery = known.get(destination.key)
        if delivery is not None and delivery.last_error is not None:
            words.append(f"{destination.label}, {delivery.attempts} attempts: {delivery.last_error}")
    return "; ".join(words)


def _json(overview: AlertOverview, current: Sequence[Destination]) -> dict[str, Any]:
    alert = overview.alert
    labels = {destination.key: destination.label for destination in current}
    return vars(alert) | {
        "raised_at": alert.raised_at.isoformat(),
        "recovered_at": None if alert.recovered_at is None else alert.recovered_at.isoformat(),
        "closed_at": None if alert.closed_at is None else alert.closed_at.isoformat(),
        "deliveries": [
            vars(delivery)
            | {
                "destination": labels.get(delivery.destination, delivery.destination),
                "delivered_at": None if delivery.delivered_at is None else delivery.delivered_at.isoformat(),
            }
            for delivery in overview.deliveries
        ],
    }
