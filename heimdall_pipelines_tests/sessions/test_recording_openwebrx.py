"""Recordings from OpenWebRX: levels by its meter, nulls where audio tells nothing, and never a time difference."""

import json

import numpy as np
import pytest

from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr, SimulatedOpenWebRx
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.sessions.locating import locate_session
from heimdall_pipelines.sessions.session_position import LocateOptions, NotLocatableError
from heimdall_pipelines.store.iq_objects import sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines_tests.receivers.support import FAST, FREQUENCY_HZ, GENOVA, TORINO, synthetic
from heimdall_pipelines_tests.sessions.live import add_receivers
from heimdall_pipelines_tests.sessions.test_recording_kiwisdr import recorded
from heimdall_pipelines_tests.sessions.test_recording_simulated import features, stored

UNKNOWN = (
    "envelope_mean",
    "envelope_std",
    "envelope_max",
    "peak_to_avg_ratio_db",
    "multipath_delay_spread_us",
    "coherence_bandwidth_khz",
    "delay_spread_confidence",
)


@pytest.mark.parametrize("codec", ["adpcm", "none"])
def test_levels_are_those_of_the_meter_and_what_audio_does_not_tell_is_null(stores, codec):
    rows = {}
    for name, snr_db in (("weak", 10.0), ("strong", 30.0)):
        simulated = SimulatedOpenWebRx(synthetic(name, snr_db=snr_db), audio_compression=codec, speed=FAST)
        with run_simulated(simulated) as (url,):
            add_receivers(stores, name, url=url, api_type="openwebrx")
            report = recorded(stores, name)
        assert report.error_message is None
        (found,) = list_recordings(stores.database, report.session_id)
        (rows[name],) = features(stores, report.session_id)[0]
    assert (found.time_source, found.sample_rate_hz, found.passband_hz) == ("arrival", 18_000.0, 12_500.0)
    assert not found.is_calibrated
    assert "OpenWebRX sends no time stamps" in found.note
    meta = json.loads(stored(stores, sidecar_location(found.location)))["global"]
    assert meta["core:recorder"] == "heimdall-pipelines, recorded from openwebrx"
    assert (meta["heimdall:has_phase"], meta["heimdall:automatic_gain_control"]) == (False, True)
    for row in rows.values():
        assert row["signal_present"]
        assert all(row[name] == {"mean": None, "std": None, "min": None, "max": None} for name in UNKNOWN)
        assert any(flag.startswith("audio of one sideband after automatic gain control") for flag in row["flags"])
        assert "uncalibrated: levels relative to full scale" in row["flags"]
        assert abs(row["frequency_offset_hz"]["mean"]) < 60.0
    assert rows["strong"]["rssi_dbm"]["mean"] - rows["weak"]["rssi_dbm"]["mean"] == pytest.approx(20.0, abs=1.0)
    # 30 dB over noise of 0.003 squared: -50.5 + 30 dB relative to full scale.
    assert rows["strong"]["rssi_dbm"]["mean"] == pytest.approx(-20.5, abs=1.0)


def test_it_is_never_used_for_time_differences_even_if_trusted(stores):
    simulated = [
        SimulatedKiwiSdr(synthetic("a", TORINO), speed=FAST),
        SimulatedKiwiSdr(synthetic("b", GENOVA), speed=FAST),
        SimulatedOpenWebRx(synthetic("web", GENOVA), speed=FAST),
    ]
    with run_simulated(*simulated) as urls:
        for receiver, rx_id, url in zip(simulated, ("a", "b", "web"), urls, strict=True):
            add_receivers(stores, rx_id, url=url, api_type=receiver.api_type)
        report = recorded(stores)
    assert report.error_message is None
    with pytest.raises(NotLocatableError, match="web: OpenWebRX sends audio without time stamps"):
        locate_session(stores, report.session_id, LocateOptions(trusted=("web",)))


@pytest.mark.fault("another listener changes the profile of an OpenWebRX server that is recorded")
def test_what_came_until_the_profile_changed_is_kept(stores, fault):
    simulated = SimulatedOpenWebRx(synthetic("web"), speed=FAST, changes_profile_at=120)
    with run_simulated(simulated) as (url,):
        add_receivers(stores, "web", url=url, api_type="openwebrx")
        report = recorded(stores)
    (found,) = list_recordings(stores.database, report.session_id)
    assert report.status == "completed"
    assert 18_000 <= found.samples_count < 2 * 18_000
    assert "another listener or its owner chose another profile" in found.note
    fault.record(detected_by="the recorder", result="what came until then is kept as a shorter recording, with a note")


def test_the_stored_object_opens_as_a_recording(stores, tmp_path):
    with run_simulated(SimulatedOpenWebRx(synthetic("web"), speed=FAST)) as (url,):
        add_receivers(stores, "web", url=url, api_type="openwebrx")
        report = recorded(stores)
    (found,) = list_recordings(stores.database, report.session_id)
    (tmp_path / "web.sigmf-data").write_bytes(stored(stores, found.location))
    (tmp_path / "web.sigmf-meta").write_bytes(stored(stores, sidecar_location(found.location)))
    file = open_recording(tmp_path / "web.sigmf-meta")
    assert file.frequency_hz == FREQUENCY_HZ
    assert np.concatenate(list(file.blocks())).size == found.samples_count == 36_000
