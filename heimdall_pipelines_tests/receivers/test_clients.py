"""Which client serves which receiver, and which addresses are accepted."""

import asyncio

import pytest

from heimdall_pipelines.receivers.addresses import receiver_url, shown_url
from heimdall_pipelines.receivers.clients import UnknownApiTypeError, receiver_of
from heimdall_pipelines.receivers.kiwisdr import KiwiSdr
from heimdall_pipelines.receivers.openwebrx import OpenWebRx
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError, WaitLimits

from .support import in_steady_time, recorded_from


def test_each_kind_of_receiver_has_its_client():
    assert isinstance(receiver_of("kiwisdr"), KiwiSdr)
    assert isinstance(receiver_of("openwebrx"), OpenWebRx)


@pytest.mark.parametrize("api_type", ["none", "http_iq", ""])
def test_a_kind_without_a_client_is_an_error_that_names_those_there_are(api_type):
    with pytest.raises(UnknownApiTypeError, match=f"api_type '{api_type}': kiwisdr or openwebrx is needed"):
        receiver_of(api_type)


def test_no_limit_is_longer_than_a_stations_own_timeout_which_makes_none_longer():
    usual = WaitLimits(connect_s=10.0, handshake_s=15.0, silence_s=5.0, lag_s=10.0)
    assert WaitLimits.capped_at(100.0) == usual
    assert WaitLimits.capped_at(7.0) == WaitLimits(connect_s=7.0, handshake_s=7.0, silence_s=5.0, lag_s=7.0)


@pytest.mark.parametrize(
    ("url", "websocket", "page"),
    [
        ("http://host:8073", "ws://host:8073/1/SND", "http://host:8073/status"),
        ("https://host/", "wss://host/1/SND", "https://host/status"),
        ("ws://host:8073/kiwi?x#y", "ws://host:8073/kiwi/1/SND", "http://host:8073/kiwi/status"),
        ("WSS://Host", "wss://host/1/SND", "https://host/status"),
        ("http://:pass@[::1]:80/", "ws://[::1]/1/SND", "http://[::1]/status"),
    ],
)
def test_http_and_websocket_addresses_are_turned_into_each_other(url, websocket, page):
    parsed = receiver_url(ReceiverAddress("torino", url, "kiwisdr"))
    assert str(parsed.websocket("1", "SND")) == websocket
    assert str(parsed.page("status")) == page


@pytest.mark.parametrize("api_type", ["kiwisdr", "openwebrx"])
@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://me:topsecret@host/",
        "host:8073",
        "//host",
        "",
        "http://",
        "http:///iq",
        "http://:topsecret@/",
        "http://host:0",
        "http://me:topsecret@host:99999/",
        "http://[::1",
        "javascript:alert(1)",
        "http://\x1b[31mme:topsecret@:8073",
    ],
)
def test_an_invalid_address_is_refused_without_showing_its_password(url, api_type):
    with pytest.raises(ReceiverError) as caught:
        in_steady_time(recorded_from(url, api_type))
    assert not caught.value.is_transient
    assert caught.value.reason.startswith("the URL ")
    assert "topsecret" not in str(caught.value)
    assert str(caught.value).isprintable()
    status = in_steady_time(receiver_of(api_type).status(ReceiverAddress("torino", url, api_type)))
    assert not status.is_up
    assert status.reason == caught.value.reason


def test_a_url_is_shown_without_user_password_control_characters_or_great_length():
    assert shown_url("http://me:secret@host:8073/x@y") == "http://host:8073/x@y"
    assert shown_url("http://host/\x1b[31m\n") == "http://host/?[31m?"
    assert len(shown_url("http://host/" + "x" * 1000)) == 121


def test_a_server_that_speaks_no_http_is_named():
    async def shout(reader, writer):
        writer.write(b"\xff\xfe220 ftp ready\r\n" * 10)
        await writer.drain()
        writer.close()

    async def run(api_type):
        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        async with server:
            with pytest.raises(ReceiverError, match="torino: answers no HTTP") as caught:
                await recorded_from(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", api_type)
        return caught.value

    for api_type in ("openwebrx", "kiwisdr"):
        assert not in_steady_time(run(api_type)).is_transient


def test_a_receiver_that_is_not_there_is_transiently_unreachable():
    async def run(api_type, url):
        with pytest.raises(ReceiverError) as caught:
            await recorded_from(url, api_type)
        assert caught.value.is_transient
        return caught.value.reason

    for api_type in ("openwebrx", "kiwisdr"):
        assert in_steady_time(run(api_type, "http://127.0.0.1:1")).startswith("cannot be reached: ")
        assert in_steady_time(run(api_type, "http://nowhere.invalid")) == "its host name cannot be resolved"
