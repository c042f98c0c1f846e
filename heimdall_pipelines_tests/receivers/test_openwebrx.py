"""The OpenWebRX client against the simulated one: signal, level, honesty, and every way in which it is refused."""

import asyncio
import itertools
import json

import numpy as np
import pytest
from aiohttp import web

from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.openwebrx_audio import (
    ADPCM,
    MAX_BANDWIDTH_HZ,
    UNCOMPRESSED,
    AnalyticBaseband,
    AudioDecoder,
    AudioEncoder,
    OpenWebRxAudioError,
    SidebandPlan,
)
from heimdall_pipelines.receivers.simulated_receivers import Faults, SimulatedOpenWebRx
from heimdall_pipelines.receivers.simulator import serving
from heimdall_pipelines.receivers.stream import LevelKind, ReceiverAddress, ReceiverError, StreamLimitError, Tuning

from .support import (
    FAST,
    FREQUENCY_HZ,
    LIMITS,
    answering,
    failure,
    impatient,
    in_steady_time,
    record,
    recorded_from,
    status_of,
    synthetic,
)

TUNING = Tuning(FREQUENCY_HZ, 12_500.0, 1.5)
CODECS = pytest.mark.parametrize("codec", [ADPCM, UNCOMPRESSED])


def simulated(codec=ADPCM, **options):
    given = {"audio_compression": codec, "fft_compression": codec, "speed": FAST} | options
    return SimulatedOpenWebRx(synthetic(snr_db=30.0), **given)


@pytest.mark.long
@CODECS
def test_the_transmission_is_received_at_its_frequency_with_its_modulation(codec):
    recorded = record(simulated(codec), tuning=TUNING)
    assert recorded.nominal_rate_hz == 18_000.0
    assert recorded.applied.passband_hz == (-6_250.0, 6_250.0)
    assert recorded.quantisation_step == (None if codec == ADPCM else 1 / 32_768)
    iq = recorded.iq[: 1 << 14]
    power = np.abs(np.fft.fftshift(np.fft.fft(iq * np.hanning(iq.size)))) ** 2
    frequencies_hz = np.fft.fftshift(np.fft.fftfreq(iq.size, 1 / recorded.nominal_rate_hz))
    # Eight tones of 300 to 3000 Hz, 2 kHz of deviation: nearly all power within 5 kHz, its centre at the carrier.
    inside = np.abs(frequencies_hz) < 5_000
    assert power[inside].sum() / power.sum() > 0.9
    centre_hz = np.sum(frequencies_hz * power) / power.sum()
    assert abs(centre_hz) < 60.0
    envelope = np.abs(iq)
    assert np.std(envelope) / np.mean(envelope) < (0.35 if codec == ADPCM else 0.15)  # frequency modulation


@CODECS
def test_the_level_is_that_before_the_gain_control(codec):
    levels = {}
    for snr_db in (10.0, 30.0):
        receiver = SimulatedOpenWebRx(synthetic(snr_db=snr_db), audio_compression=codec, speed=FAST)
        recorded = record(receiver, tuning=TUNING)
        readings = [block.level_db for block in recorded.blocks if block.level_db is not None]
        assert recorded.applied.level_kind is LevelKind.DBFS
        assert 3 <= len(readings) <= 8  # four a second
        levels[snr_db] = np.mean(readings), 10 * np.log10(np.mean(np.abs(recorded.iq) ** 2))
    meter_db, audio_db = (np.subtract(levels[30.0], levels[10.0])).tolist()
    # At 10 dB over the noise of 36 kHz, of which a third is in the filter, the noise adds 0.15 dB.
    assert meter_db == pytest.approx(20.0, abs=0.5)
    assert abs(audio_db) < 1.0


def test_what_cannot_be_known_is_said():
    applied = record(simulated(), tuning=TUNING).applied
    assert applied.has_automatic_gain
    assert not applied.has_phase
    assert applied.clock_problem == "OpenWebRX sends no time stamps"
    assert "the server has no IQ" in applied.notes[0]
    assert all(block.stamp is None for block in record(simulated(), tuning=TUNING).blocks)


def test_the_profile_is_never_changed_and_the_client_says_who_it_is():
    receiver = simulated()
    record(receiver, tuning=TUNING)
    assert receiver.messages[0] == "SERVER DE CLIENT client=heimdall type=receiver"
    sent = [json.loads(text) for text in receiver.messages[1:]]
    assert {message["type"] for message in sent} == {"connectionproperties", "dspcontrol"}
    assert sent[0]["params"]["output_rate"] == 36_000
    assert sent[1]["params"]["offset_freq"] == 50_000 - 6_750
    assert (sent[1]["params"]["low_cut"], sent[1]["params"]["high_cut"]) == (500, 13_000)
    assert receiver.num_users == 0


def test_the_frequency_is_the_whole_hertz_that_is_applied():
    recorded = record(simulated(), tuning=Tuning(FREQUENCY_HZ + 0.4, 9_000.0, 0.2))
    assert recorded.applied.frequency_hz == FREQUENCY_HZ
    assert recorded.nominal_rate_hz == 12_000.0


@pytest.mark.parametrize(
    ("bandwidth_hz", "rate_hz", "received_hz"),
    [
        (3_000.0, 24_000, 3_000),
        (9_501.0, 24_000, 9_500),
        (12_500.0, 36_000, 12_500),
        (17_000.0, 48_000, 17_000),
        (1e5, 48_000, 17_000),
    ],
)
def test_the_sideband_lies_within_the_flat_part_of_the_audio(bandwidth_hz, rate_hz, received_hz):
    plan = SidebandPlan.of(bandwidth_hz)
    assert (plan.audio_rate_hz, plan.bandwidth_hz) == (rate_hz, received_hz)
    assert plan.cuts_hz[1] <= 0.43 * plan.audio_rate_hz
    assert received_hz <= MAX_BANDWIDTH_HZ


def test_the_analytic_baseband_is_the_same_in_any_pieces_and_has_no_mirror_image():
    plan = SidebandPlan.of(12_500.0)
    numbers = np.arange(36_000)
    tone_hz = plan.centre_hz + 1_000.0
    audio = np.rint(16_384 * np.cos(2 * np.pi * tone_hz * numbers / 36_000)).astype(np.int16)
    whole = AnalyticBaseband(plan).of(audio)
    pieces, cuts = AnalyticBaseband(plan), [0, 1, 8, 1_003, 1_004, 20_001, 36_000]
    parts = [pieces.of(audio[begin:end]) for begin, end in itertools.pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    assert whole.size == 18_000
    steady = whole[1_000:]
    expected = np.exp(2j * np.pi * 1_000.0 * np.arange(steady.size) / 18_000)
    amplitude = np.vdot(expected, steady) / steady.size
    assert abs(amplitude) == pytest.approx(0.5, abs=1e-3)
    assert np.std(steady - amplitude * expected) < 1e-3  # 60 dB below: the mirror image, and rounding


@CODECS
@pytest.mark.parametrize("piece_bytes", [1, 7, 1_009, 100_000])
def test_audio_decodes_the_same_in_any_pieces(codec, piece_bytes):
    samples = np.rint(9_000 * np.sin(np.arange(6_000) / 9)).astype(np.int16)
    encoder = AudioEncoder(codec)
    data = encoder.encode(samples[:1_000]) + encoder.encode(samples[1_000:])
    decoder = AudioDecoder(codec)
    decoded = np.concatenate(
        [decoder.decode(data[begin : begin + piece_bytes]) for begin in range(0, len(data), piece_bytes)]
    )
    assert decoded.size == samples.size
    if codec == UNCOMPRESSED:
        np.testing.assert_array_equal(decoded, samples)
    else:
        assert data[:8] == b"SYNC\0\0\0\0"
        assert data[1_009:1_013] == b"SYNC"
        assert np.std((decoded - samples)[200:]) < 400


def test_a_decoder_that_begins_in_the_middle_waits_for_the_next_frame():
    samples = np.rint(9_000 * np.sin(np.arange(6_000) / 9)).astype(np.int16)
    data = AudioEncoder(ADPCM).encode(samples)
    decoded = AudioDecoder(ADPCM).decode(data[300:])
    np.testing.assert_array_equal(decoded, AudioDecoder(ADPCM).decode(data)[2_002:])


def test_an_impossible_state_and_an_unknown_codec_are_refused():
    with pytest.raises(OpenWebRxAudioError, match="step index 99: 0 to 88 exist"):
        AudioDecoder(ADPCM).decode(b"SYNC\x63\0\0\0")
    with pytest.raises(OpenWebRxAudioError, match="'opus' is neither adpcm nor none"):
        AudioDecoder("opus")


WRONG = [
    (
        Faults(refusal={"type": "backoff", "reason": "Too many clients"}),
        "refuses the connection: Too many clients",
        True,
    ),
    (Faults(refusal={"type": "backoff", "reason": "Client address banned"}), "Client address banned", False),
    (Faults(refusal={"type": "sdr_error", "value": "No SDR Devices available"}), "No SDR Devices available", True),
    (
        Faults(refusal={"type": "config", "value": {"center_freq": "x", "samp_rate": 1, "audio_compression": "none"}}),
        "reports center_freq=x, which is not a number",
        False,
    ),
    (Faults(status=404), "has no /ws/ (HTTP status 404)", False),
    (Faults(answers_page=True), "answers the websocket with HTTP status 200, text/html", False),
    (Faults(replaced={8: b"\x07abc"}), "sent an unknown frame", False),
    (Faults(closes_at=60), "closed the connection after 0.", True),
]


@pytest.mark.parametrize(("faults", "reason", "is_transient"), WRONG, ids=[reason[:40] for _, reason, _ in WRONG])
def test_a_server_that_refuses_or_misbehaves_is_an_error_that_says_how(faults, reason, is_transient):
    error = failure(simulated(faults=faults), tuning=TUNING)
    assert reason in error.reason
    assert error.is_transient == is_transient


def test_a_full_server_is_left_alone_for_a_minute():
    error = failure(simulated(max_users=0), tuning=TUNING)
    assert (error.reason, error.retry_after_s) == ("refuses the connection: Too many clients", 60.0)


@pytest.mark.parametrize("frequency_hz", [145.5e6, 8.2e6 - 6_000])
def test_a_frequency_outside_the_active_profile_is_refused(frequency_hz):
    receiver = simulated()
    error = failure(receiver, tuning=Tuning(frequency_hz, 12_500.0, 1.0))
    assert error.reason.startswith("its active profile covers 5.8 to 8.2 MHz, not 12.5 kHz at ")
    assert "not changed from here" in error.reason
    assert not error.is_transient
    assert len(receiver.messages) == 2  # nothing was tuned


def test_the_recording_ends_when_another_listener_changes_the_profile():
    error = failure(simulated(changes_profile_at=60), tuning=TUNING)
    assert isinstance(error, StreamLimitError)
    assert "chose another profile" in error.reason


def test_a_server_that_sends_nothing_is_given_up():
    error = failure(simulated(faults=Faults(silent_from=60)), tuning=TUNING, limits=impatient(silence_s=0.3))
    assert error.reason.startswith("sent nothing for 0.3 s")
    assert error.is_transient


def test_another_program_behind_the_websocket_is_named():
    async def handler(request):
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.receive()
        await websocket.send_str("hello")
        await websocket.close()
        return websocket

    async def run():
        async with answering(handler) as url:
            await recorded_from(url, "openwebrx", tuning=TUNING)

    with pytest.raises(ReceiverError, match="something else than OpenWebRX does"):
        in_steady_time(run())


def test_the_status_tells_version_and_limit():
    status = status_of(simulated())
    assert status.is_up
    assert (status.software, status.max_users, status.gnss_fix_age_s) == ("OpenWebRX v1.2.121", 4, None)
    assert status.has_time_stamps is False
    assert not status_of(simulated(faults=Faults(status=500))).is_up
    page = status_of(simulated(faults=Faults(answers_page=True)))
    assert (page.is_up, page.reason) == (False, "has no status page of OpenWebRX")


def test_eight_clients_are_served_at_once():
    receiver = simulated(max_users=8)

    async def run():
        async with serving(receiver) as url:
            address = ReceiverAddress("torino", url, "openwebrx")

            async def one():
                async with receiver_of("openwebrx", LIMITS).stream(
                    address, Tuning(FREQUENCY_HZ, 9_000.0, 0.1)
                ) as stream:
                    return sum([block.iq.size async for block in stream])

            return await asyncio.gather(*(one() for _ in range(8)))

    assert all(size >= 1_200 for size in in_steady_time(run()))
