import numpy as np

from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.sessions.example import STATIONS, delay_s, write_example_recordings
from heimdall_pipelines.stations.network import load_network


def samples(path):
    return np.concatenate(list(open_recording(path).blocks()))


def test_the_example_is_the_same_every_time(example_recordings, tmp_path):
    again = write_example_recordings(tmp_path, load_network())
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in example_recordings]


def test_the_stations_hear_the_transmission_after_the_time_that_light_takes(example_recordings):
    stations = {station.rx_id: station for station in load_network().stations}
    heard = {}
    for path, truth in zip(example_recordings, STATIONS, strict=True):
        recording = open_recording(path)
        iq = samples(path)
        time_s = (recording.start_time_unix_ns % 10**9) / 1e9 + np.arange(iq.size) / recording.sample_rate_hz
        instantaneous = np.angle(iq[1:] * np.conj(iq[:-1]))
        # The modulating tone's phase, at the station's own corrected clock, tells the delay modulo its period.
        tone = np.sum(instantaneous * np.exp(-2j * np.pi * 700.0 * (time_s[1:] + time_s[:-1]) / 2))
        heard[truth.rx_id] = np.angle(tone)
    first = STATIONS[0].rx_id
    for truth in STATIONS[1:]:
        measured_s = (heard[first] - heard[truth.rx_id]) / (2 * np.pi * 700.0)
        expected_s = delay_s(stations[truth.rx_id]) - delay_s(stations[first])
        period_s = 1 / 700.0
        error_s = (measured_s - expected_s + period_s / 2) % period_s - period_s / 2
        # 12 s of a 10 dB signal: the tone's phase is known to about 3 mrad, 1 us.
        assert abs(error_s) < 3e-6
