"""Redirects of a receiver's first request: followed to the receiver itself, and nowhere else."""

import aiohttp
import pytest

from heimdall_pipelines.receivers.addresses import receiver_url
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.redirects import MAX_REDIRECTS, redirected
from heimdall_pipelines.receivers.requests import connected
from heimdall_pipelines.receivers.simulated_receivers import Faults, SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import serving
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError

from .support import FAST, LIMITS, in_steady_time, recorded_from, synthetic


def after(url: str, location: str) -> str:
    """The URL after one redirect, or why it is not followed."""
    address = ReceiverAddress("torino", url, "kiwisdr")
    try:
        return str(redirected(address, receiver_url(address), location).base)
    except ReceiverError as error:
        return error.reason


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        (
            "http://a.proxy.example.org:8073",
            "http://a.proxy2.example.org:8073/77/SND",
            "http://a.proxy2.example.org:8073/",
        ),
        ("http://a.example.org/radio", "//b.example.org/1/SND", "http://b.example.org/radio"),
        ("http://a.example.org", "https://a.example.org/", "https://a.example.org/"),
        ("ws://a.example.org:8073", "wss://b.example.org/", "https://b.example.org/"),
        ("http://:x@a.example.org:8073", "http://b.example.org/", "http://b.example.org/"),
        ("http://:x@192.0.2.1", "http://192.0.2.1:8074/", "http://192.0.2.1:8074/"),
        (
            "https://a.example.org",
            "http://a.example.org/",
            "redirects to http://a.example.org/, which is not followed: it would leave TLS",
        ),
        (
            "http://:x@a.example.org",
            "http://b.example.net/",
            "redirects to http://b.example.net/, another site, to which the password is not sent: give that URL",
        ),
        (
            "http://:x@192.0.2.1",
            "http://u:p@192.0.2.2/",
            "redirects to http://192.0.2.2/, another site, to which the password is not sent: give that URL",
        ),
        (
            "http://a.example.org",
            "ftp://a.example.org/",
            "redirects to ftp://a.example.org/, which is not http, https, ws or wss",
        ),
        ("http://a.example.org", "http://[::1/", "redirects to http://[::1/, which is not a URL"),
    ],
)
def test_a_redirect_changes_scheme_host_and_port_or_is_refused(url, location, expected):
    assert after(url, location) == expected


def test_a_recording_follows_the_proxy_to_the_receiver():
    goal = SimulatedKiwiSdr(synthetic(), speed=FAST)

    async def run():
        async with (
            serving(goal) as there,
            serving(SimulatedKiwiSdr(synthetic(), faults=Faults(redirect_to=there))) as url,
        ):
            recorded = await recorded_from(url, "kiwisdr")
            status = await receiver_of("kiwisdr", LIMITS).status(ReceiverAddress("torino", url, "kiwisdr"))
        return recorded, status

    recorded, status = in_steady_time(run())
    assert recorded.iq.size >= 6_000
    assert status.is_up
    assert status.gnss_fix_age_s == 1.0
    assert len(goal.connection_ids) == 2


def test_redirects_in_a_circle_end():
    receiver = SimulatedKiwiSdr(synthetic())

    async def run():
        async with serving(receiver) as url:
            receiver.faults = Faults(redirect_to=url)
            with pytest.raises(ReceiverError, match="which is not followed"):
                await recorded_from(url, "kiwisdr")

    in_steady_time(run())
    assert receiver.num_requests == MAX_REDIRECTS + 1


def test_a_public_receiver_redirects_into_no_private_network():
    receiver = SimulatedKiwiSdr(synthetic())

    async def status_of_private(session: aiohttp.ClientSession, url: str) -> int:
        async with session.get(f"{url}/status") as response:
            return response.status

    async def run():
        async with serving(receiver) as url:
            address = ReceiverAddress("torino", url, "kiwisdr")
            for only_public in (False, True):
                opening = connected(
                    address, 100.0, lambda session: status_of_private(session, url), only_public=only_public
                )
                if not only_public:
                    async with opening as status:
                        assert status == 200
                    continue
                with pytest.raises(ReceiverError, match="into a private network: not followed") as caught:
                    async with opening:
                        pass
                assert not caught.value.is_transient

    in_steady_time(run())
    assert receiver.num_requests == 1
