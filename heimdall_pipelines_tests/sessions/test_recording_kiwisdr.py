"""Recordings from KiwiSDRs as they are: clocks that are none, owners' limits, levels by the S-meter."""

import hashlib
import json

import numpy as np
import pytest

from heimdall_pipelines.formats.kiwi_chunks import BLOCK_SAMPLES
from heimdall_pipelines.model.clock import ClockClass
from heimdall_pipelines.receivers.signal_sources import SentBlock, SyntheticSource
from heimdall_pipelines.receivers.simulated_kiwi import JUMP_S
from heimdall_pipelines.receivers.simulated_receivers import Faults, SimulatedClock, SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.receivers.stream import Tuning
from heimdall_pipelines.sessions.locating import locate_session
from heimdall_pipelines.sessions.record_request import RecordRequest
from heimdall_pipelines.sessions.recording import RecordingEnvironment, record_session
from heimdall_pipelines.sessions.session_position import LocateOptions, NotLocatableError
from heimdall_pipelines.store.iq_objects import sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines_tests.receivers.support import FAST, TORINO, TRANSMISSION, patient, synthetic
from heimdall_pipelines_tests.receivers.support import FREQUENCY_HZ as TRANSMITTED_HZ
from heimdall_pipelines_tests.receivers.support import START_NS as TRANSMITTED_NS
from heimdall_pipelines_tests.receivers.support import record as record_from
from heimdall_pipelines_tests.sessions.live import add_receivers, no_pause
from heimdall_pipelines_tests.sessions.support import quiet
from heimdall_pipelines_tests.sessions.test_recording_simulated import features, stored

DURATION_S = 2.0


def recorded(stores, *rx_ids, sleep=no_pause, **values):
    given = {"frequency_hz": TRANSMITTED_HZ, "duration_s": DURATION_S, "rx_ids": rx_ids or None} | values
    environment = RecordingEnvironment(patient, sleep, lambda: TRANSMITTED_NS + 10**9)
    return record_session(stores, RecordRequest(**given), quiet, environment)


def kiwi_recorded(stores, simulated):
    """A session recorded from one KiwiSDR, its measurement, and its SigMF description."""
    with run_simulated(simulated) as (url,):
        add_receivers(stores, "kiwi", url=url)
        report = recorded(stores)
    (found,) = list_recordings(stores.database, report.session_id)
    return report, found, json.loads(stored(stores, sidecar_location(found.location)))


def clock_fault(title, clock, problem):
    return pytest.param(clock, problem, marks=pytest.mark.fault(title))


@pytest.mark.parametrize(
    ("clock", "problem"),
    [
        clock_fault(
            "a program that imitates a KiwiSDR sends frames without time stamps",
            SimulatedClock.UNSTAMPED,
            "it sends no time stamps",
        ),
        clock_fault(
            "a KiwiSDR's time stamps are switched off and never change",
            SimulatedClock.FROZEN,
            "its owner has switched its time stamps off",
        ),
        clock_fault(
            "a KiwiSDR's GNSS has had no fix (age 255)",
            SimulatedClock.NO_FIX,
            "its GNSS has had no fix since it started",
        ),
        clock_fault(
            "a KiwiSDR's GNSS seconds jump in a recording",
            SimulatedClock.JUMPS,
            f"its GNSS seconds jump by +{JUMP_S} s in the recording",
        ),
    ],
)
def test_a_kiwisdr_without_a_clock_gets_the_time_of_arrival_and_the_reason(stores, fault, clock, problem):
    report, found, _ = kiwi_recorded(stores, SimulatedKiwiSdr(synthetic("kiwi", TORINO), speed=FAST, clock=clock))
    assert report.error_message is None
    assert found.time_source == "arrival"
    assert found.note == f"time of arrival instead of GNSS: {problem}"
    assert found.clock.kind is ClockClass.ARRIVAL
    assert not found.clock.carries_time_differences
    with pytest.raises(NotLocatableError) as error:
        locate_session(stores, report.slug, LocateOptions(), quiet)
    assert f"kiwi: its time is that of arrival here (time of arrival instead of GNSS: {problem})" in str(error.value)
    fault.record(detected_by="the recorder", result="the time is that of arrival, and the measurement's note says why")


@pytest.mark.fault("a KiwiSDR ends a stream at its owner's limit of time")
def test_what_came_until_the_owners_limit_is_kept_as_a_shorter_recording(stores, fault):
    faults = Faults(replaced={40: b"MSG inactivity_timeout=30"})
    simulated = SimulatedKiwiSdr(synthetic("kiwi", TORINO), speed=FAST, faults=faults)
    report, found, sidecar = kiwi_recorded(stores, simulated)
    num_samples = 38 * BLOCK_SAMPLES  # the first two blocks are stale
    assert report.status == "completed"
    assert found.samples_count == sidecar["global"]["heimdall:num_samples"] == num_samples
    body = stored(stores, found.location)
    assert np.frombuffer(body, "<c8").size == num_samples
    assert hashlib.sha256(body).hexdigest() == found.sha256
    assert "ended by the receiver, after 1.6 of 2 s: ends streams that are not tuned for 30 minutes" in found.note
    whole = record_from(
        SimulatedKiwiSdr(synthetic("kiwi", TORINO), speed=FAST), tuning=Tuning(TRANSMITTED_HZ, 12_500.0, 2.0)
    )
    np.testing.assert_array_equal(np.frombuffer(body, "<c8"), whole.iq[:num_samples])
    fault.record(detected_by="the recorder", result="what came until then is kept as a shorter recording, with a note")


def test_under_automatic_gain_the_levels_are_those_of_the_s_meter(stores):
    class Levelling(SyntheticSource):
        """A receiver whose gain control makes any signal 0.1 of full scale, and whose S-meter tells its level."""

        def blocks(self, frequency_hz, requested_hz=None):
            for block in super().blocks(frequency_hz, requested_hz):
                rms = max(np.sqrt(np.mean(np.square(block.stored, dtype=float))), 1e-9)
                levelled = np.clip(np.rint(block.stored * (3_000 / rms)), -32_768, 32_767).astype(np.int16)
                yield Levelled(levelled, block.stamp, block.is_stale, block.level_dbfs - 20.0)

    class Levelled(SentBlock):
        def __init__(self, stored_, stamp, is_stale, meter):
            super().__init__(stored_, stamp, is_stale)
            object.__setattr__(self, "meter", meter)

        @property
        def level_dbfs(self):
            return self.meter

    levels = {}
    for name, source in (("plain", SyntheticSource), ("levelled", Levelling)):
        simulated = SimulatedKiwiSdr(source(name, TORINO, TRANSMISSION, clock=lambda: TRANSMITTED_NS), speed=FAST)
        with run_simulated(simulated) as (url,):
            add_receivers(stores, name, url=url)
            report = recorded(stores, name)
        (row,) = features(stores, report.session_id)[0]
        levels[name] = row
        (found,) = list_recordings(stores.database, report.session_id)
        readings = json.loads(stored(stores, sidecar_location(found.location)))["global"]["heimdall:level_readings"]
        assert (readings["kind"], len(readings["means_db"])) == ("dbm", 2)
        assert not found.is_calibrated
        assert "levels by the receiver's own S-meter: its gain was automatic" in row["flags"]
    # The meter of the second reads 20 dB less; a block's gain differs little from the second's mean.
    for feature in ("rssi_dbm", "noise_floor_dbm"):
        difference_db = levels["levelled"][feature]["mean"] - levels["plain"][feature]["mean"]
        assert difference_db == pytest.approx(-20.0, abs=0.5), feature


def test_the_description_says_the_frequency_and_gain_that_were_applied(stores):
    simulated = SimulatedKiwiSdr(synthetic("kiwi", TORINO), speed=FAST)
    with run_simulated(simulated) as (url,):
        add_receivers(stores, "kiwi", url=url)
        report = recorded(stores, frequency_hz=TRANSMITTED_HZ + 0.123456, manual_gain_db=42.4)
    (found,) = list_recordings(stores.database, report.session_id)
    sidecar = json.loads(stored(stores, sidecar_location(found.location)))
    assert sidecar["captures"][0]["core:frequency"] == pytest.approx(TRANSMITTED_HZ + 0.123, abs=1e-6)
    assert sidecar["global"]["heimdall:manual_gain_db"] == 42


def test_a_refusal_is_followed_by_no_attempt_for_a_minute(stores):
    delays_s = []

    async def sleep(delay_s):
        delays_s.append(delay_s)

    simulated = SimulatedKiwiSdr(synthetic("kiwi", TORINO), speed=FAST, faults=Faults(refusal={"too_busy": "4"}))
    with run_simulated(simulated) as (url,):
        add_receivers(stores, "kiwi", url=url, retry_count=1)
        report = recorded(stores, sleep=sleep, duration_s=1800.0, overtime_s=1000.0)
    assert report.status == "failed"
    assert delays_s == [60.0]
    assert len(simulated.connection_ids) == 2
