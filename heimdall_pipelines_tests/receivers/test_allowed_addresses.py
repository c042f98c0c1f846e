"""Stations lead to no address of the local link and to no metadata service of a cloud, however they are written."""

import asyncio
import re
import socket

import pytest
from aiohttp import web

from heimdall_pipelines.receivers import allowed_addresses, requests
from heimdall_pipelines.receivers.allowed_addresses import is_forbidden
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError
from heimdall_pipelines_tests.receivers.support import LIMITS, TUNING

METADATA = "169.254.169.254"
SPELLINGS = [
    METADATA,
    "2852039166",
    "0xA9FEA9FE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "0xa9.254.169.0376",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "[febf:ffff::1]",
    "[fd00:ec2::254]",
    "168.63.129.16",
    "100.100.100.200",
]
PAGE = "users=1\nusers_max=4\ntdoa_ch=-1\n"  # without time stamps: no stream is opened to look at them
ALLOWED = ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.7", "172.16.0.1", "169.253.255.255", "169.255.0.0", "fec0::1",
           "2001:db8::1", "64:ff9b::c0a8:107", "::ffff:192.168.1.7", "2002:c0a8:107::1", "fd00::7"]  # fmt: skip


@pytest.fixture
def connections(monkeypatch):
    """Addresses that sockets were made for; none of them is of this network."""
    made = []
    usual = allowed_addresses.allowed_socket

    def counted(address_info):
        opened = usual(address_info)
        made.append(address_info[4][0])
        return opened

    monkeypatch.setattr(requests, "allowed_socket", counted)
    return made


@pytest.fixture
def names(monkeypatch):
    """Answers of the resolver: a name to lists of addresses, one after the other."""
    answers: dict[str, list[list[str]]] = {}
    usual = socket.getaddrinfo

    def resolve(host, port, *rest, **options):
        if host not in answers:
            return usual(host, port, *rest, **options)
        addresses = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "",
             (one, port, 0, 0) if ":" in one else (one, port))
            for one in addresses
        ]  # fmt: skip

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return answers


def refusal(url, api_type="kiwisdr"):
    async def record():
        async with receiver_of(api_type, LIMITS).stream(ReceiverAddress("torino", url, api_type), TUNING):
            pass

    with pytest.raises(ReceiverError) as caught:
        asyncio.run(record())
    return caught.value


@pytest.mark.parametrize("api_type", ["kiwisdr", "openwebrx"])
@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_such_an_address_is_requested(connections, host, api_type):
    for url in (f"http://{host}/", f"http://{host}:8073/latest/meta-data"):
        error = refusal(url, api_type)
        # aiohttp itself refuses IPv4 addresses in other forms than four decimal numbers, in some of its versions.
        assert re.search("HEIMDALL_ALLOW_LINK_LOCAL_STATIONS|not a canonical IPv4 address", error.reason)
        assert not error.is_transient
        status = asyncio.run(receiver_of(api_type, LIMITS).status(ReceiverAddress("torino", url, api_type)))
        assert (status.is_up, status.reason) == (False, error.reason)
    assert connections == []


@pytest.mark.parametrize("host", [host.strip("[]") for host in SPELLINGS])
def test_what_the_system_makes_of_a_spelling_is_forbidden(host):
    found = {information[4][0] for information in socket.getaddrinfo(host, 80)}
    assert found
    assert all(map(is_forbidden, found))


@pytest.mark.fault("the name of a live station leads to a metadata service of a cloud")
def test_names_that_lead_there_are_not_requested(connections, names, fault):
    names["kiwi.example"] = [[METADATA]]
    names["six.example"] = [["fe80::1", "::ffff:169.254.1.1"]]
    for name in names:
        error = refusal(f"http://{name}/")
        assert "local link or a metadata service" in error.reason
        assert not error.is_transient
    assert connections == []
    fault.record(
        detected_by="the address of the connection, after the name was resolved",
        result="nothing is sent and nothing retried; the station has an entry with the reason",
    )


def test_a_dns_answer_that_changes_does_not_help(names, connections):
    """The first answer is harmless, the one for the next connection is not."""

    async def record(url):
        first = await receiver_of("kiwisdr", LIMITS).status(ReceiverAddress("torino", url, "kiwisdr"))
        second = await receiver_of("kiwisdr", LIMITS).status(ReceiverAddress("torino", url, "kiwisdr"))
        return first, second

    async def run():
        async with running(web.Response(text=PAGE)) as port:
            names["rebound.example"] = [["127.0.0.1"], [METADATA]]
            return await record(f"http://rebound.example:{port}")

    first, second = asyncio.run(run())
    assert first.is_up
    assert not second.is_up
    assert "local link" in second.reason
    assert connections == ["127.0.0.1"]


def test_of_several_addresses_only_harmless_ones_are_connected_to(names, connections):
    async def run():
        async with running(web.Response(text=PAGE)) as port:
            names["both.example"] = [[METADATA, "127.0.0.1"]]
            address = ReceiverAddress("torino", f"http://both.example:{port}", "kiwisdr")
            return await receiver_of("kiwisdr", LIMITS).status(address)

    assert asyncio.run(run()).is_up
    assert connections == ["127.0.0.1"]


def test_redirects_to_such_an_address_reach_nothing(connections):
    async def run():
        async with running(web.Response(status=302, headers={"Location": f"http://{METADATA}/latest"})) as port:
            address = ReceiverAddress("torino", f"http://127.0.0.1:{port}", "kiwisdr")
            return await receiver_of("kiwisdr", LIMITS).status(address)

    status = asyncio.run(run())
    assert not status.is_up
    assert "its address is of the local link" in status.reason
    assert connections == ["127.0.0.1"]


@pytest.mark.parametrize("address", ALLOWED)
def test_other_addresses_are_allowed(address):
    assert not is_forbidden(address)


def test_a_setting_allows_them(monkeypatch):
    async def makes_sockets_by():
        async with requests._new_session() as session:
            return session.connector._socket_factory.__self__._make_socket

    assert asyncio.run(makes_sockets_by()) is allowed_addresses.allowed_socket
    monkeypatch.setenv("HEIMDALL_ALLOW_LINK_LOCAL_STATIONS", "true")
    assert asyncio.run(makes_sockets_by()) is allowed_addresses.any_socket


class running:  # noqa: N801  # used as a function
    """A server on loopback that gives one answer; a context manager of its port."""

    def __init__(self, answer):
        self._answer = answer

    async def __aenter__(self):
        async def give(_request):
            return self._answer

        app = web.Application()
        app.router.add_get("/{path:.*}", give)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self._runner.addresses[0][1]

    async def __aexit__(self, *_error):
        await self._runner.cleanup()
