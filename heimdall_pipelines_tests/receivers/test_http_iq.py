"""The HTTP IQ client against the played receiver, and against servers that answer otherwise."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web

from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.http_iq import requested_rate_hz
from heimdall_pipelines.receivers.signal_sources import WavSource
from heimdall_pipelines.receivers.simulated_receivers import Faults, SimulatedHttpIq
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError, Tuning

from ..formats.support import kiwi_file
from .support import (
    FAST,
    FREQUENCY_HZ,
    LIMITS,
    failure,
    impatient,
    in_steady_time,
    record,
    recorded_from,
    status_of,
    synthetic,
)


@asynccontextmanager
async def answering(handler):
    """A server whose /iq and /status answer as a test wants."""
    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


SHORT = Tuning(FREQUENCY_HZ, 8_000.0, 0.001)  # 13 samples


def record_bytes(body: bytes, *, headers=None, pieces=None):
    """Record from a server that answers with these bytes."""

    async def handler(request):
        if pieces is None:
            return web.Response(body=body, headers={"Content-Type": "application/octet-stream"} | (headers or {}))
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"} | (headers or {}))
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    async def run():
        async with answering(handler) as url:
            return await recorded_from(url, "http_iq", tuning=SHORT)

    return in_steady_time(run())


def test_samples_are_little_endian_i_before_q():
    recorded = record_bytes(b"\x00\x40\x00\x80" * 13)
    np.testing.assert_array_equal(recorded.iq, np.full(13, 0.5 - 1j, np.complex64))
    assert recorded.nominal_rate_hz == 12_000.0
    assert recorded.quantisation_step == 1 / 32768
    assert recorded.blocks[0].stamp is None


def test_samples_that_come_in_odd_pieces_are_put_together():
    stored = np.arange(26, dtype="<i2")
    body = stored.tobytes()
    recorded = record_bytes(b"", pieces=[body[:1], body[1:7], body[7:8], body[8:]])
    np.testing.assert_array_equal(recorded.iq.view(np.float32) * 32768, stored)


def test_a_replayed_recording_gives_the_samples_of_the_file(tmp_path):
    path = kiwi_file(tmp_path, seconds=3.0)
    recorded = record(SimulatedHttpIq(WavSource(path), speed=FAST), tuning=Tuning(77_500.0, 8_000.0, 2.9))
    expected = np.concatenate(list(open_recording(path).blocks()))
    np.testing.assert_array_equal(recorded.iq, expected[: recorded.iq.size])
    assert recorded.nominal_rate_hz == 12_001.0


def test_no_more_is_taken_than_was_asked_for_whatever_comes():
    recorded = record(SimulatedHttpIq(synthetic(), speed=FAST), tuning=Tuning(FREQUENCY_HZ, 150_000.0, 0.1))
    assert recorded.nominal_rate_hz == 188_000.0
    assert recorded.iq.size == 18_802  # 0.1 s and 0.01 %


@pytest.mark.parametrize(
    ("bandwidth_hz", "rate_hz"), [(1.0, 12_000), (9_600.0, 12_000), (9_700.0, 13_000), (160_000.0, 200_000)]
)
def test_the_rate_asked_for_follows_from_the_bandwidth(bandwidth_hz, rate_hz):
    assert requested_rate_hz(bandwidth_hz) == rate_hz


def test_the_request_says_frequency_and_rate_and_sends_user_and_password():
    seen = []

    async def handler(request):
        seen.append((request.path_qs, request.headers.get("Authorization")))
        return web.Response(body=bytes(80), content_type="application/octet-stream")

    async def run():
        async with answering(handler) as url:
            url = url.replace("//", "//me:s%3Acret@") + "/radio/?x=1#y"
            await recorded_from(url, "http_iq", tuning=Tuning(145_500_000.0, 12_500.0, 0.001))

    in_steady_time(run())
    assert seen == [("/radio/iq?tune=145500000&rate=16000", "Basic bWU6czpjcmV0")]


WRONG = [
    (Faults(answers_page=True), "answers with text/html: IQ is application/octet-stream", False),
    (Faults(headers={"Content-Type": "application/json"}), "answers with application/json", False),
    (Faults(headers={"Content-Encoding": "br"}), "sends its IQ encoded as br", False),
    (Faults(headers={"X-Sample-Rate": "fast"}), "reports X-Sample-Rate: fast", False),
    (Faults(headers={"X-Sample-Rate": "nan"}), "reports X-Sample-Rate: nan", False),
    (Faults(headers={"X-Sample-Rate": "1e9"}), "but 12000 Hz were requested", False),
    (Faults(headers={"X-Sample-Rate": "0"}), "but 12000 Hz were requested", False),
    (Faults(status=503), "is busy (HTTP status 503)", True),
    (Faults(status=429), "is busy (HTTP status 429)", True),
    (Faults(status=401), "refuses access (HTTP status 401): check the password", False),
    (Faults(status=403), "refuses access (HTTP status 403)", False),
    (Faults(status=404), "has no /iq (HTTP status 404)", False),
    (Faults(status=400), "answers with HTTP status 400", False),
    (Faults(status=500), "answers with HTTP status 500", True),
    (Faults(redirect_to="http://u:p@127.0.0.1:1/x"), "redirects to http://127.0.0.1:1/x, which is not", False),
    (Faults(closes_at=12), "ended its answer after 0.4 s of 0.5 s", True),
    (Faults(breaks_at=12), "ended its answer in the middle of a sample after 0.4 s of 0.5 s", True),
    (Faults(headers={"Content-Length": "60000"}, closes_at=12), "closed the connection after 0.4 s of 0.5 s", True),
]


@pytest.mark.parametrize(("faults", "reason", "is_transient"), WRONG, ids=[reason[:40] for _, reason, _ in WRONG])
def test_a_receiver_that_refuses_or_misbehaves_is_an_error_that_says_how(faults, reason, is_transient):
    error = failure(SimulatedHttpIq(synthetic(), speed=FAST, faults=faults))
    assert reason in error.reason
    assert error.is_transient == is_transient


SLOW = [
    (Faults(says_nothing=True), {"connect_s": 0.3}, "cannot be reached: no answer within 0.3 s"),
    (Faults(silent_from=2), {"silence_s": 0.3}, "sent nothing for 0.3 s, after 0.0 s of 0.5 s"),
    (Faults(delay_s=0.08), {"lag_s": 0.3}, "sends too slowly: more than 0.3 s behind, after 0."),
]


@pytest.mark.parametrize(("faults", "limits", "reason"), SLOW, ids=[reason[:40] for _, _, reason in SLOW])
def test_a_receiver_that_sends_nothing_or_too_slowly_is_given_up(faults, limits, reason):
    error = failure(SimulatedHttpIq(synthetic(), speed=FAST, faults=faults), limits=impatient(**limits))
    assert reason in error.reason
    assert error.is_transient


def test_a_redirect_is_not_followed():
    elsewhere = SimulatedHttpIq(synthetic())

    async def run():
        from heimdall_pipelines.receivers.simulator import serving

        async with serving(elsewhere) as goal:
            receiver = SimulatedHttpIq(synthetic(), faults=Faults(redirect_to=f"{goal}/iq?tune=1&rate=12000"))
            async with serving(receiver) as url:
                with pytest.raises(ReceiverError, match="which is not followed"):
                    await recorded_from(url, "http_iq")
                assert not (await receiver_of("http_iq", LIMITS).status(ReceiverAddress("x", url, "http_iq"))).is_up

    in_steady_time(run())
    assert elsewhere.num_requests == 0


def test_a_password_and_a_free_channel_are_needed():
    assert record(SimulatedHttpIq(synthetic(), password="sesame", speed=FAST), user_info="me:sesame@").blocks
    assert "check the password" in failure(SimulatedHttpIq(synthetic(), password="sesame"), user_info="me:no@").reason
    error = failure(SimulatedHttpIq(synthetic(), max_users=0))
    assert error.is_transient


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

    for api_type in ("http_iq", "kiwisdr"):
        assert not in_steady_time(run(api_type)).is_transient


def test_a_receiver_that_is_not_there_is_transiently_unreachable():
    async def run(api_type, url):
        with pytest.raises(ReceiverError) as caught:
            await recorded_from(url, api_type)
        assert caught.value.is_transient
        return caught.value.reason

    for api_type in ("http_iq", "kiwisdr"):
        assert in_steady_time(run(api_type, "http://127.0.0.1:1")).startswith("cannot be reached: ")
        assert in_steady_time(run(api_type, "http://nowhere.invalid")) == "its host name cannot be resolved"


def test_the_status_page_may_be_lines_json_or_missing():
    status = status_of(SimulatedHttpIq(synthetic()))
    assert status.is_up
    assert (status.num_users, status.max_users) == (0, 4)

    async def ask(response):
        async def handler(request):
            return response()

        async with answering(handler) as url:
            return await receiver_of("http_iq", LIMITS).status(ReceiverAddress("x", url, "http_iq"))

    json = in_steady_time(ask(lambda: web.json_response({"users": 2, "users_max": 3, "gnss_fix_age_s": 7})))
    assert (json.num_users, json.max_users, json.gnss_fix_age_s) == (2, 3, 7.0)
    missing = in_steady_time(ask(lambda: web.Response(status=404)))
    assert missing.is_up
    assert missing.num_users is None
    garbage = in_steady_time(ask(lambda: web.Response(body=b"\xff\x00users=many\nusers_max=-1\n=\n" + b"[" * 60_000)))
    assert garbage.is_up
    assert (garbage.num_users, garbage.max_users) == (None, None)
    endless = in_steady_time(ask(lambda: web.Response(body=b"users=1\n" + b"x" * 10_000_000)))
    assert endless.num_users == 1
    assert not in_steady_time(ask(lambda: web.Response(text="offline=yes\n"))).is_up
