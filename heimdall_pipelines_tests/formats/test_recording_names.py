"""What recorders state in file names."""

from pathlib import Path

import pytest

from heimdall_pipelines.formats.recording_names import NAME_FORMS, values_in_name
from heimdall_pipelines.formats.samples import RecordingFormatError
from heimdall_pipelines.formats.utc import unix_ns_from_iso


@pytest.mark.parametrize("form", NAME_FORMS, ids=lambda form: form.recorder)
def test_the_example_of_each_form_is_read_by_it(form):
    assert values_in_name(Path(f"{form.example}.wav")).recorder == form.recorder


@pytest.mark.parametrize(
    ("name", "start", "frequency_hz", "rate_hz", "station"),
    [
        ("20171127T104156Z_77500_DF0KL_iq.wav", "2017-11-27T10:41:56Z", 77_500.0, None, "DF0KL"),
        ("20240501T120000Z_7100000_0_iq.wav", "2024-05-01T12:00:00Z", 7.1e6, None, None),
        ("HDSDR_20200101_120000Z_14200kHz_RF.wav", "2020-01-01T12:00:00Z", 14.2e6, None, None),
        ("SDRSharp_20200101_120000Z_145500000Hz_IQ.wav", "2020-01-01T12:00:00Z", 145.5e6, None, None),
        ("AIRSPY_20200101_120000Z_145500kHz_IQ.wav", "2020-01-01T12:00:00Z", 145.5e6, None, None),
        ("SDRuno_20200101_120000Z_14200kHz.wav", "2020-01-01T12:00:00Z", 14.2e6, None, None),
        ("baseband_145500000Hz_12-00-00_01-02-2020.wav", "2020-02-01T12:00:00Z", 145.5e6, None, None),
        ("gqrx_20240501_120000_145500000_48000_fc.raw", "2024-05-01T12:00:00Z", 145.5e6, 48_000.0, None),
        ("kiwi.a.org_2024-05-01T12_00_00Z_7100.10_iq.wav", "2024-05-01T12:00:00Z", 7_100_100.0, None, "kiwi.a.org"),
        ("n0call_14074000_2026-01-21T15:10:19.937Z.wav", "2026-01-21T15:10:19.937Z", 14.074e6, None, "n0call"),
        ("25-Nov-2013 183045.123 14.213MHz.wav", "2013-11-25T18:30:45.123Z", 14.213e6, None, None),
        ("g001_433.92M_250k.cu8", None, 433.92e6, 250e3, None),
        ("2024-05-01_12-00-00_2400000SPS_137100000Hz.cs16", "2024-05-01T12:00:00Z", 137.1e6, 2.4e6, None),
    ],
)
def test_names_give_start_frequency_rate_and_station(name, start, frequency_hz, rate_hz, station):
    named = values_in_name(Path(name))
    values = named.given_values
    assert values.start_time_unix_ns == (None if start is None else unix_ns_from_iso(start))
    assert (values.frequency_hz, values.sample_rate_hz, named.receiver_name) == (frequency_hz, rate_hz, station)


def test_local_time_in_a_name_is_noted():
    assert "local time" in values_in_name(Path("baseband_145500000Hz_12-00-00_01-02-2020.wav")).notes[0]
    assert "local time" in values_in_name(Path("SDRSharp_20200101_120000_145500000Hz_IQ.wav")).notes[0]
    assert values_in_name(Path("HDSDR_20200101_120000Z_14200kHz_RF.wav")).notes == ()


@pytest.mark.parametrize("name", ["a.wav", "capture.bin", "20240501.wav", "x_iq.wav"])
def test_other_names_state_nothing(name):
    assert values_in_name(Path(name)) is None


def test_a_date_that_cannot_be_is_refused():
    with pytest.raises(RecordingFormatError, match="no valid date"):
        values_in_name(Path("20241399T120000Z_7100000_A_iq.wav"))
