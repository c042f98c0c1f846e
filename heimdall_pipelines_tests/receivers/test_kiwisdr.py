"""The KiwiSDR client against the played one: what arrives, and every way in which a receiver can misbehave."""

import asyncio
import itertools

import numpy as np
import pytest
from aiohttp import web

from heimdall_pipelines.formats.gnss_clock import fit_gnss_clock
from heimdall_pipelines.formats.iq_recording import GivenValues
from heimdall_pipelines.formats.kiwi_chunks import BLOCK_SAMPLES
from heimdall_pipelines.formats.kiwi_stream import write_message, write_sound
from heimdall_pipelines.formats.kiwi_wav import open_kiwi_wav
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.kiwisdr import KiwiSdr
from heimdall_pipelines.receivers.signal_sources import WIDE_RATE_HZ, ReplayClock, WavSource
from heimdall_pipelines.receivers.simulated_receivers import Faults, SimulatedClock, SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import serving
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError, StreamLimitError, Tuning

from ..formats.support import kiwi_file
from .support import (
    FAST,
    FREQUENCY_HZ,
    GENOVA,
    LIMITS,
    START_NS,
    TUNING,
    failure,
    impatient,
    in_steady_time,
    record,
    recorded_from,
    status_of,
    synthetic,
    whole,
)

HALF_FRAME = write_sound(np.zeros(2 * BLOCK_SAMPLES, np.int16), sequence=5)[:-3]
COMPRESSED = b"SND" + bytes([0x18]) + bytes(2000)
MONO = b"SND" + bytes([0x00]) + bytes(2065)


def assert_same_as_file(recorded, path):
    given = GivenValues()
    file = open_kiwi_wav(path, given)
    np.testing.assert_array_equal(recorded.iq, np.concatenate(list(file.blocks())))
    fit = fit_gnss_clock(
        recorded.stamps, near_unix_ns=file.start_time_unix_ns, nominal_rate_hz=recorded.nominal_rate_hz
    )
    assert fit.start_time_unix_ns == file.start_time_unix_ns
    assert fit.sample_rate_hz == file.sample_rate_hz
    assert recorded.quantisation_step == file.quantisation_step


def test_a_replayed_recording_gives_the_samples_and_time_stamps_of_the_file(tmp_path):
    path = kiwi_file(tmp_path, seconds=6.0)
    assert_same_as_file(record(SimulatedKiwiSdr(WavSource(path), speed=FAST), tuning=whole(path)), path)


def test_the_real_recordings_replayed_give_the_samples_and_time_stamps_of_the_files(real_recordings):
    assert len(real_recordings) == 3
    for path in real_recordings:
        assert_same_as_file(record(SimulatedKiwiSdr(WavSource(path), speed=FAST), tuning=whole(path)), path)


def test_a_replay_moved_into_the_present_keeps_the_differences_between_receivers(tmp_path):
    path = kiwi_file(tmp_path, seconds=4.0)
    clock = ReplayClock(START_NS, clock=lambda: START_NS + 1_000_000 * 10**9)
    moved = [record(SimulatedKiwiSdr(WavSource(path, moved_by_s=clock.moved_by_s), speed=FAST)) for _ in range(2)]
    stays = record(SimulatedKiwiSdr(WavSource(path), speed=FAST))
    np.testing.assert_array_equal(moved[0].stamps.second, moved[1].stamps.second)
    np.testing.assert_array_equal(moved[0].stamps.nanosecond, stays.stamps.nanosecond)
    assert len(set((moved[0].stamps.second.astype(int) - stays.stamps.second) % 604_800)) == 1


def test_streams_of_a_session_share_one_time_shift():
    seconds = iter([0, 3, 6.5, 11.4, 100.7, 101.0])
    clock = ReplayClock(START_NS, clock=lambda: START_NS + round(next(seconds) * 1e9))
    assert [clock.moved_by_s() for _ in range(6)] == [0, 0, 0, 0, 100, 100]


def test_the_stamps_of_a_simulated_station_tell_its_start_and_its_true_rate():
    signal_source = synthetic()
    recorded = record(SimulatedKiwiSdr(signal_source, speed=FAST), tuning=Tuning(FREQUENCY_HZ, 8_000.0, 10.0))
    fit = fit_gnss_clock(recorded.stamps, near_unix_ns=START_NS, nominal_rate_hz=recorded.nominal_rate_hz)
    assert abs(fit.start_time_unix_ns - START_NS) < 1_000
    assert fit.sample_rate_hz == pytest.approx(12_001 * signal_source.rate_ratio, abs=1e-4)


@pytest.mark.long
def test_simulated_stations_hear_the_same_transmission_each_after_its_own_delay():
    heard = {}
    for rx_id, place in (("torino", synthetic().place), ("genova", GENOVA)):
        signal_source = synthetic(rx_id, place, snr_db=60.0)
        recorded = record(SimulatedKiwiSdr(signal_source, speed=FAST), tuning=Tuning(FREQUENCY_HZ, 8_000.0, 2.0))
        time_s = np.arange(recorded.iq.size) / (12_001 * signal_source.rate_ratio)
        heard[rx_id] = (
            signal_source,
            time_s,
            recorded.iq * np.exp(-2j * np.pi * signal_source.oscillator_offset_hz * time_s),
        )
    for signal_source, time_s, iq in heard.values():
        delay_s = signal_source.transmission.delay_s(signal_source.place)
        errors_us = np.linspace(-20.0, 20.0, 41)
        likeness = []
        for error_us in errors_us:
            replica = np.exp(1j * signal_source.transmission.phase_rad(START_NS, time_s - delay_s - error_us * 1e-6))
            likeness.append(abs(np.vdot(replica, iq)))
        assert abs(errors_us[np.argmax(likeness)]) <= 1.0  # the step; 60 dB of SNR tell 0.01 us


def test_no_more_is_taken_than_was_asked_for_and_the_connection_is_closed():
    receiver = SimulatedKiwiSdr(synthetic(), speed=FAST)
    recorded = record(receiver)
    assert 0 <= recorded.iq.size - 0.5 * 12_001 <= BLOCK_SAMPLES + 1
    assert receiver.num_users == 0


def test_the_handshake_says_what_a_kiwisdr_needs_and_keeps_the_stream_alive(monkeypatch):
    monkeypatch.setattr("heimdall_pipelines.receivers.kiwisdr.KEEPALIVE_S", 0.02)
    receiver = SimulatedKiwiSdr(synthetic(), speed=2.0, keepalive_s=0.2)  # the stream takes 0.5 s
    record(receiver, tuning=Tuning(FREQUENCY_HZ, 8_000.0, 1.0))
    assert receiver.commands[0] == "SET auth t=kiwi p="
    assert "SET AR OK in=12000 out=44100" in receiver.commands
    assert "SET mod=iq low_cut=-5000 high_cut=5000 freq=7050.000000" in receiver.commands
    assert "SET agc=1 hang=0 thresh=-100 slope=6 decay=1000 manGain=50" in receiver.commands
    assert "SET compression=0" in receiver.commands
    assert receiver.commands.count("SET keepalive") > 3


def test_a_client_that_sends_no_keepalive_is_let_go(monkeypatch):
    monkeypatch.setattr("heimdall_pipelines.receivers.kiwisdr.KEEPALIVE_S", 100.0)
    error = failure(SimulatedKiwiSdr(synthetic(), keepalive_s=0.2), tuning=Tuning(FREQUENCY_HZ, 8_000.0, 100.0))
    assert error.is_transient
    assert error.reason.startswith("closed the connection after 0.")


def test_passband_and_gain_are_requested():
    receiver = SimulatedKiwiSdr(synthetic(), speed=FAST)

    async def run():
        async with serving(receiver) as url:
            address = ReceiverAddress("torino", url, "kiwisdr")
            for gain_db in (None, 42.0):
                async with KiwiSdr(LIMITS).stream(address, Tuning(FREQUENCY_HZ, 25_000.0, 0.1, gain_db)) as stream:
                    assert stream.applied.has_automatic_gain == (gain_db is None)
                    assert stream.applied.manual_gain_db == gain_db
                    assert [block async for block in stream]

    in_steady_time(run())
    assert any(command.startswith("SET mod=iq low_cut=-6000 high_cut=6000 ") for command in receiver.commands)
    assert "SET agc=1 hang=0 thresh=-100 slope=6 decay=1000 manGain=50" in receiver.commands
    assert "SET agc=0 hang=0 thresh=-100 slope=6 decay=1000 manGain=42" in receiver.commands


def test_lost_frames_are_counted_and_an_overdriven_converter_is_flagged():
    recorded = record(SimulatedKiwiSdr(synthetic(), speed=FAST, faults=Faults(lost=frozenset({5, 6}), overdriven={9})))
    assert [block.num_lost_before for block in recorded.blocks[:5]] == [0, 0, 0, 1024, 0]
    assert [number for number, block in enumerate(recorded.blocks) if block.adc_overflow] == [5]
    assert sum(block.num_lost_before for block in recorded.blocks) == 1024
    assert 0 <= recorded.iq.size + 1024 - 0.5 * 12_001 <= BLOCK_SAMPLES + 1


@pytest.mark.parametrize("password", ["sésame öffne & p=1", "#"])
def test_a_password_opens_the_receiver(password):
    from urllib.parse import quote

    receiver = SimulatedKiwiSdr(synthetic(), password=password, speed=FAST)
    assert record(receiver, user_info=f":{quote(password, safe='')}@").blocks


def test_a_password_is_never_shown():
    address = ReceiverAddress("torino", "http://:topsecret@127.0.0.1:1/", "kiwisdr")
    assert "topsecret" not in repr(address)
    error = failure(SimulatedKiwiSdr(synthetic(), password="sesame"), user_info=":topsecret@")
    assert error.reason == "refuses the password: give the right one in its URL, http://:password@host"
    assert not error.is_transient


WRONG = [
    (Faults(refusal={"too_busy": "4"}), "is busy: all 4 channels are taken", True),
    (Faults(refusal={"badp": "1"}), "asks for a password: the channels that need none are taken", True),
    (Faults(refusal={"badp": "1", "chan_no_pwd": "0"}), "requires a password", False),
    (Faults(refusal={"badp": "5"}), "allows only one connection per address", True),
    (Faults(refusal={"badp": "99"}), "refuses the connection (badp=99)", False),
    (
        Faults(refusal={"redirect": "http%3a%2f%2fu:p@192.0.2.7/x"}),
        "is busy and names another receiver, http://192.0.2.7/x, which is not this station",
        True,
    ),
    (Faults(refusal={"down": None}), "reports that it is down", True),
    (Faults(refusal={"reason_disabled": "moving%20house", "down": "0"}), "that it is down: moving house", True),
    (Faults(refusal={"reason_disabled": None, "down": "1"}), "is updating its software", True),
    (Faults(refusal={"wb_only": None}), "runs the wideband firmware", False),
    (Faults(refusal={"exclusive_use": None}), "is locked for the exclusive use of one user", True),
    (Faults(refusal={"too_busy": "0"}), "admits no programs: ask its owner", False),
    (Faults(refusal={"ip_limit": "30%2c192.0.2.1"}), "allows 30 minutes a day for each network address", False),
    (Faults(refusal={"badp": "0"}), "closed the connection", True),
    (
        Faults(refusal={"sample_rate": "many"}),
        "reports sample_rate=many, which is not a number",
        False,
    ),
    (Faults(refusal={"sample_rate": "1e12"}), "reports a sample rate of 1e+12 Hz", False),
    (Faults(answers_page=True), "answers the websocket with HTTP status 200, text/html; charset=utf-8", False),
    (Faults(redirect_to="http://u:p@127.0.0.1:1/x"), "cannot be reached: connection refused", True),
    (Faults(redirect_to="ftp://127.0.0.1/x"), "redirects to ftp://127.0.0.1/x, which is not http", False),
    (Faults(status=404), "(HTTP status 404)", False),
    (Faults(status=503), "is busy (HTTP status 503)", True),
    (Faults(status=500), "answers with HTTP status 500", True),
    (Faults(status=403), "refuses access (HTTP status 403)", False),
    (Faults(replaced={4: b"\x00\xffgarbage"}), "sent an unknown frame", False),
    (Faults(replaced={4: b""}), "sent an unknown frame", False),
    (Faults(replaced={4: HALF_FRAME}), "has 2065 bytes", False),
    (Faults(replaced={4: COMPRESSED}), "is compressed", False),
    (Faults(replaced={4: MONO}), "is not IQ", False),
    (Faults(replaced={4: b"MSG \xff"}), "a message is not UTF-8 at byte 4", False),
    (Faults(replaced={4: b"SND" + bytes([8]) + bytes(60_000)}), "more than 4096", False),
    (Faults(replaced={4: b"SND" + bytes([8]) + bytes(2_000_000)}), "violates the websocket protocol", False),
    (Faults(replaced={4: b"MSG too_busy=2"}), "is busy: its owner gives 2 channels to programs", True),
    (Faults(replaced={4: b"MSG too_busy=0"}), "admits no programs", False),
    (Faults(replaced={4: b"MSG inactivity_timeout=30"}), "ends streams that are not tuned for 30 minutes", True),
    (Faults(replaced={4: write_sound(np.zeros(1024, np.int16), sequence=2)}), "2 follows 3", True),
    (Faults(num_messages=200), "sent more than 8 MiB that are not samples", False),
    (Faults(closes_at=0), "closed the connection", True),
    (Faults(closes_at=12), "closed the connection after 0.4 s of 0.5 s", True),
    (Faults(breaks_at=12), "closed the connection after 0.4 s of 0.5 s", True),
]


@pytest.mark.parametrize(("faults", "reason", "is_transient"), WRONG, ids=[reason[:40] for _, reason, _ in WRONG])
def test_a_receiver_that_refuses_or_misbehaves_is_an_error_that_says_how(faults, reason, is_transient):
    error = failure(SimulatedKiwiSdr(synthetic(), speed=FAST, faults=faults))
    assert reason in error.reason
    assert error.is_transient == is_transient


SLOW = [
    (Faults(says_nothing=True), {"connect_s": 0.3}, "cannot be reached: no answer within 0.3 s"),
    (Faults(silent_from=0), {"handshake_s": 0.3}, "sent no samples within 0.3 s"),
    (Faults(silent_from=12), {"silence_s": 0.3}, "sent nothing for 0.3 s, after 0.4 s of 0.5 s"),
    (Faults(delay_s=0.08), {"lag_s": 0.3}, "sends too slowly: more than 0.3 s behind, after 0."),
]


@pytest.mark.parametrize(("faults", "limits", "reason"), SLOW, ids=[reason[:40] for _, _, reason in SLOW])
def test_a_receiver_that_sends_nothing_or_too_slowly_is_given_up(faults, limits, reason):
    error = failure(SimulatedKiwiSdr(synthetic(), speed=FAST, faults=faults), limits=impatient(**limits))
    assert reason in error.reason
    assert error.is_transient


def test_a_receiver_that_goes_on_sending_when_the_connection_is_closed_is_left():
    has_left = asyncio.Event()

    async def sound(request):
        websocket = web.WebSocketResponse(autoclose=False)
        await websocket.prepare(request)
        await websocket.send_bytes(write_message({"badp": "0", "audio_rate": "12000", "sample_rate": "12000"}))
        sequences = itertools.count()
        while not has_left.is_set():
            sequence = next(sequences)
            await websocket.send_bytes(write_sound(np.zeros(2 * BLOCK_SAMPLES, np.int16), sequence=sequence))
            await asyncio.sleep(0.01)
        return websocket

    async def run():
        application = web.Application()
        application.router.add_get("/{path:.*}", sound)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with asyncio.timeout(60):  # else it would never end
                recorded = await recorded_from(f"http://127.0.0.1:{runner.addresses[0][1]}", "kiwisdr")
            has_left.set()
            return recorded
        finally:
            await runner.cleanup()

    assert in_steady_time(run()).iq.size >= 6_000


def test_an_error_of_the_recording_side_passes_unchanged():
    class StoreError(ConnectionError):
        pass

    async def run():
        async with serving(SimulatedKiwiSdr(synthetic(), speed=FAST)) as url:
            stream = receiver_of("kiwisdr", LIMITS).stream(ReceiverAddress("torino", url, "kiwisdr"), TUNING)
            async with stream as opened:
                async for _ in opened:
                    raise StoreError

    with pytest.raises(StoreError):
        in_steady_time(run())


def test_a_frequency_out_of_range_is_refused():
    error = failure(SimulatedKiwiSdr(synthetic()), tuning=Tuning(145e6, 8_000.0, 1.0))
    assert error.reason == "receives 0 to 30 MHz, not 145 MHz"
    assert not error.is_transient


def test_a_receiver_behind_a_converter_is_tuned_by_the_frequency_that_is_received():
    receiver = SimulatedKiwiSdr(synthetic(), speed=FAST, converter_hz=2e6)
    assert np.std(record(receiver).iq) > 0.01  # the signal, beside noise of 0.003
    assert any(" freq=5050.000000" in command for command in receiver.commands)


def test_all_channels_taken_is_told_apart_from_a_free_one():
    receiver = SimulatedKiwiSdr(synthetic(), max_users=1)

    async def run():
        async with serving(receiver) as url:
            client, address = receiver_of("kiwisdr", LIMITS), ReceiverAddress("torino", url, "kiwisdr")
            async with client.stream(address, TUNING):
                with pytest.raises(ReceiverError, match="torino: is busy: all 1 channels are taken"):
                    async with client.stream(address, TUNING):
                        pass
                return await client.status(address)

    status = in_steady_time(run())
    assert status.is_up
    assert (status.num_users, status.max_users) == (1, 1)
    assert status.reason == "is busy: all 1 channels are taken"


def test_the_status_tells_fix_age_users_and_software():
    status = status_of(SimulatedKiwiSdr(synthetic(), speed=FAST))
    assert status.is_up
    assert (status.num_users, status.max_users) == (0, 4)
    assert status.gnss_fix_age_s == 1.0  # half a second old, rounded up
    assert status.software == "KiwiSDR_v1.813_simulated"
    assert status.latency_s > 0
    assert status.reason is None


@pytest.mark.parametrize(
    ("options", "limits", "reason"),
    [
        ({"faults": Faults(answers_page=True)}, {}, "has no status page of a KiwiSDR"),
        ({"faults": Faults(status=500)}, {}, "HTTP status 500"),
        ({"faults": Faults(redirect_to="http://127.0.0.1:1/")}, {}, "cannot be reached: connection refused"),
        ({"faults": Faults(says_nothing=True)}, {"silence_s": 0.3}, "sent no status page within 0.3 s"),
        ({"faults": Faults(silent_from=0)}, {"handshake_s": 0.3}, "sent no samples within 0.3 s"),
    ],
)
def test_a_receiver_that_could_not_be_recorded_is_down_and_says_why(options, limits, reason):
    status = status_of(SimulatedKiwiSdr(synthetic(), **options), limits=impatient(**limits))
    assert not status.is_up
    assert reason in status.reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"password": "x"}, "requires a password: give it in its URL, http://:password@host"),
        ({"max_programs": 0}, "admits no programs: ask its owner (setting: number of channels for non-Kiwi apps)"),
        ({"max_users": 1, "num_open": 1, "num_users": 1}, "is busy: all 1 channels are taken"),
    ],
)
def test_no_stream_is_requested_where_the_status_page_admits_none(options, reason):
    num_users = options.get("num_users", 0)
    options = {name: value for name, value in options.items() if name != "num_users"}
    receiver = SimulatedKiwiSdr(synthetic(), **options)
    receiver.num_users = num_users
    assert failure(receiver).reason == reason
    assert receiver.connection_ids == []
    status = status_of(receiver)
    assert status.is_up
    assert status.reason == reason
    assert receiver.connection_ids == []


def test_a_masked_frequency_is_no_signal():
    def masked(numbers):
        samples = np.ones(2 * BLOCK_SAMPLES, np.int16)
        return Faults(replaced={number: write_sound(samples, sequence=number) for number in numbers})

    error = failure(SimulatedKiwiSdr(synthetic(), speed=FAST, faults=masked(range(2, 14))))
    assert error.reason.startswith("masks this frequency: its owner lets it send constant samples only")
    assert not error.is_transient
    assert record(SimulatedKiwiSdr(synthetic(), speed=FAST, faults=masked(range(4, 9)))).blocks  # a moment of silence


@pytest.mark.parametrize("refusal", [{"too_busy": "4"}, {"badp": "5"}, {"down": None}, {"exclusive_use": None}])
def test_a_receiver_that_refused_is_left_alone_for_a_minute(refusal):
    error = failure(SimulatedKiwiSdr(synthetic(), faults=Faults(refusal=refusal)))
    assert (error.is_transient, error.retry_after_s) == (True, 60.0)
    assert failure(SimulatedKiwiSdr(synthetic(), speed=FAST, faults=Faults(closes_at=0))).retry_after_s == 0.0


def test_the_time_limit_password_lifts_the_limit_of_time():
    limited = Faults(refusal={"ip_limit": "30,192.0.2.1"})
    receiver = SimulatedKiwiSdr(synthetic(), speed=FAST, faults=limited, time_limit_password="more time")
    assert isinstance(failure(receiver), StreamLimitError)
    assert record(receiver, user_info="more%20time:@").blocks
    assert "SET auth t=kiwi p=# ipl=more%20time" in receiver.commands


def test_streams_that_begin_at_the_same_time_are_told_apart():
    receiver = SimulatedKiwiSdr(synthetic(), speed=FAST, max_users=8)

    async def run():
        async with serving(receiver) as url:
            return await asyncio.gather(*(recorded_from(url, "kiwisdr") for _ in range(8)))

    assert all(recorded.blocks for recorded in in_steady_time(run()))
    assert len(set(receiver.connection_ids)) == 8
    assert all(int(number) > 2**32 for number in receiver.connection_ids)  # beyond what counts seconds since 1970


def test_frequency_and_gain_are_those_that_the_receiver_applies():
    receiver = SimulatedKiwiSdr(synthetic(), speed=FAST, converter_hz=2e6)
    applied = record(receiver, tuning=Tuning(7_050_000.123_456, 8_000.0, 0.1, 42.4)).applied
    assert applied.frequency_hz == pytest.approx(7_050_000.123, abs=1e-6)
    assert applied.manual_gain_db == 42
    assert applied.passband_hz == (-5_000.0, 5_000.0)
    assert any(command.endswith("freq=5050.000123") for command in receiver.commands)
    assert any(command.endswith("manGain=42") for command in receiver.commands)


def test_the_mode_of_20_khz_is_recorded_over_its_whole_passband():
    receiver = SimulatedKiwiSdr(synthetic(nominal_rate_hz=WIDE_RATE_HZ), speed=FAST)
    recorded = record(receiver)
    assert recorded.nominal_rate_hz == WIDE_RATE_HZ
    assert recorded.applied.passband_hz == (-8_438.0, 8_438.0)
    assert "SET AR OK in=20250 out=44100" in receiver.commands
    assert "SET mod=iq low_cut=-8438 high_cut=8438 freq=7050.000000" in receiver.commands


def test_frames_without_stamps_are_recorded_without_a_clock():
    recorded = record(SimulatedKiwiSdr(synthetic(), speed=FAST, clock=SimulatedClock.UNSTAMPED))
    stamped = record(SimulatedKiwiSdr(synthetic(), speed=FAST))
    assert all(block.stamp is None for block in recorded.blocks)
    np.testing.assert_array_equal(recorded.iq, stamped.iq)
    assert recorded.blocks[0].level_db == stamped.blocks[0].level_db


@pytest.mark.parametrize(
    ("clock", "reason"),
    [
        (SimulatedClock.UNSTAMPED, "it sends no time stamps"),
        (SimulatedClock.FROZEN, "its owner has switched its time stamps off"),
        (SimulatedClock.NO_FIX, None),
    ],
)
def test_the_status_gives_no_fix_age_without_a_clock(clock, reason):
    status = status_of(SimulatedKiwiSdr(synthetic(), speed=FAST, clock=clock))
    assert (status.is_up, status.gnss_fix_age_s, status.reason) == (True, None, reason)


def test_stamps_that_never_change_give_no_fix_age_where_the_page_does_not_say_so():
    class Silent(SimulatedKiwiSdr):
        def status_lines(self):
            lines = super().status_lines()
            del lines["tdoa_ch"]
            return lines

    status = status_of(Silent(synthetic(), speed=FAST, clock=SimulatedClock.FROZEN))
    assert status.gnss_fix_age_s is None
    assert status.reason == "its time stamps never change: its owner has switched them off"
