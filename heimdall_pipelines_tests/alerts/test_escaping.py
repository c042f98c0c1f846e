"""Alerts in chat services: nothing that a session, a station or an error message says notifies people or links away."""

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
import requests
from pydantic import SecretStr

from heimdall_pipelines.alerts.delivery import deliver, destinations
from heimdall_pipelines.alerts.escaping import chat_text
from heimdall_pipelines.store.alerts import note_evaluations
from heimdall_pipelines_tests.alerts.support import LOG, START, TIMEOUT_S, evaluation

UI = "https://ui.example/dagster"
EVIL = (
    "@everyone @here @channel <@123456> <@&1> <!channel> <#42> [free](http://evil.example) <https://evil.example|ui>"
    " ``` code ``` ||hidden|| https://evil.example/x http://ui.example.evil/ HTTPS://EVIL.example"
)
MARK_UP = ["@e", "@h", "@c", "<@", "<!", "<#", "](", "```", "||", "p://", "s://evil", "S://", "<h"]


def test_mentions_links_and_fences_are_broken_and_read_as_before():
    broken = chat_text(EVIL, UI)
    assert [mark_up for mark_up in MARK_UP if mark_up in broken] == []
    assert broken.replace("\u200b", "") == EVIL


@pytest.mark.parametrize(
    "text", ["problems 3, rows 12", "To repair it: heimdall dataset repair night --apply", "a < b"]
)
def test_plain_text_stays_as_it_is(text):
    assert chat_text(text) == text


def test_only_addresses_of_the_ui_are_links():
    text = f"{UI}/runs/1 {UI} {UI}.evil.example https://ui.example https://ui.example/dagster?x"
    links = [word for word in chat_text(text, UI).split() if "s://" in word]
    assert links == [f"{UI}/runs/1", UI, f"{UI}?x"]
    assert "s://" not in chat_text(text)


@pytest.fixture
def posted(monkeypatch):
    """What Apprise posts, to any service."""
    sent = []

    def post(url, data=None, **_options):
        sent.append(data if isinstance(data, str) else json.dumps(data))
        return SimpleNamespace(
            status_code=200, content=b"ok", text="ok", headers={}, raw=None, json=dict, ok=True, reason="OK"
        )

    monkeypatch.setattr(requests, "post", post)
    monkeypatch.setattr(requests, "request", lambda _method, url, **options: post(url, **options))
    return sent


def send(database, url):
    note_evaluations(database, LOG, [evaluation(1, partition="p1", title=EVIL, body=f"{EVIL}\n{UI}/runs/1")])
    to = destinations(SecretStr(url))
    (result,) = deliver(database, to, START + timedelta(seconds=1), UI, time_limit_s=TIMEOUT_S)
    assert result.error is None


@pytest.mark.parametrize("url", ["mmost://127.0.0.1/token123", f"discord://{'1' * 18}/{'a' * 68}"])
def test_text_for_chat_services_notifies_no_user(database, posted, url):
    send(database, url)
    (payload,) = posted
    text = json.dumps(json.loads(payload), ensure_ascii=False)
    assert "evil.example" in text
    assert [mark_up for mark_up in MARK_UP if mark_up in text] == []
    assert f"{UI}/runs/1" in text


def test_programs_get_the_text_as_it_is(database, posted):
    send(database, "json://127.0.0.1/hook")
    assert json.loads(posted[0])["title"] == EVIL
