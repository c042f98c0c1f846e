"""Recordings over the real protocols: without stamps, of two kinds at once, over TLS, and what receivers do wrong."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import time

import numpy as np
import pytest
from sqlalchemy import text

from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.receivers.signal_sources import ReplayClock, SyntheticSource, WavSource
from heimdall_pipelines.receivers.simulated_receivers import (
    Faults,
    SimulatedClock,
    SimulatedKiwiSdr,
    SimulatedOpenWebRx,
)
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.importing import ImportFile
from heimdall_pipelines.sessions.record_request import RecordRequest
from heimdall_pipelines.sessions.recording import RecordingEnvironment, record_session
from heimdall_pipelines.store.iq_objects import sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.session_objects import session_entries
from heimdall_pipelines.store.sessions import list_sessions
from heimdall_pipelines_tests.formats.support import START_NS, kiwi_file
from heimdall_pipelines_tests.receivers.support import FAST, GENOVA, TORINO, TRANSMISSION, patient, synthetic
from heimdall_pipelines_tests.receivers.support import FREQUENCY_HZ as TRANSMITTED_HZ
from heimdall_pipelines_tests.receivers.support import START_NS as TRANSMITTED_NS
from heimdall_pipelines_tests.sessions.live import FREQUENCY_HZ, add_receivers, let_pass, no_pause
from heimdall_pipelines_tests.sessions.support import import_files, quiet

RATE_HZ = 12_001.0  # of the simulated
DURATION_S = 1.5
NUM_SAMPLES = round(DURATION_S * RATE_HZ)
BYTES_PER_SAMPLE = 8  # complex64
DEADLINE_S = 600.0

# What `heimdall session record` does, by clients that wait for a machine that stands still.
RECORDING = """
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.sessions.test_recording_simulated import recorded

with open_stores(load_settings()) as stores:
    recorded(stores)
"""


def recorded(stores, *, wall_clock_ns=time.time_ns, progress=quiet, **values):
    request = RecordRequest(**({"frequency_hz": FREQUENCY_HZ, "duration_s": DURATION_S} | values))
    return record_session(stores, request, progress, RecordingEnvironment(patient, no_pause, wall_clock_ns))


def then():
    """The time at which the replayed file was recorded."""
    return START_NS


def steady_ns():
    """A clock that is never adjusted."""
    return START_NS + time.monotonic_ns()


def stored(stores, location):
    return stores.objects.read(location, 0, stores.objects.size_bytes(location))


def recorded_keys(stores, session_id):
    return sorted(entry.key.rpartition("/")[2] for _, entry in session_entries(stores.objects, session_id))


def features(stores, session_id):
    extract_session(stores, session_id)
    with stores.database.transaction() as connection:
        statement = text(
            "SELECT segment_idx, receiver_features FROM heimdall.measurement_features WHERE recording_session_id = :id"
        )
        return {row.segment_idx: row.receiver_features for row in connection.execute(statement, {"id": session_id})}


def without_note(rows):
    """Features without the note on the time of arrival, which is the recording's."""
    return {
        segment_idx: [
            row | {"flags": [flag for flag in row["flags"] if not flag.startswith("time of arrival")]}
            for row in receivers
        ]
        for segment_idx, receivers in rows.items()
    }


def test_a_stream_without_stamps_is_stored_unchanged_with_features_of_an_import(stores, tmp_path):
    file = kiwi_file(tmp_path, seconds=2.0)
    receiver = SimulatedKiwiSdr(WavSource(file), password="sesame", speed=FAST, clock=SimulatedClock.UNSTAMPED)
    with run_simulated(receiver) as (url,):
        add_receivers(stores, "web", url=url.replace("//", "//:sesame@"))
        before_ns = steady_ns()
        report = recorded(stores, wall_clock_ns=steady_ns, manual_gain_db=50.0)
        after_ns = steady_ns()
    assert report.error_message is None
    (found,) = list_recordings(stores.database, report.session_id)
    iq = stored(stores, found.location)
    played = np.concatenate(list(open_recording(file).blocks()))
    np.testing.assert_array_equal(np.frombuffer(iq, "<c8"), played[:NUM_SAMPLES])
    assert (found.samples_count, found.sample_rate_hz, found.time_source) == (NUM_SAMPLES, RATE_HZ, "arrival")
    # Samples came faster than real time: the last of them cannot have been taken later than it came, in a block of
    # 43 ms of which it may be the first.
    assert before_ns - 50 * 10**6 < found.start_time_unix_ns + round(DURATION_S * 1e9) < after_ns + 10**9
    assert found.time_uncertainty_ns > 0
    sidecar = stored(stores, sidecar_location(found.location))
    meta = json.loads(sidecar)["global"]
    assert meta["core:recorder"] == "heimdall-pipelines, recorded from kiwisdr"
    assert meta["heimdall:time_source"] == "arrival"
    assert meta["heimdall:automatic_gain_control"] is False

    of_recording = features(stores, report.session_id)
    delete_session(stores, report.session_id, lambda _key: None, quiet)  # an import would know that it has it already
    (tmp_path / "web.sigmf-data").write_bytes(iq)
    (tmp_path / "web.sigmf-meta").write_bytes(sidecar)
    imported = import_files(stores, [ImportFile(tmp_path / "web.sigmf-meta", rx_id="web")])
    assert without_note(features(stores, imported.session_id)) == without_note(of_recording) != {}


def test_openwebrx_and_kiwisdrs_are_recorded_in_one_session_and_extracted_together(stores):
    def heard_ns():
        """Everything comes when the last of it was sent, however long that takes here."""
        return TRANSMITTED_NS + round(DURATION_S * 1e9)

    simulated = [
        SimulatedKiwiSdr(synthetic("kiwi", TORINO), speed=FAST),
        SimulatedOpenWebRx(synthetic("web", GENOVA), speed=FAST),
    ]
    with run_simulated(*simulated) as (kiwi_url, web_url):
        add_receivers(stores, "kiwi", url=kiwi_url)
        add_receivers(stores, "web", url=web_url, api_type="openwebrx")
        report = recorded(stores, frequency_hz=TRANSMITTED_HZ, wall_clock_ns=heard_ns)
    assert report.error_message is None
    kiwi, web = list_recordings(stores.database, report.session_id)
    assert (kiwi.time_source, web.time_source) == ("gnss", "arrival")
    assert abs(kiwi.start_time_unix_ns - TRANSMITTED_NS) < 1_000
    # The last block, of 14 ms, goes on after the last sample that is kept.
    assert abs(web.start_time_unix_ns - TRANSMITTED_NS) < 20_000_000
    assert (kiwi.sample_rate_hz, web.sample_rate_hz) == (pytest.approx(12_001.0, abs=0.2), 18_000.0)
    extracted = extract_session(stores, report.session_id)
    assert extracted.failed_stations == []
    for found in (kiwi, web):  # the transmission, which is 20 dB above the noise of the sampled band
        assert found.snr_db > 10


def test_players_that_replay_one_session_keep_the_time_between_them(stores, tmp_path):
    late_ns = {"a": 0, "b": 300_000_000, "c": 1_700_000_000}
    clock = ReplayClock(START_NS, together_s=600.0)
    simulated = []
    for rx_id, ns in late_ns.items():
        (tmp_path / rx_id).mkdir()
        file = kiwi_file(tmp_path / rx_id, seconds=4.0, start_ns=START_NS + ns, fix_interval_s=1.0)
        simulated.append(SimulatedKiwiSdr(WavSource(file, moved_by_s=clock.moved_by_s), speed=FAST))
    with run_simulated(*simulated) as urls:
        for rx_id, url in zip(late_ns, urls, strict=True):
            add_receivers(stores, rx_id, url=url)
        before_ns = time.time_ns()
        report = recorded(stores, duration_s=3.9)
        after_ns = time.time_ns()
    starts_ns = [found.start_time_unix_ns for found in report.recordings]
    # Stamps are whole nanoseconds; the fits of three files over 4 s agree to less than a microsecond.
    assert [start_ns - starts_ns[0] for start_ns in starts_ns] == pytest.approx(list(late_ns.values()), abs=1_000)
    assert before_ns - 10**9 < starts_ns[0] < after_ns + 10**9  # now, to the second, not when it was recorded


def test_with_automatic_gain_levels_are_uncalibrated_and_with_a_fixed_one_they_are_not(stores, tmp_path):
    receiver = SimulatedKiwiSdr(WavSource(kiwi_file(tmp_path, seconds=2.0)), speed=FAST)
    with run_simulated(receiver) as (url,):
        add_receivers(stores, "kiwi", url=url, full_scale_dbm=-20.0)
        automatic = recorded(stores, wall_clock_ns=then)
        fixed = recorded(stores, wall_clock_ns=then, manual_gain_db=60.0)
    (found,) = list_recordings(stores.database, automatic.session_id)
    assert (found.is_calibrated, found.note) == (
        False,
        "uncalibrated despite full_scale_dbm: automatic gain control was on",
    )
    assert found.note in extract_session(stores, automatic.session_id).stations[0].flags
    (found,) = list_recordings(stores.database, fixed.session_id)
    assert (found.is_calibrated, found.full_scale_dbm, found.note) == (True, -20.0, None)
    meta = json.loads(stored(stores, sidecar_location(found.location)))["global"]
    assert (meta["heimdall:automatic_gain_control"], meta["heimdall:manual_gain_db"]) == (False, 60.0)
    assert sum("agc=0" in command and "manGain=60" in command for command in receiver.commands) == 1


def test_a_channel_wider_than_a_station_receives_is_reported_and_noted(stores, tmp_path):
    with run_simulated(SimulatedKiwiSdr(WavSource(kiwi_file(tmp_path, seconds=2.0)), speed=FAST)) as (url,):
        add_receivers(stores, "kiwi", url=url)
        lines = []
        report = recorded(stores, wall_clock_ns=then, bandwidth_hz=20_000.0, progress=lines.append)
    told = "measured over 9601 Hz, the receiver's whole band, instead of 20000 Hz"
    assert f"kiwi: connected, 12001 Hz; {told}" in lines
    (found,) = list_recordings(stores.database, report.session_id)
    assert found.note == told


def receiver_fault(title, faults, reason, result, **values):
    return pytest.param(faults, reason, result, values, marks=pytest.mark.fault(title))


@pytest.mark.parametrize(
    ("faults", "reason", "result", "values"),
    [
        receiver_fault(
            "a live receiver answers with an HTML page",
            Faults(answers_page=True),
            "answers the websocket with HTTP status 200, text/html",
            "it has an entry with the reason and no object; the other station is recorded",
        ),
        receiver_fault(
            "a live receiver closes the connection in the middle of a sample",
            Faults(breaks_at=9),
            "closed the connection",  # on a busy machine before anything of it was read
            "it has an entry with the reason and no object; the other station is recorded",
        ),
        receiver_fault(
            "a live receiver stops sending",
            Faults(silent_from=9),
            "sent nothing for 1 s",
            "it has an entry with the reason and no object; the other station is recorded",
            timeout_seconds=1.0,
        ),
    ],
)
def test_a_receiver_that_misbehaves_costs_the_other_nothing(stores, fault, tmp_path, faults, reason, result, values):
    signal_source = WavSource(kiwi_file(tmp_path, seconds=2.0))
    with run_simulated(
        SimulatedKiwiSdr(signal_source, speed=FAST, faults=faults), SimulatedKiwiSdr(signal_source, speed=FAST)
    ) as (
        bad_url,
        url,
    ):
        add_receivers(stores, "bad", url=bad_url, **({"retry_count": 0} | values))
        add_receivers(stores, "ok", url=url)
        report = recorded(stores)
    assert report.status == "completed"
    bad, ok = list_recordings(stores.database, report.session_id)
    assert reason in bad.error_message
    assert report.error_message == f"bad: {bad.error_message}"
    assert (ok.error_message, ok.samples_count) == (None, NUM_SAMPLES)
    assert recorded_keys(stores, report.session_id) == ["ok.sigmf-data", "ok.sigmf-meta"]
    fault.record(detected_by="the recorder", result=result)


@pytest.mark.slow
@pytest.mark.fault("a live receiver sends far slower than its stated rate")
def test_a_slow_receiver_fails_at_the_sessions_deadline(stores, fault, tmp_path):
    told = []

    def clock():
        """Asked when samples come: the deadline passes when the other station is recorded."""
        if any(line.startswith("ok: recorded") for line in told):
            let_pass(DEADLINE_S)
        return START_NS

    signal_source = WavSource(kiwi_file(tmp_path, seconds=2.0))
    slow = SimulatedKiwiSdr(signal_source, speed=FAST, faults=Faults(delay_s=1.5))
    with run_simulated(slow, SimulatedKiwiSdr(signal_source, speed=FAST)) as (slow_url, url):
        add_receivers(stores, "bad", url=slow_url, timeout_seconds=3600.0)
        add_receivers(stores, "ok", url=url)
        report = recorded(stores, wall_clock_ns=clock, progress=told.append, overtime_s=DEADLINE_S - DURATION_S)
    bad, ok = list_recordings(stores.database, report.session_id)
    assert bad.error_message.startswith("not recorded before the session's deadline, after 0.")
    assert (ok.error_message, ok.samples_count) == (None, NUM_SAMPLES)
    assert recorded_keys(stores, report.session_id) == ["ok.sigmf-data", "ok.sigmf-meta"]
    fault.record(
        detected_by="the recorder",
        result="it has an entry with the reason and no object; the other station is recorded",
    )


@pytest.mark.fault("live receivers send without end, more than requested")
def test_no_more_is_stored_than_duration_times_rate(stores, fault):
    signal_source = SyntheticSource("a", TORINO, TRANSMISSION)  # endless
    simulated = [SimulatedKiwiSdr(signal_source, speed=FAST), SimulatedOpenWebRx(signal_source, speed=FAST)]
    with run_simulated(*simulated) as urls:
        for receiver, url in zip(simulated, urls, strict=True):
            add_receivers(stores, receiver.api_type, url=url, api_type=receiver.api_type)
        report = recorded(stores, frequency_hz=TRANSMITTED_HZ)
    assert report.status == "completed"
    for found, rate_hz in zip(report.recordings, (RATE_HZ, 18_000.0), strict=True):
        wanted = round(DURATION_S * rate_hz)
        assert found.samples_count == wanted
        assert stores.objects.size_bytes(found.location) == wanted * BYTES_PER_SAMPLE
    fault.record(detected_by="the recorder", result="duration x rate samples are stored, the connections are closed")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A private CA and a server's certificate of it: the CA's file, and the server's context."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("authority")

    def run(*arguments):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    run(*new, "-subj", "/CN=Private CA", "-keyout", "ca.key", "-out", "ca.pem")
    names = ("-subj", "/CN=receiver", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
    run(*new, *names, "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return folder / "ca.pem", context


@pytest.fixture
def tls_stations(stores, authority, tmp_path):
    signal_source = WavSource(kiwi_file(tmp_path, seconds=2.0))
    audio = SimulatedOpenWebRx(synthetic(), speed=FAST, center_freq_hz=round(FREQUENCY_HZ))
    simulated = [SimulatedKiwiSdr(signal_source, speed=FAST), audio]
    with run_simulated(*simulated, tls=authority[1]) as (kiwi_url, web_url):
        add_receivers(stores, "kiwi", url=kiwi_url.replace("https", "wss"))
        add_receivers(stores, "web", url=web_url, api_type="openwebrx")
        yield simulated


@pytest.mark.fault("the certificate of live receivers (https, wss) is from an untrusted CA")
def test_a_certificate_that_is_not_trusted_fails_its_station_and_nothing_is_sent(stores, fault, tls_stations):
    report = recorded(stores)
    assert report.status == "failed"
    # Without "(4 attempts)": it is no error that another attempt repairs.
    assert report.error_message == (
        "no station could be recorded: kiwi: its certificate is not valid; web: its certificate is not valid"
    )
    assert [receiver.num_requests for receiver in tls_stations] == [0, 0]
    fault.record(detected_by="the recorder", result="no request is sent and none is retried; the session is failed")


@pytest.mark.slow
def test_a_private_ca_is_trusted_by_ssl_cert_file(stores, environment, authority, tls_stations):
    done = subprocess.run(
        [sys.executable, "-c", RECORDING],
        env=os.environ | {"SSL_CERT_FILE": str(authority[0])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (session,) = list_sessions(stores.database)
    assert [found.samples_count for found in list_recordings(stores.database, session.id)] == [
        NUM_SAMPLES,
        round(DURATION_S * 18_000),
    ]
