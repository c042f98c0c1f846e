"""Recordings from live receivers: what is kept, what a failure costs, and that no session is left in progress."""

import asyncio
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest
from sqlalchemy import text

from heimdall_pipelines.formats.gnss_clock import GPS_EPOCH_UNIX_S, WEEK_S
from heimdall_pipelines.receivers.signal_sources import WavSource
from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.receivers.stream import GnssStamp, IqBlock, ReceiverError
from heimdall_pipelines.sessions import recording
from heimdall_pipelines.sessions.abandoned import close_abandoned_sessions
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.iq_upload import MAX_BUFFERED_BYTES
from heimdall_pipelines.sessions.live_samples import MAX_HOLE_SHARE
from heimdall_pipelines.sessions.record_request import RecordingRefusedError, RecordRequest
from heimdall_pipelines.sessions.recording import record_session
from heimdall_pipelines.store import objects
from heimdall_pipelines.store.iq_objects import session_iq_location, sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.session_completion import SessionClosedError
from heimdall_pipelines.store.session_deletion import begin_deletion, delete_session_rows
from heimdall_pipelines.store.session_objects import session_entries
from heimdall_pipelines.store.session_revisions import due_for_extraction
from heimdall_pipelines.store.sessions import get_session, list_sessions
from heimdall_pipelines.store.stations import Station, StationError, add_station, set_station_active
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.receivers.support import patient
from heimdall_pipelines_tests.sessions.live import (
    BLOCK_SAMPLES,
    FREQUENCY_HZ,
    RATE_HZ,
    RecordingEnvironment,
    ScriptedReceiver,
    add_receivers,
    blocks_of,
    let_pass,
    no_pause,
    record,
    signal,
)
from heimdall_pipelines_tests.sessions.support import import_files, quiet
from heimdall_pipelines_tests.tcp_link import TcpLink
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

SEVEN = tuple("abcdefg")
ARRIVAL_NS = 1_767_268_800 * 10**9


def execute(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values)


def stored_iq(stores, session_id, rx_id):
    location = session_iq_location(stores.objects, session_id, rx_id)
    return np.frombuffer(stores.objects.read(location, 0, stores.objects.size_bytes(location)), "<c8")


def sidecar(stores, session_id, rx_id):
    location = sidecar_location(session_iq_location(stores.objects, session_id, rx_id))
    return json.loads(stores.objects.read(location, 0, stores.objects.size_bytes(location)))


def stored_keys(stores, session_id):
    return sorted(entry.key.rpartition("/")[2] for _, entry in session_entries(stores.objects, session_id))


@contextlib.contextmanager
def through_link(settings):
    """Stores that reach S3 over a link that can be cut."""
    with (
        TcpLink(int(settings.s3_endpoint.rpartition(":")[2])) as link,
        open_stores(settings.model_copy(update={"s3_endpoint": f"127.0.0.1:{link.port}"})) as stores,
    ):
        yield link, stores


def only_session(stores):
    (overview,) = list_sessions(stores.database)
    return get_session(stores.database, overview.id)


async def streaming(rx_id, attempt):
    async for block in blocks_of(signal(2.0, key=ord(rx_id[0]))):
        yield block


async def unreachable(rx_id, attempt):
    raise ReceiverError(rx_id, "cannot be reached", is_transient=False)
    yield


class Recorded:
    """Progress of a recording that tells when a station is recorded."""

    def __init__(self, rx_id):
        self._line = f"{rx_id}: recorded"
        self._is_told = threading.Event()

    def __call__(self, line):
        if line.startswith(self._line):
            self._is_told.set()

    async def waited_for(self):
        assert await asyncio.to_thread(self._is_told.wait, TIMEOUT_S)


def test_seven_stations_are_recorded_together_and_the_session_is_due(stores):
    add_receivers(stores, *SEVEN)
    everybody = asyncio.Barrier(7)  # opens when all are connected at the same time

    async def together(rx_id, attempt):
        await everybody.wait()
        async for block in streaming(rx_id, attempt):
            yield block

    # One arrival time for all: a busy machine hears scripted stations a second apart.
    report = record(stores, ScriptedReceiver(together), wall_clock_ns=lambda: ARRIVAL_NS)
    assert (report.status, report.revision, report.error_message) == ("completed", 1, None)
    recordings = list_recordings(stores.database, report.session_id)
    assert [x.station.rx_id for x in recordings] == list(SEVEN)
    for found in recordings:
        rx_id = found.station.rx_id
        iq = stored_iq(stores, report.session_id, rx_id)
        np.testing.assert_array_equal(iq, signal(2.0, key=ord(rx_id))[: round(RATE_HZ)])
        assert found.snr_db == pytest.approx(20.0, abs=1.0)
        assert found.frequency_offset_hz == pytest.approx(100.0, abs=0.1)
        assert found.signal_strength_dbm == pytest.approx(-20.0, abs=0.2)
        assert (found.time_source, found.is_calibrated) == ("arrival", False)
        assert found.time_uncertainty_ns > 0
    assert [due.session_id for due in due_for_extraction(stores.database, limit=9)] == [report.session_id]
    assert extract_session(stores, report.session_id).failed_stations == []


@pytest.mark.fault("four of seven live stations cannot be reached")
def test_stations_that_fail_cost_the_others_nothing_and_are_noted(stores, fault):
    add_receivers(stores, *SEVEN)
    some = ScriptedReceiver(lambda rx_id, n: (streaming if rx_id in "abc" else unreachable)(rx_id, n))
    report = record(stores, some, wall_clock_ns=lambda: ARRIVAL_NS)
    assert report.status == "completed"
    assert report.error_message == "; ".join(f"{rx_id}: cannot be reached" for rx_id in "defg")
    assert get_session(stores.database, report.session_id).error_message == report.error_message
    recordings = list_recordings(stores.database, report.session_id)
    assert [x.error_message for x in recordings] == [None] * 3 + ["cannot be reached"] * 4
    assert stored_keys(stores, report.session_id) == sorted(
        f"{x}.{end}" for x in "abc" for end in ("sigmf-data", "sigmf-meta")
    )
    assert extract_session(stores, report.session_id).failed_stations == list("defg")
    fault.record(
        detected_by="the recorder",
        result="each has an entry with the reason; the session is completed with the other three",
    )


@pytest.mark.fault("no live station can be reached")
def test_where_no_station_can_be_recorded_the_session_is_failed_with_the_reasons(stores, fault):
    add_receivers(stores, "a", "b")
    report = record(stores, ScriptedReceiver(unreachable))
    assert (report.status, report.revision) == ("failed", 0)
    session = only_session(stores)
    assert session.status == "failed"
    assert session.error_message == "no station could be recorded: a: cannot be reached; b: cannot be reached"
    assert due_for_extraction(stores.database, limit=9) == []
    assert close_abandoned_sessions(stores, silent_for_s=0) == []
    fault.record(
        detected_by="the recorder",
        result="the session is failed, with a reason for each station; nothing is extracted",
    )


def test_a_recorded_session_is_pending_then_in_progress(stores):
    add_receivers(stores, "a")
    seen = []

    def see(_line=""):
        seen.append([session.status for session in list_sessions(stores.database)])

    async def watched(rx_id, attempt):
        await asyncio.to_thread(see)
        async for block in streaming(rx_id, attempt):
            yield block

    record(stores, ScriptedReceiver(watched), progress=see)
    assert seen[:3] == [[], ["pending"], ["in_progress"]]
    assert only_session(stores).status == "completed"


@pytest.mark.fault("live stations send nothing, or stop sending")
def test_a_silent_station_fails_after_its_own_timeout(stores, fault):
    add_receivers(stores, "mute", "silent", timeout_seconds=60.0, retry_count=0)
    add_receivers(stores, "ok", timeout_seconds=3600.0)
    recorded = Recorded("ok")

    async def play(rx_id, attempt):
        if rx_id == "mute":
            await asyncio.Event().wait()
        async for block in streaming(rx_id, attempt):
            yield block
            if rx_id == "silent":
                await recorded.waited_for()
                let_pass(60.0)
                await asyncio.Event().wait()

    report = record(stores, ScriptedReceiver(play), progress=recorded)
    assert {x.station.rx_id: x.error_message for x in report.recordings} == {
        "mute": "sent nothing for 60 s",
        "ok": None,
        "silent": "sent nothing for 60 s, after 0.0 of 1 s",
    }
    fault.record(
        detected_by="each station's timeout_seconds",
        result="each has an entry with the reason; the other station is recorded",
    )


@pytest.mark.fault("a live station sends too slowly")
def test_a_station_that_is_too_slow_fails_at_the_deadline_of_the_session(stores, fault):
    add_receivers(stores, "slow", "ok", timeout_seconds=3600.0)
    recorded = Recorded("ok")

    async def play(rx_id, attempt):
        async for block in streaming(rx_id, attempt):
            yield block
            if rx_id == "slow":
                await recorded.waited_for()
                let_pass(601.0)

    report = record(stores, ScriptedReceiver(play), progress=recorded, duration_s=0.5, overtime_s=600.0)
    assert [x.error_message for x in report.recordings if x.station.rx_id == "ok"] == [None]
    (reason,) = [x.error_message for x in report.recordings if x.station.rx_id == "slow"]
    assert "before the session's deadline, after 0." in reason
    fault.record(
        detected_by="the session's deadline",
        result="an entry with the amount received; the other station is recorded",
    )


@pytest.mark.fault("a live station closes the connection three times")
def test_a_broken_attempt_is_repeated_with_growing_pauses_and_its_samples_are_dropped(stores, fault):
    add_receivers(stores, "a", retry_count=3)
    delays_s = []

    async def pause(delay_s):
        delays_s.append(delay_s)

    async def play(rx_id, attempt):
        number = 0
        async for block in blocks_of(signal(2.0, key=attempt)):
            number += 1
            if attempt < 4 and number > attempt:
                raise ReceiverError(rx_id, "closed the connection", is_transient=True)
            yield block

    report = record(stores, ScriptedReceiver(play), sleep=pause)
    assert report.error_message is None
    np.testing.assert_array_equal(stored_iq(stores, report.session_id, "a"), signal(2.0, key=4)[: round(RATE_HZ)])
    assert [0.25 * 2**n <= delay_s <= 0.5 * 2**n for n, delay_s in enumerate(delays_s)] == [True] * 3
    fault.record(
        detected_by="the recorder",
        result="retried after increasing delays; only the fourth attempt is stored",
    )


def test_retries_respect_a_stations_limit_and_end_at_a_lasting_error(stores):
    add_receivers(stores, "busy", retry_count=2)
    add_receivers(stores, "closed", retry_count=2)

    async def play(rx_id, attempt):
        raise ReceiverError(rx_id, "no", is_transient=rx_id == "busy")
        yield

    receiver = ScriptedReceiver(play)
    report = record(stores, receiver)
    assert receiver.attempts == {"busy": 3, "closed": 1}
    assert report.error_message == "no station could be recorded: busy: no (3 attempts); closed: no"


def test_a_station_is_not_retried_with_too_little_in_common(stores):
    add_receivers(stores, "busy", "ok", retry_count=9)
    ok_began = asyncio.Event()

    async def play(rx_id, attempt):
        if rx_id == "busy":
            await ok_began.wait()
            raise ReceiverError(rx_id, "is busy", is_transient=True)
        async for block in streaming(rx_id, attempt):
            yield block
            ok_began.set()

    report = record(stores, ScriptedReceiver(play), duration_s=0.4)
    assert report.error_message == "busy: is busy; too little of the recording is left for another attempt"


def test_an_unexpected_error_fails_its_station_only(stores):
    add_receivers(stores, "a", "b")

    async def play(rx_id, attempt):
        if rx_id == "a":
            raise ZeroDivisionError("of a client")
        async for block in streaming(rx_id, attempt):
            yield block

    assert record(stores, ScriptedReceiver(play)).error_message == "a: ZeroDivisionError: of a client"


def test_a_recording_too_short_for_three_fixes_is_timed_by_the_stamps_between_them(stores):
    add_receivers(stores, "a")
    start_ns = 1_767_268_800_123_456_789
    gps_ns = start_ns + (18 - GPS_EPOCH_UNIX_S) * 10**9

    async def play(rx_id, attempt):
        number = 0
        async for block in streaming(rx_id, attempt):
            second, nanosecond = divmod(gps_ns + round(number * BLOCK_SAMPLES * 1e9 / RATE_HZ), 10**9)
            yield IqBlock(block.iq, GnssStamp(2, second % WEEK_S, nanosecond))
            number += 1

    report = record(stores, ScriptedReceiver(play), duration_s=1.9, wall_clock_ns=lambda: start_ns)
    (found,) = list_recordings(stores.database, report.session_id)
    assert (found.time_source, found.time_uncertainty_ns) == ("gnss", 200.0)
    assert abs(found.start_time_unix_ns - start_ns) < 1_000
    assert found.sample_rate_hz == pytest.approx(RATE_HZ, abs=1e-3)


@pytest.mark.fault("samples of a live station are lost in transit")
def test_samples_that_were_lost_are_a_marked_hole_of_zeros(stores, fault):
    add_receivers(stores, "a")

    async def play(rx_id, attempt):
        number = 0
        async for block in streaming(rx_id, attempt):
            number += 1
            yield IqBlock(block.iq, num_lost_before=512 if number == 4 else 0, adc_overflow=number in (2, 5))

    report = record(stores, ScriptedReceiver(play))
    iq, sent = stored_iq(stores, report.session_id, "a"), signal(2.0, key=ord("a"))
    begin = 3 * BLOCK_SAMPLES
    np.testing.assert_array_equal(iq[:begin], sent[:begin])
    np.testing.assert_array_equal(iq[begin : begin + 512], 0)
    np.testing.assert_array_equal(iq[begin + 512 :], sent[begin : iq.size - 512])
    (annotation,) = sidecar(stores, report.session_id, "a")["annotations"]
    assert (annotation["core:sample_start"], annotation["core:sample_count"]) == (begin, 512)
    (found,) = list_recordings(stores.database, report.session_id)
    assert found.note == (
        "512 of 12000 samples in 1 holes were lost and are zeros; the converter was overdriven in 2 of 23 blocks"
    )
    assert found.note in extract_session(stores, report.session_id).stations[0].flags
    fault.record(
        detected_by="the sequence numbers of its frames",
        result="zeros in their place; an annotation in the SigMF file, a note, a flag of the features",
    )


@pytest.mark.fault("a live station loses more than 5 % of its samples")
def test_a_station_that_loses_more_than_a_few_samples_fails(stores, fault):
    add_receivers(stores, "a", retry_count=0)

    async def play(rx_id, attempt):
        async for block in streaming(rx_id, attempt):
            yield IqBlock(block.iq, num_lost_before=round(MAX_HOLE_SHARE * RATE_HZ) + 1)

    assert "lost 601 of 12000 samples on the way" in record(stores, ScriptedReceiver(play)).error_message
    fault.record(
        detected_by="the sequence numbers of its frames", result="the station fails; the error states the share lost"
    )


@pytest.mark.parametrize(
    ("iq", "rate_hz", "reason"),
    [
        (np.full(512, np.nan, np.complex64), RATE_HZ, "samples that are not finite"),
        (np.zeros(512, np.complex128), RATE_HZ, "samples that are not finite"),
        (np.zeros(512, np.complex64), 1.0, "its sample rate 1 Hz is outside"),
        (np.zeros(512, np.complex64), float("nan"), "its sample rate nan Hz is outside"),
        (np.zeros(0, np.complex64), RATE_HZ, "the stream ended early"),
        (np.zeros(512, np.complex64), RATE_HZ, "the stream ended early, after 0.0 of 1 s"),
    ],
)
def test_what_is_no_recording_fails_with_the_reason(stores, iq, rate_hz, reason):
    add_receivers(stores, "a", retry_count=0)

    async def play(rx_id, attempt):
        yield IqBlock(iq)

    report = record(stores, ScriptedReceiver(play, rate_hz))
    assert report.status == "failed"
    assert reason in report.error_message
    assert stored_keys(stores, report.session_id) == []


def test_a_recording_of_several_parts_is_stored_as_it_was_sent(stores):
    add_receivers(stores, "a")
    rate_hz = 2_400_000.0  # 21.1 MB in 1.1 s: five parts, more than wait for the store
    sent = signal(1.1, rate_hz)
    assert sent.nbytes > MAX_BUFFERED_BYTES

    async def play(rx_id, attempt):
        for begin in range(0, sent.size, 65_536):
            yield IqBlock(sent[begin : begin + 65_536])

    report = record(stores, ScriptedReceiver(play, rate_hz), duration_s=1.1)
    (found,) = list_recordings(stores.database, report.session_id)
    location = found.location
    stored = stores.objects.read(location, 0, stores.objects.size_bytes(location))
    assert hashlib.sha256(stored).hexdigest() == found.sha256
    np.testing.assert_array_equal(np.frombuffer(stored, "<c8"), sent)


def test_without_room_for_temporary_files_a_station_fails_with_what_to_do(stores, monkeypatch, tmp_path):
    add_receivers(stores, "a")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    report = record(stores, ScriptedReceiver(streaming))
    assert report.status == "failed"
    assert f"No such file or directory in {tmp_path / 'missing'}; free 20 MiB" in report.error_message


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf"), 0.1, 3601.0])
def test_a_duration_that_cannot_be_recorded_is_refused(duration_s):
    with pytest.raises(RecordingRefusedError, match=r"duration of .* s cannot be recorded"):
        RecordRequest(FREQUENCY_HZ, duration_s)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frequency_hz": 0.0}, "not 0 Hz"),
        ({"frequency_hz": float("nan")}, "not nan Hz"),
        ({"bandwidth_hz": 1.0}, "a channel of 1 Hz"),
        ({"bandwidth_hz": float("nan")}, "a channel of nan Hz"),
        ({"name": " "}, "the name is empty"),
        ({"max_stations": 0}, "max_stations must be at least 1, not 0"),
        ({"manual_gain_db": 121.0}, "a gain of 121 dB cannot be set: from 0 to 120 dB"),
        ({"manual_gain_db": float("nan")}, "a gain of nan dB"),
    ],
)
def test_other_values_that_cannot_be_are_refused(values, words):
    with pytest.raises(RecordingRefusedError, match=words):
        RecordRequest(**({"frequency_hz": FREQUENCY_HZ, "duration_s": 1.0} | values))


@pytest.mark.parametrize(
    ("rx_ids", "words"),
    [
        (("nowhere",), "unknown station nowhere"),
        (("a", "a"), "station a is given twice"),
        (("off",), "station off is not active"),
        (("files-only",), "station files-only cannot be recorded: it has no client"),
        (("no-url",), "no station can record .*no-url: it has no url"),
        (("vhf",), r"vhf: 0.0775 MHz is outside its 144-146 MHz"),
        ((), "no station was given"),
    ],
)
def test_stations_that_cannot_be_asked_are_refused_and_no_session_is_left(stores, rx_ids, words):
    add_receivers(stores, "a", "off")
    set_station_active(stores.database, "off", False)
    add_receivers(stores, "vhf", frequency_ranges_hz=((144e6, 146e6),))
    add_station(stores.database, Station("files-only", "Files", 45.0, 8.0))
    add_station(stores.database, Station("no-url", "No URL", 45.0, 8.0, api_type="kiwisdr"))
    request = RecordRequest(FREQUENCY_HZ, 1.0, rx_ids=rx_ids)
    with pytest.raises(RecordingRefusedError, match=words):
        record_session(stores, request, quiet)
    assert list_sessions(stores.database) == []


def test_too_many_receiving_stations_are_refused(stores):
    add_receivers(stores, "a", "b")
    add_receivers(stores, "vhf", frequency_ranges_hz=((144e6, 146e6),))
    with pytest.raises(RecordingRefusedError, match=r"2 stations are more than the 1 that may .*--max-stations"):
        record(stores, ScriptedReceiver(streaming), max_stations=1)
    assert list_sessions(stores.database) == []
    assert record(stores, ScriptedReceiver(streaming), max_stations=2).status == "completed"


def test_without_any_station_that_can_be_recorded_all_active_is_refused(stores):
    add_station(stores.database, Station("files-only", "Files", 45.0, 8.0))
    with pytest.raises(RecordingRefusedError, match="there is no active station that can be recorded"):
        record_session(stores, RecordRequest(FREQUENCY_HZ, 1.0), quiet)


def test_an_unknown_source_is_refused(stores):
    add_receivers(stores, "a")
    with pytest.raises(StationError, match="unknown source DCF78"):
        record_session(stores, RecordRequest(FREQUENCY_HZ, 1.0, known_source="DCF78"), quiet)
    assert list_sessions(stores.database) == []


def test_a_station_that_does_not_receive_the_frequency_is_skipped_and_noted(stores):
    add_receivers(stores, "a")
    add_receivers(stores, "vhf", frequency_ranges_hz=((144e6, 146e6),))
    receiver = ScriptedReceiver(streaming)
    report = record(stores, receiver)
    assert set(receiver.attempts) == {"a"}
    assert report.skipped == (("vhf", "0.0775 MHz is outside its 144-146 MHz"),)
    assert report.error_message == "vhf: skipped: 0.0775 MHz is outside its 144-146 MHz"


def test_breaking_off_waits_for_stations_that_take_their_time_to_end(stores):
    add_receivers(stores, "quick", "slow")

    async def play(rx_id, attempt):
        async for block in streaming(rx_id, attempt):
            try:
                yield block
                await asyncio.Event().wait()
            finally:
                if rx_id == "slow":
                    await asyncio.sleep(0.1)

    seen = []

    def break_off(line):
        seen.append(line)
        if sum("connected" in line for line in seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(stores, ScriptedReceiver(play), progress=break_off)
    assert only_session(stores).status == "failed"


@pytest.mark.fault("Ctrl-C in the middle of a recording")
def test_a_recording_that_is_broken_off_is_closed_as_failed_and_leaves_no_object(stores, fault):
    add_receivers(stores, "a", "b")

    async def play(rx_id, attempt):
        async for block in streaming(rx_id, attempt):
            yield block
            if rx_id == "b":
                await asyncio.Event().wait()

    def break_off(line):
        if line.startswith("a: recorded"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(stores, ScriptedReceiver(play), progress=break_off)
    session = only_session(stores)
    assert (session.status, session.error_message) == ("failed", "interrupted by the user")
    assert stored_keys(stores, session.id) == []
    assert close_abandoned_sessions(stores, silent_for_s=0) == []
    fault.record(detected_by="nothing to detect", result="the session is failed, its objects are removed")


def test_a_recording_that_is_broken_off_as_it_ends_is_closed_as_failed_too(stores):
    add_receivers(stores, "a")
    loops = []

    async def play(rx_id, attempt):
        loops.append(asyncio.get_running_loop())
        async for block in streaming(rx_id, attempt):
            yield block

    def break_off(line):
        if line.startswith("a: recorded"):
            wait_for("the event loop to close", loops[0].is_closed)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(stores, ScriptedReceiver(play), progress=break_off)
    session = only_session(stores)
    assert (session.status, session.error_message) == ("failed", "interrupted by the user")
    assert stored_keys(stores, session.id) == []


@pytest.mark.fault("a session is deleted while it is recorded")
@pytest.mark.parametrize("rows_are_gone", [False, True])
def test_deleting_a_session_stops_its_recording(stores, monkeypatch, fault, rows_are_gone):
    monkeypatch.setattr(recording, "HEARTBEAT_INTERVAL_S", 0.05)
    add_receivers(stores, "a", "b")

    def delete():
        session = only_session(stores)
        deleted.append(session.id)  # before: the recording ends as soon as it knows
        begin_deletion(stores.database, session.id)
        if rows_are_gone:
            delete_session_rows(stores.database, session.id)

    deleted = []

    async def play(rx_id, attempt):
        async for block in streaming(rx_id, attempt):
            yield block
            if rx_id == "b":
                await asyncio.to_thread(delete)
                await asyncio.Event().wait()

    with pytest.raises(SessionClosedError, match="was closed or deleted while it was recorded"):
        record(stores, ScriptedReceiver(play))
    assert stored_keys(stores, deleted[0]) == []
    assert due_for_extraction(stores.database, limit=9) == []
    fault.record(detected_by="`SessionClosedError`", result="the recording ends; none of its rows and objects remain")


@pytest.mark.fault("S3 is down for a second while a recording is stored")
def test_a_store_that_is_away_when_the_samples_are_stored_is_waited_for(settings, fault):
    with through_link(settings) as (link, stores):
        add_receivers(stores, "a")
        link.cut()
        repairing = threading.Timer(1.0, link.repair)

        async def play(rx_id, attempt):
            repairing.start()
            async for block in streaming(rx_id, attempt):
                yield block

        report = record(stores, ScriptedReceiver(play))
        repairing.join()
        assert report.error_message is None
        assert stored_iq(stores, report.session_id, "a").size == round(RATE_HZ)
        fault.record(detected_by="nothing to detect", result="the recorder waits; everything is stored")


@pytest.mark.fault("S3 stays down while a recording is stored")
def test_a_lasting_s3_outage_fails_the_session_and_is_cleaned_up(settings, monkeypatch, fault):
    monkeypatch.setattr(objects, "PATIENT_ATTEMPTS", 2)
    with through_link(settings) as (link, stores):
        add_receivers(stores, "a", "b")

        async def play(rx_id, attempt):
            async for block in streaming(rx_id, attempt):
                yield block
                link.cut()

        report = record(stores, ScriptedReceiver(play))
        assert report.status == "failed"
        assert report.error_message.count("S3 store at 127.0.0.1") == 2
        assert only_session(stores).status == "failed"
        link.repair()
        # What could not be removed as yet is removed later.
        execute(stores, "UPDATE heimdall.recording_sessions SET recording_deadline_at = now() - interval '1 s'")
        assert [x.id for x in close_abandoned_sessions(stores)] == [report.session_id]
        assert stored_keys(stores, report.session_id) == []
        assert close_abandoned_sessions(stores, silent_for_s=0) == []
        fault.record(
            detected_by="the recorder",
            result="the session is failed with the reason; the watchdog removes the stored objects later",
        )


# The only thing that differs from a real recording: its receiver never stops, and says when it has begun.
ENDLESS_RECORDING = """
import asyncio, sys
from pathlib import Path
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.sessions.live import ScriptedReceiver, blocks_of, record, signal

async def play(rx_id, attempt):
    async for block in blocks_of(signal(1.0)):
        yield block
        if rx_id == "b":
            await asyncio.sleep(3600)

def progress(line):
    if line.startswith("a: recorded"):
        Path(sys.argv[1]).touch()

with open_stores(load_settings()) as stores:
    record(stores, ScriptedReceiver(play), progress=progress)
"""


@pytest.mark.slow
@pytest.mark.fault("kill -9 of a recorder")
def test_the_watchdog_closes_killed_recordings_but_no_imports(
    stores, settings, environment, tmp_path, example_recordings, fault
):
    add_receivers(stores, "a", "b", timeout_seconds=3600)
    imported = import_files(stores, example_recordings).session_id
    execute(stores, "UPDATE heimdall.recording_sessions SET status = 'in_progress' WHERE id = :id", id=imported)
    begun = tmp_path / "begun"
    process = subprocess.Popen([sys.executable, "-c", ENDLESS_RECORDING, str(begun)])
    try:
        wait_for(
            "the recording to begin, or the end of its process", lambda: begun.exists() or process.poll() is not None
        )
        assert process.poll() is None
        assert close_abandoned_sessions(stores) == []  # it lives
    finally:
        process.kill()
        process.wait()
    (killed,) = [x.id for x in list_sessions(stores.database) if x.id != imported]
    assert get_session(stores.database, killed).status == "in_progress"
    assert stored_keys(stores, killed) == ["a.sigmf-data", "a.sigmf-meta"]
    assert close_abandoned_sessions(stores) == []  # it may be alive still, its last heartbeat is young
    (closed,) = close_abandoned_sessions(stores, silent_for_s=0)
    assert closed.id == killed
    session = get_session(stores.database, killed)
    assert session.status == "failed"
    assert "no heartbeat" in session.error_message
    assert stored_keys(stores, killed) == []
    assert close_abandoned_sessions(stores, silent_for_s=0) == []
    assert get_session(stores.database, imported).status == "in_progress"
    fault.record(
        detected_by="the watchdog, when the last heartbeat is too old",
        result="the session is failed, its objects are removed; a long import is not affected",
    )


@pytest.mark.fault("a recorder resumes after its session was closed as abandoned")
def test_a_recorder_that_was_taken_for_dead_cannot_complete_its_session(stores, monkeypatch, fault):
    monkeypatch.setattr(recording, "HEARTBEAT_INTERVAL_S", 3600.0)  # it would learn of it by the next one, too
    add_receivers(stores, "a")

    def close(line):
        if line.startswith("a: recorded"):
            assert len(close_abandoned_sessions(stores, silent_for_s=0)) == 1

    with pytest.raises(SessionClosedError, match="was closed as failed"):
        record(stores, ScriptedReceiver(streaming), progress=close)
    assert only_session(stores).status == "failed"
    assert stored_keys(stores, only_session(stores).id) == []
    fault.record(
        detected_by="`SessionClosedError`",
        result="it cannot complete the session, which stays failed; its objects are removed",
    )


@pytest.mark.fault("PostgreSQL is down when a recording ends")
def test_a_database_that_is_away_when_the_recording_ends_is_waited_for(settings, monkeypatch, fault):
    monkeypatch.setattr(recording, "COMPLETION_DELAYS_S", (0.1,) * 100)
    with TcpLink(settings.pg_port) as link, open_stores(settings.model_copy(update={"pg_port": link.port})) as stores:
        add_receivers(stores, "a")
        repairing = threading.Timer(0.5, link.repair)

        def cut(line):
            if line.startswith("a: recorded"):
                link.cut()
                repairing.start()

        report = record(stores, ScriptedReceiver(streaming), progress=cut)
        repairing.join()
        assert only_session(stores).status == report.status == "completed"
        fault.record(detected_by="nothing to detect", result="the recorder waits; the session is completed")


def station_in_name(file):
    return file.stem.split("_")[-2].lower()


def recorded_and_imported(stores, files):
    """Record what simulated replay of files as fast as it goes, and import the same files; gives both reports."""
    imported = import_files(stores, files)
    by_id = {x.station.rx_id: x for x in imported.recordings}
    signal_sources = {station_in_name(file): WavSource(file) for file in files}
    first = by_id[next(iter(by_id))]
    num_samples = min(x.samples_count for x in by_id.values())
    rate_hz = next(iter(signal_sources.values())).rate_hz()
    with run_simulated(
        *(SimulatedKiwiSdr(signal_source, speed=float("inf")) for signal_source in signal_sources.values())
    ) as urls:
        for rx_id, url in zip(signal_sources, urls, strict=True):
            execute(
                stores,
                "UPDATE heimdall.websdr_stations SET url = :url, api_type = 'kiwisdr', is_active = true,"
                " frequency_ranges_hz = '[]', timeout_seconds = 300 WHERE rx_id = :rx_id",
                url=url,
                rx_id=rx_id,
            )
        frequency_hz = get_session(stores.database, imported.session_id).frequency_hz
        # With a fixed gain the levels are those of the samples, as of a file.
        request = RecordRequest(frequency_hz, num_samples / rate_hz, rx_ids=tuple(signal_sources), manual_gain_db=50.0)
        then = RecordingEnvironment(patient, wall_clock_ns=lambda: first.start_time_unix_ns, sleep=no_pause)
        return imported, record_session(stores, request, quiet, then)


def assert_same(stores, imported, recorded):
    assert recorded.error_message is None
    direct = {x.station.rx_id: x for x in imported.recordings}
    live = {x.station.rx_id: x for x in list_recordings(stores.database, recorded.session_id)}
    assert live.keys() == direct.keys()
    for rx_id, found in live.items():
        wanted = direct[rx_id]
        assert found.time_source == "gnss"
        # The recording may leave out the last samples of a longer file, and with them some fixes.
        assert abs(found.start_time_unix_ns - wanted.start_time_unix_ns) < 1_000
        assert found.sample_rate_hz == pytest.approx(wanted.sample_rate_hz, abs=1e-3)
        sent = stored_iq(stores, imported.session_id, rx_id)
        np.testing.assert_array_equal(stored_iq(stores, recorded.session_id, rx_id), sent[: found.samples_count])
        if found.samples_count == wanted.samples_count:
            assert found.sha256 == wanted.sha256
            assert found.start_time_unix_ns == wanted.start_time_unix_ns
            assert found.sample_rate_hz == wanted.sample_rate_hz


FEATURES = "SELECT segment_idx, receiver_features FROM heimdall.measurement_features WHERE recording_session_id = :id"


def test_a_recording_of_a_player_is_what_an_import_of_its_file_gives(stores, example_recordings):
    imported, recorded = recorded_and_imported(stores, example_recordings)
    assert_same(stores, imported, recorded)
    features = []
    for session_id in (imported.session_id, recorded.session_id):
        extract_session(stores, session_id)
        rows = execute(stores, FEATURES, id=session_id).all()
        features.append({row.segment_idx: row.receiver_features for row in rows})
    assert features[0] == features[1]


def test_a_recording_of_real_receivers_is_what_an_import_of_their_files_gives(stores, real_recordings):
    imported, recorded = recorded_and_imported(stores, real_recordings)
    assert_same(stores, imported, recorded)
