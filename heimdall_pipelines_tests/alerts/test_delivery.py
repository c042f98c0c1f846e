"""Delivery through Apprise to real HTTP servers, which are down, refuse, and come back."""

import logging
import re
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from heimdall_pipelines.alerts import delivery
from heimdall_pipelines.alerts.delivery import AlertUrlError, deliver, destinations, open_service, without_secrets
from heimdall_pipelines.store.alert_deliveries import list_pending, lock_sending
from heimdall_pipelines.store.alerts import list_alerts, note_evaluations, note_failed_runs
from heimdall_pipelines_tests.alerts.support import LOG, PASSWORD, START, TIMEOUT_S, TOKEN, evaluation, failed_run

BROKEN = "slack://s3cret-token"


@pytest.fixture
def logged(monkeypatch):
    """Records that reach the root logger (pytest's capture has its own handlers)."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [*root.handlers, handler])
    monkeypatch.setattr(root, "level", logging.DEBUG)
    return lines


def to(*webhooks):
    return destinations(SecretStr(" ".join(getattr(webhook, "url", webhook) for webhook in webhooks)))


def note(database, *evaluations):
    note_evaluations(database, LOG, evaluations)


def tick(database, *webhooks, at_s=0.0, **options):
    return deliver(database, to(*webhooks), START + timedelta(seconds=at_s), **{"time_limit_s": TIMEOUT_S} | options)


def errors(database):
    return [d.last_error for overview in list_alerts(database, 1000) for d in overview.deliveries]


def test_a_failed_check_is_sent_once_with_title_body_and_how_bad_it_is(database, webhook):
    note(database, evaluation(1))
    for _ in range(3):
        tick(database, webhook)
    (message,) = webhook.messages
    assert message["title"] == evaluation(1).title
    assert message["message"] == "problems 1\nSince 2026-01-31 12:00:01 UTC"
    assert message["type"] == "failure"


def test_failure_and_recovery_are_two_messages(database, webhook):
    note(database, evaluation(1, severity="WARN"))
    tick(database, webhook)
    note(database, evaluation(2, severity="WARN", passed=True))
    tick(database, webhook)
    tick(database, webhook)
    assert [message["type"] for message in webhook.messages] == ["warning", "success"]
    assert webhook.titles[1] == "Passes again: check rows_agree of recorded/measurement_features for p1"


def test_a_webhook_outage_delays_its_messages_and_duplicates_none(database, webhook, second_webhook):
    second_webhook.down()
    for number in range(120):  # every 30 s
        if number % 40 == 0:
            note(database, evaluation(number + 1, partition=f"p{number}"))
        deliveries = tick(database, webhook, second_webhook, at_s=30 * number)
        assert [delivery.error is None for delivery in deliveries] == [True, False]
    assert len(webhook.messages) == 3
    assert sum("Connection error" in str(error) for error in errors(database)) == 3
    second_webhook.up()
    for number in range(3):
        deliveries = tick(database, webhook, second_webhook, at_s=3600 + 30 * number)
        assert [delivery.error for delivery in deliveries] == [None, None]
    assert sorted(second_webhook.titles) == sorted(webhook.titles)
    assert len(second_webhook.messages) == 3
    oldest = list_alerts(database, 10)[-1]
    assert sorted(d.attempts for d in oldest.deliveries) == [1, 121]
    assert errors(database) == [None] * 6


def test_failure_and_recovery_during_an_outage_are_one_message(database, webhook):
    webhook.down()
    note(database, evaluation(1))
    tick(database, webhook)
    note(database, evaluation(2, passed=True))
    tick(database, webhook)
    webhook.up()
    tick(database, webhook)
    tick(database, webhook)
    (message,) = webhook.messages
    assert message["title"].startswith("Failed and passes again: check rows_agree")


def test_a_server_that_refuses_is_tried_once_a_tick_and_says_why(database, webhook):
    webhook.status = 500
    note(database, evaluation(1), evaluation(2, partition="p2"))
    (delivery,) = tick(database, webhook)
    assert webhook.num_refused == 1  # the first failure ends the delivery
    assert "error=500" in delivery.error
    webhook.status = 200
    tick(database, webhook)
    assert len(webhook.messages) == 2


def test_a_silent_server_does_not_delay_the_others(database, webhook):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"json://127.0.0.1:{silent.getsockname()[1]}?rto=0.2"
        note(database, evaluation(1))
        stuck, working = tick(database, url, webhook)
    assert "Connection error" in stuck.error
    assert (working.error, len(webhook.messages)) == (None, 1)


def test_five_alerts_are_five_messages_and_five_hundred_are_one_summary(database, webhook):
    note(database, *(evaluation(number, partition=f"p{number}") for number in range(1, 6)))
    tick(database, webhook)
    assert len(webhook.messages) == 5
    note(database, *(evaluation(number, partition=f"p{number}") for number in range(6, 506)))
    tick(database, webhook)
    tick(database, webhook)
    assert len(webhook.messages) == 6
    assert webhook.titles[-1] == "Heimdall: 500 failed checks"
    assert "and 480 more" in webhook.messages[-1]["message"]
    assert len(list_alerts(database, 1000)) == 505


def test_an_unsent_summary_is_sent_later_with_newer_alerts(database, webhook):
    webhook.down()
    note(database, *(evaluation(number, partition=f"p{number}") for number in range(1, 11)))
    tick(database, webhook)
    note(database, evaluation(11, partition="p1", passed=True))
    note_failed_runs(database, LOG, [failed_run(12)])
    webhook.up()
    tick(database, webhook)
    tick(database, webhook)
    assert webhook.titles == ["Heimdall: 9 failed checks, 1 failed run, 1 recovered check"]


def test_a_crash_between_sending_and_marking_sends_again(database, webhook, monkeypatch):
    note(database, evaluation(1))

    def crash(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(delivery, "mark_sent", crash)
        with pytest.raises(KeyboardInterrupt):
            tick(database, webhook)
    tick(database, webhook)
    tick(database, webhook)
    assert len(webhook.messages) == 2


def test_nothing_is_sent_while_another_process_is_sending(database, webhook):
    note(database, evaluation(1))
    with lock_sending(database):
        assert tick(database, webhook) is None
    assert webhook.messages == []


def test_no_message_begins_when_the_time_of_a_turn_is_over(database, webhook):
    note(database, evaluation(1))
    assert [delivery.num_alerts for delivery in tick(database, webhook, time_limit_s=-1.0)] == [0]
    tick(database, webhook)
    assert len(webhook.messages) == 1


def test_an_unusable_url_is_named_and_does_not_block_others(database, webhook):
    note(database, evaluation(1))
    broken, working = tick(database, BROKEN, webhook)
    assert "HEIMDALL_ALERT_URLS: URL 1 (slack) is not a URL that Apprise accepts" in broken.error
    assert working.error is None
    assert len(webhook.messages) == 1
    assert len(list_pending(database, broken.destination.key, START, 10)) == 1


def test_failed_runs_and_incidents_of_last_week_are_not_sent(database, webhook):
    note_failed_runs(database, LOG, [failed_run(1)])
    note(database, evaluation(2), evaluation(3, passed=True), evaluation(4, partition="open"))
    tick(database, webhook, at_s=8 * 86400)
    assert webhook.titles == [evaluation(4, partition="open").title]


@pytest.mark.parametrize("url", [BROKEN, "nothing s3cret-token", "s3cret-token", "foo://s3cret-token", "json://"])
def test_a_broken_url_is_named_by_position_and_scheme_only(url, capfd, logged):
    found = to("json://127.0.0.1", url)
    open_service(found[0])
    with pytest.raises(AlertUrlError) as caught:
        open_service(found[1])
    assert str(caught.value).startswith("HEIMDALL_ALERT_URLS: URL 2 (")
    shown = [str(caught.value), repr(found), *logged, *capfd.readouterr()]
    assert not any("s3cret" in words for words in shown)


def test_urls_are_separated_by_spaces_or_commas_and_each_counts_once():
    urls = "json://one.example/a,b?x=1,2, mailto://user:pw@two.example\n json://three.example,slack://a/b/c json://one.example/a,b?x=1,2"
    found = destinations(SecretStr(urls))
    assert [d.label for d in found] == ["1 (json)", "2 (mailto)", "3 (json)", "4 (slack)"]
    assert found[0].url == "json://one.example/a,b?x=1,2"
    assert len({d.key for d in found}) == 4
    assert destinations(None) == destinations(SecretStr(" ")) == []


def test_the_urls_that_the_documentation_shows_are_urls():
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    shown = re.findall(r"HEIMDALL_ALERT_URLS='(.*)'", page.read_text())
    services = [type(open_service(found)).__name__ for urls in shown for found in to(urls)]
    assert services == ["NotifyEmail", "NotifySlack", "NotifyJSON"]


def test_no_secret_is_in_logs_output_errors_or_table_whatever_happens(database, webhook, logged, capfd):
    note(database, evaluation(1))
    shown = []
    for change in (webhook.down, webhook.up, lambda: note(database, evaluation(2, passed=True))):
        webhook.status = 403
        change()
        shown.append(repr(tick(database, webhook)))
    webhook.status = 200
    tick(database, webhook)
    shown += [*logged, *capfd.readouterr(), repr(list_alerts(database, 10)), *map(str, errors(database))]
    assert len(webhook.messages) == 1
    for secret in (TOKEN, PASSWORD):
        assert not any(secret in words for words in shown)


def test_what_a_service_says_is_kept_without_any_part_of_its_url():
    url = "slack://T0KENA/T0K%2FENB/T0KENC?footer=no"
    words = without_secrets("invalid token T0KENA (T0K/ENB, T0K%2FENB) at T0KENC " + "x" * 1000, url)
    assert words.startswith("invalid token *** (***, ***) at *** xxx")
    assert len(words) == 300
