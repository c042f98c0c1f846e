"""`heimdall alerts`, with real webhooks."""

import json
import os
import re

import pytest
from pydantic import SecretStr

from heimdall_pipelines.alerts import delivery
from heimdall_pipelines.alerts.delivery import deliver, destinations
from heimdall_pipelines.cli.environment import name_ui
from heimdall_pipelines.store.alerts import close_alerts_of_deleted, note_evaluations, note_failed_runs
from heimdall_pipelines_tests.alerts.support import (
    LOG,
    PASSWORD,
    START,
    TIMEOUT_S,
    TOKEN,
    Webhook,
    evaluation,
    failed_run,
)


@pytest.fixture
def webhooks(monkeypatch):
    """Two: the first is up, the second is down."""
    monkeypatch.setattr(delivery, "SEND_TIMEOUT_S", TIMEOUT_S)
    both = (Webhook().up(), Webhook())
    monkeypatch.setenv("HEIMDALL_ALERT_URLS", f"{both[0].url}, {both[1].url}")
    yield both
    for webhook in both:
        webhook.down()


@pytest.fixture
def noted(stores):
    """A check that failed and passes again, one that is failing, and a failed run."""
    events = [evaluation(1), evaluation(2, partition="[p2]", severity="WARN"), evaluation(3, passed=True)]
    note_evaluations(stores.database, LOG, events)
    note_failed_runs(stores.database, LOG, [failed_run(4)])


def line_of(output, words):
    (line,) = [line for line in output.splitlines() if words in line]
    return line


def test_no_alert_is_said_in_words(heimdall):
    assert heimdall("alerts", "list")[:2] == (0, "no alerts: no check and no run has failed\n")
    assert heimdall("alerts", "list", "--open")[:2] == (0, "no check fails\n")


def test_alerts_are_listed_with_state_numbers_and_deliveries(heimdall, stores, noted, webhooks):
    urls = SecretStr(" ".join(webhook.url for webhook in webhooks))
    deliver(stores.database, destinations(urls), START, time_limit_s=TIMEOUT_S)
    code, output, error = heimdall("alerts", "list")
    assert code == 0
    recovered = line_of(output, "rows_agree, p1")
    assert "2026-01-31 12:00:01" in recovered
    assert "recovered 2026-01-31 12:00:03 UTC" in recovered
    is_open = line_of(output, "rows_agree, [p2]")
    assert all(words in is_open for words in ("WARN", "problems 2", "open", "1 of 2; 2 (json), 1 attempts:"))
    assert "run of make_synthetic_batches failed for p1 (run-a)" in output
    assert not any(secret in output + error for secret in (TOKEN, PASSWORD))


def test_only_what_is_open_and_only_so_many(heimdall, noted):
    output = heimdall("alerts", "list", "--open")[1]
    assert "[p2]" in output
    assert "rows_agree, p1" not in output
    assert "run-a" not in output
    assert "run-a" in heimdall("alerts", "list", "--limit", 1)[1]
    assert "HEIMDALL_ALERT_URLS is not set here, so the destinations are unknown" in output


def test_alerts_of_what_was_deleted_are_shown_as_closed(heimdall, stores, noted, webhooks):
    assert close_alerts_of_deleted(stores.database) == 1  # there never was a session p2
    line = line_of(heimdall("alerts", "list")[1], "rows_agree, [p2]")
    assert re.search(r" closed \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: the checked data were deleted", line)
    assert heimdall("alerts", "list", "--open")[1] == "no check fails\n"
    closed = {
        alert["partition"]: alert["closed_at"] is not None
        for alert in json.loads(heimdall("alerts", "list", "--json")[1])
    }
    assert closed == {"[p2]": True, "p1": False}
    deliver(stores.database, destinations(SecretStr(webhooks[0].url)), START, time_limit_s=TIMEOUT_S)
    assert not any("p2" in message["message"] + message["title"] for message in webhooks[0].messages)


def test_alerts_as_json(heimdall, stores, noted, webhooks):
    urls = SecretStr(" ".join(webhook.url for webhook in webhooks))
    deliver(stores.database, destinations(urls), START, time_limit_s=TIMEOUT_S)
    code, output, _ = heimdall("alerts", "list", "--json")
    assert code == 0
    run, is_open, over = json.loads(output)
    assert (run["kind"], run["run_id"], run["recovered_at"]) == ("failed_run", "run-a", None)
    assert (is_open["partition"], is_open["severity"], is_open["numbers"]) == ("[p2]", "WARN", {"problems": 2})
    assert over["recovered_at"] == "2026-01-31T12:00:03+00:00"
    assert {(d["destination"], d["delivered_at"] is None) for d in run["deliveries"]} == {
        ("1 (json)", False),
        ("2 (json)", True),
    }


def test_a_test_message_reports_the_result_of_each_destination(heimdall, webhooks):
    code, output, error = heimdall("alerts", "test")
    assert code == 1
    assert "sent" in line_of(output, "1 (json)")
    assert "failed: A Connection error" in line_of(output, "2 (json)")
    assert webhooks[0].titles == ["Heimdall: alerts arrive here"]
    assert not any(secret in output + error for secret in (TOKEN, PASSWORD))
    webhooks[1].up()
    assert heimdall("alerts", "test")[0] == 0


def test_a_url_that_cannot_be_used_is_named_by_the_test(heimdall, monkeypatch):
    monkeypatch.setenv("HEIMDALL_ALERT_URLS", "slack://s3cret-token")
    code, output, error = heimdall("alerts", "test")
    assert code == 1
    assert "HEIMDALL_ALERT_URLS: URL 1 (slack) is not a URL that Apprise accepts" in " ".join(output.split())
    assert "s3cret" not in output + error


def test_without_urls_there_is_nothing_to_test(heimdall):
    code, _, error = heimdall("alerts", "test")
    assert code == 1
    assert "HEIMDALL_ALERT_URLS is not set" in error


def test_dev_tells_dagster_where_its_ui_is_unless_the_operator_did(monkeypatch):
    monkeypatch.setenv("HEIMDALL_UI_URL", "https://dagster.example")
    name_ui("http://127.0.0.1:3000")
    assert os.environ["HEIMDALL_UI_URL"] == "https://dagster.example"
    monkeypatch.delenv("HEIMDALL_UI_URL")
    name_ui("http://127.0.0.1:3000")
    assert os.environ["HEIMDALL_UI_URL"] == "http://127.0.0.1:3000"
    monkeypatch.delenv("HEIMDALL_UI_URL")  # given by the command, not by this fixture
