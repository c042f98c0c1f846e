import json
import re
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import text

from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES
from heimdall_pipelines.rf.signals import frequency_modulated_phase_rad
from heimdall_pipelines.sessions.completed import NotCompletedError
from heimdall_pipelines.sessions.example import STATIONS
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.importing import ImportFile
from heimdall_pipelines.sessions.pictures import MAX_PNG_BYTES, spectrogram_png
from heimdall_pipelines.stations.network import load_network
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.session_features import read_session_rows, stations_in_session
from heimdall_pipelines.store.sessions import SessionNotFoundError
from heimdall_pipelines_tests.sessions.support import RATE_HZ, import_files, noise, npy_files, npy_options, quiet


def query(stores, statement, **values):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement), values).fetchall()


def transmission(num_samples, power, key):
    """A 2.5 kHz deviated tone of the given power in unit noise."""
    time_s = np.arange(num_samples) / RATE_HZ
    phase_rad = frequency_modulated_phase_rad(time_s, tone_hz=1_000.0, deviation_hz=2_500.0)
    return (np.sqrt(power) * np.exp(1j * phase_rad)).astype(np.complex64) + noise(num_samples, key)


def rows_of(stores, session_id):
    with stores.database.snapshot() as connection:
        return list(read_session_rows(connection, session_id))


@pytest.fixture
def example(example_session):
    return example_session(known_source="DCF77", extracted=False)


def test_a_session_gives_one_row_per_second_with_every_station(stores, example):
    report = extract_session(stores, example.session_id, quiet)
    rows = rows_of(stores, example.session_id)
    assert [row.segment_idx for row in rows] == list(range(len(rows)))
    assert len(rows) == report.num_rows == 12
    for row in rows:
        assert [receiver.rx_id for receiver in row.receivers] == ["genova", "milano-baggio", "torino"]
        assert all(receiver.signal_present for receiver in row.receivers)
        assert all(set(receiver.features) == set(FEATURE_NAMES) for receiver in row.receivers)
        assert (row.num_receivers_detected, row.num_receivers_in_sample, row.extraction_failed) == (3, 3, False)
        assert 0 < row.overall_confidence <= 1


def test_estimates_are_the_truth_of_the_made_up_session(stores, example):
    extract_session(stores, example.session_id, quiet)
    found = {station.rx_id: station for station in stations_in_session(stores.database, example.session_id)}
    for truth in STATIONS:
        station = found[truth.rx_id]
        # 60 chunks of an AC-coupled tone; the 10 dB station's RMSE per chunk is about 0.1 Hz at 12 kHz.
        assert station.frequency_offset_hz == pytest.approx(truth.frequency_offset_hz, abs=0.05)
        # The noise of 12 kHz is known from 48 bins beside and between the signal's lines only.
        assert station.snr_db == pytest.approx(truth.snr_db, abs=0.5)


def test_features_carry_the_known_transmitter_and_the_positions_of_the_stations(stores, example):
    extract_session(stores, example.session_id, quiet)
    (row,) = query(
        stores,
        "SELECT tx_latitude, tx_longitude, tx_power_dbm, tx_known, gdop, receiver_features -> 0 AS first"
        " FROM heimdall.measurement_features WHERE segment_idx = 0",
    )
    assert (row.tx_latitude, row.tx_longitude, row.tx_power_dbm, row.tx_known) == (50.0152, 9.0112, 77.0, True)
    assert (row.first["rx_lat"], row.first["rx_lon"], row.first["rx_alt_m"]) == (44.395, 8.956, 100)
    assert row.gdop > 2  # all three stations lie to the south of the transmitter


def test_the_queries_people_use_work(stores, example):
    extract_session(stores, example.session_id, quiet)
    (row,) = query(
        stores,
        "SELECT count(*) AS n, min(jsonb_array_length(receiver_features)) AS receivers,"
        " avg((receiver_features[0]->'snr_db'->>'mean')::float8) AS snr_db FROM heimdall.measurement_features"
        " WHERE recording_session_id = :id",
        id=example.session_id,
    )
    assert row.receivers == 3
    assert row.snr_db == pytest.approx(20, abs=0.5)
    by_receiver = query(stores, "SELECT count(*) AS n FROM heimdall.receiver_features WHERE snr_db > 5")
    assert by_receiver[0].n == 3 * row.n


def test_numbers_have_six_significant_digits_and_json_has_no_nan(stores, example):
    extract_session(stores, example.session_id, quiet)
    for (features,) in query(stores, "SELECT receiver_features::text FROM heimdall.measurement_features"):

        def significant(number):
            digits = number.lstrip("-").split("e")[0].replace(".", "").strip("0")
            assert len(digits) <= 6, number
            return float(number)

        for element in json.loads(features, parse_constant=pytest.fail):
            json.loads(json.dumps(element["snr_db"]), parse_float=significant)


def test_means_are_kept_with_each_stations_measurement(stores, example):
    extract_session(stores, example.session_id, quiet)
    found = query(
        stores,
        "SELECT w.rx_id, m.snr_db, m.signal_strength_dbm, m.frequency_offset_hz FROM heimdall.measurements m"
        " JOIN heimdall.websdr_stations w ON w.id = m.websdr_station_id ORDER BY 1",
    )
    assert [round(row.frequency_offset_hz, 1) for row in found] == [-2.5, 0.8, 1.2]
    assert [round(row.signal_strength_dbm, -1) for row in found] == [-40, -50, -30]


def test_extracting_again_gives_the_same_rows(stores, example):
    everything = (
        "SELECT id, timestamp, segment_idx, receiver_features, extraction_metadata, overall_confidence, gdop"
        " FROM heimdall.measurement_features ORDER BY segment_idx"
    )
    extract_session(stores, example.session_id, quiet)
    first = query(stores, everything)
    extract_session(stores, example.session_id, quiet)
    assert query(stores, everything) == first


def test_segments_of_stations_that_start_at_different_times_are_aligned(stores, tmp_path):
    # One burst, 1.3 s after the first station's start; the second starts 0.4 s later.
    burst = np.zeros(int(4 * RATE_HZ), np.complex64)
    burst[int(1.3 * RATE_HZ) : int(1.39 * RATE_HZ)] = 10
    start_ns = 1_767_268_800_000_000_000
    files = {
        "torino": burst + noise(burst.size, 1),
        "genova": burst[int(0.4 * RATE_HZ) :] + noise(int(3.6 * RATE_HZ), 2),
    }
    paths = npy_files(tmp_path, files)
    session = import_files(
        stores,
        [
            ImportFile(_sigmf(path.path, start_ns + late_ns, path.rx_id), path.rx_id)
            for path, late_ns in zip(paths, (0, 400_000_000), strict=True)
        ],
        bandwidth_hz=12_500.0,
    )
    extract_session(stores, session.session_id, quiet)
    rows = rows_of(stores, session.session_id)
    assert (rows[1].timestamp - rows[0].timestamp).total_seconds() == 1.0
    # 0.9 s after the common start: in the last chunk of segment 0, at both stations.
    for receiver in rows[0].receivers:
        assert receiver.features["rssi_dbm"]["max"] > 15
    assert [[r.signal_present for r in row.receivers] for row in rows] == [[True, True], [False, False], [False, False]]


def _sigmf(npy, start_time_unix_ns, rx_id):
    """Describe a .npy file of a station by a sidecar that says when it starts."""
    from heimdall_pipelines.formats.sigmf_sidecar import sigmf_meta

    latitude, longitude, altitude_m = load_network().position_of(rx_id)
    meta = sigmf_meta(
        dataset_name=npy.name,
        header_bytes=128,
        num_samples=np.load(npy, mmap_mode="r").size,
        sample_rate_hz=RATE_HZ,
        frequency_hz=145e6,
        start_time_unix_ns=start_time_unix_ns,
        lat=latitude,
        lon=longitude,
        alt_m=altitude_m,
        description="test",
        recorder="test",
    )
    path = npy.with_suffix(".sigmf-meta")
    path.write_text(json.dumps(meta))
    return path


def test_noise_alone_is_no_error_but_no_signal(stores, tmp_path):
    session = import_files(stores, npy_files(tmp_path, {"torino": noise(400_000)}), **npy_options())
    extract_session(stores, session.session_id, quiet)
    for row in rows_of(stores, session.session_id):
        (receiver,) = row.receivers
        assert (receiver.signal_present, receiver.error_message, row.extraction_failed) == (False, None, False)
        assert receiver.features["frequency_offset_hz"]["mean"] is None
        assert receiver.features["noise_floor_dbm"]["mean"] == pytest.approx(0, abs=0.2)


def test_a_short_recording_uses_its_whole_chunks_and_says_so(stores, tmp_path):
    session = import_files(
        stores, npy_files(tmp_path, {"torino": transmission(130_000, 1.0, 1)}), **npy_options()
    )  # 650 ms
    report = extract_session(stores, session.session_id, quiet)
    (row,) = rows_of(stores, session.session_id)
    assert row.extraction_metadata.num_chunks == 3
    assert "3 whole chunks of 200 ms were used instead of 5" in row.extraction_metadata.notes[0]
    assert report.duration_s == pytest.approx(0.6)
    assert row.receivers[0].signal_present


def three_stations(stores, tmp_path):
    arrays = {rx_id: transmission(500_000, 1.0, key) for key, rx_id in enumerate(("torino", "genova", "coazze"))}
    return import_files(stores, npy_files(tmp_path, arrays), **npy_options(known_source="DCF77"))


def damage(stores, session_id, rx_id, content):
    (recording,) = [r for r in list_recordings(stores.database, session_id) if r.station.rx_id == rx_id]
    location = recording.location
    if content is None:
        stores.objects.remove(location.bucket, location.key)
    else:
        import io

        stores.objects.put(location, io.BytesIO(content), len(content), "application/octet-stream")
    return location


def test_a_missing_object_is_an_entry_with_its_reason(stores, tmp_path):
    session = three_stations(stores, tmp_path)
    location = damage(stores, session.session_id, "genova", None)
    report = extract_session(stores, session.session_id, quiet)
    assert report.failed_stations == ["genova"]
    for row in rows_of(stores, session.session_id):
        entries = {receiver.rx_id: receiver for receiver in row.receivers}
        assert entries["genova"].error_message == f"IQ file not found: {location}"
        assert (entries["genova"].signal_present, entries["genova"].features) == (False, {})
        assert entries["torino"].signal_present
        assert entries["coazze"].signal_present
        assert (row.num_receivers_in_sample, row.num_receivers_detected, row.extraction_failed) == (3, 2, False)
        assert row.gdop is None  # two receivers do not locate


def test_a_truncated_object_is_an_invalid_format_in_its_entry(stores, tmp_path):
    session = three_stations(stores, tmp_path)
    location = damage(stores, session.session_id, "coazze", b"\x93NUMPY")
    extract_session(stores, session.session_id, quiet)
    entry = rows_of(stores, session.session_id)[0].receivers[0]
    assert entry.rx_id == "coazze"
    assert entry.error_message.startswith(f"Invalid IQ data format: {location}: ")


def test_nan_inside_an_object_fails_only_the_segment_that_it_is_in(stores, tmp_path):
    session = three_stations(stores, tmp_path)
    array = transmission(500_000, 1.0, 5)
    array[250_000] = np.nan
    damage(stores, session.session_id, "torino", array.astype("<c8").tobytes())
    extract_session(stores, session.session_id, quiet)
    rows = rows_of(stores, session.session_id)
    assert [row.receivers[2].error_message is None for row in rows] == [True, False]
    assert "Invalid IQ data format" in rows[1].receivers[2].error_message


def test_where_no_station_can_be_read_one_row_says_so(stores, tmp_path):
    session = three_stations(stores, tmp_path)
    for rx_id in ("torino", "genova", "coazze"):
        damage(stores, session.session_id, rx_id, None)
    report = extract_session(stores, session.session_id, quiet)
    (row,) = rows_of(stores, session.session_id)
    assert row.extraction_failed
    for rx_id in ("torino", "genova", "coazze"):
        assert f"{rx_id}: IQ file not found" in row.error_message
    assert [receiver.rx_id for receiver in row.receivers] == ["coazze", "genova", "torino"]
    assert report.error_message == row.error_message


def test_a_station_that_recorded_nothing_keeps_its_reason(stores, tmp_path):
    session = three_stations(stores, tmp_path)
    with stores.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE heimdall.measurements m SET iq_data_location = NULL, samples_count = 0,"
                " error_message = 'too busy'"
                " FROM heimdall.websdr_stations w WHERE w.id = m.websdr_station_id AND w.rx_id = 'genova'"
            )
        )
    extract_session(stores, session.session_id, quiet)
    assert {row.receivers[1].error_message for row in rows_of(stores, session.session_id)} == {"too busy"}


def test_levels_are_absolute_where_the_scale_is_known(stores, tmp_path):
    # Samples in square roots of watts: 1e-15 W of signal, -120 dBm, in as much noise.
    iq = (transmission(200_000, 1.0, 1) * np.sqrt(1e-15)).astype(np.complex64)
    session = import_files(stores, npy_files(tmp_path, {"torino": iq}), **npy_options(full_scale_dbm=30.0))
    extract_session(stores, session.session_id, quiet)
    features = rows_of(stores, session.session_id)[0].receivers[0].features
    assert features["rssi_dbm"]["mean"] == pytest.approx(-120, abs=0.1)
    assert features["snr_db"]["mean"] == pytest.approx(0, abs=0.15)


def test_uncalibrated_levels_are_flagged(stores, example):
    extract_session(stores, example.session_id, quiet)
    entry = rows_of(stores, example.session_id)[0].receivers[0]
    assert "uncalibrated: levels relative to full scale" in entry.flags


def test_a_session_that_is_not_completed_or_not_there_is_refused(stores, example):
    with stores.database.transaction() as connection:
        connection.execute(text("UPDATE heimdall.recording_sessions SET status = 'in_progress'"))
    with pytest.raises(NotCompletedError, match="is in_progress; extract it when it is completed"):
        extract_session(stores, example.session_id, quiet)
    with pytest.raises(SessionNotFoundError, match="heimdall session list"):
        extract_session(stores, uuid4(), quiet)
    with pytest.raises(SessionNotFoundError, match="no session not-an-id; see: heimdall session list"):
        extract_session(stores, "not-an-id", quiet)


def test_the_spectrogram_is_a_png_small_enough_to_keep(stores, example):
    png = spectrogram_png(extract_session(stores, example.session_id, quiet))
    assert png.startswith(b"\x89PNG")
    assert 5_000 < len(png) < MAX_PNG_BYTES


def test_a_session_without_readable_iq_has_no_spectrogram(stores, tmp_path):
    session = import_files(stores, npy_files(tmp_path, {"torino": noise(200_000)}), **npy_options())
    damage(stores, session.session_id, "torino", None)
    assert spectrogram_png(extract_session(stores, session.session_id, quiet)) is None


def test_an_older_headerless_recording_is_extracted_too(stores, tmp_path):
    import io

    session = three_stations(stores, tmp_path)
    content = transmission(500_000, 1.0, 9).tobytes()
    location = ObjectLocation(stores.objects.raw_iq_bucket, "2026/01/01/some-id/145500000/1767268800.bin")
    stores.objects.put(location, io.BytesIO(content), len(content), "application/octet-stream")
    with stores.database.transaction() as connection:
        connection.execute(
            text("UPDATE heimdall.measurements SET iq_data_location = :location, iq_data_format = 'bin'"),
            {"location": str(location)},
        )
    report = extract_session(stores, session.session_id, quiet)
    assert report.failed_stations == []


def test_the_real_session_has_its_carrier_in_every_segment_at_every_station(stores, real_recordings):
    session = import_files(stores, real_recordings, known_source="DCF77")
    report = extract_session(stores, session.session_id, quiet)
    # F1JEK starts last and its 347136 samples at 12001.2019 Hz end first: 28.925 s in common.
    assert report.num_rows == 28
    for row in rows_of(stores, session.session_id):
        assert [receiver.rx_id for receiver in row.receivers] == ["df0kl", "f1jek", "hb9ryz"]
        assert all(receiver.signal_present for receiver in row.receivers)
    # In a channel of 500 Hz, within the 4 kHz that these receivers let through: DCF77 keeps its frequency to 1e-10, the
    # receivers' GNSS-corrected clocks to some mHz; DF0KL has 7 dB, and all hear DCF77's own phase modulation.
    with stores.database.transaction() as connection:
        connection.execute(text("UPDATE heimdall.recording_sessions SET bandwidth_hz = 500"))
        connection.execute(text("UPDATE heimdall.measurements SET passband_hz = 4000"))
    extract_session(stores, session.session_id, quiet)
    for row in rows_of(stores, session.session_id):
        for receiver in row.receivers:
            assert abs(receiver.features["frequency_offset_hz"]["mean"]) < 1.5
            assert receiver.features["snr_db"]["mean"] < 45  # and not 83, over the rounding beyond the filter


def test_the_filters_of_the_real_receivers_are_found(stores, real_recordings):
    session = import_files(stores, real_recordings)
    extract_session(stores, session.session_id, quiet)
    for station in stations_in_session(stores.database, session.session_id):
        assert any("the receiver's filter passes -30" in flag for flag in station.flags)  # +-3.06 kHz
    for row in rows_of(stores, session.session_id):
        assert all(receiver.features["snr_db"]["mean"] < 45 for receiver in row.receivers)


def filtered(num_samples, rate_hz, half_width_hz, *, stopband):
    """A carrier of -20 dB of full scale at 1 kHz, noise of -70 dB/Hz in a filter, and `stopband` times less outside."""
    spectrum = np.fft.fft(noise(num_samples, key=5) * np.sqrt(1e-7 * rate_hz))
    spectrum[np.abs(np.fft.fftfreq(num_samples, 1 / rate_hz)) > half_width_hz] *= stopband
    return 0.1 * np.exp(2j * np.pi * 1e3 * np.arange(num_samples) / rate_hz) + np.fft.ifft(spectrum)


@pytest.mark.parametrize("passband_hz", [None, 4_000.0])
def test_a_narrow_filter_is_the_passband_and_is_flagged_with_its_edges(stores, tmp_path, passband_hz):
    iq = filtered(60_000, 12_000.0, 3_300.0, stopband=1e-3).astype(np.complex64)
    options = npy_options(sample_rate_hz=12_000.0, passband_hz=passband_hz)
    session = import_files(stores, npy_files(tmp_path, {"torino": iq}), **options)
    report = extract_session(stores, session.session_id, quiet)
    for row in rows_of(stores, session.session_id):
        (receiver,) = row.receivers
        # -20 dB over the noise of -70 dB/Hz in the filter's band or the given one: 0.3 dB for the 25 chunks' noise,
        # 0.2 dB for the filter's edges, which are found to 5 %.
        received_hz = 6_600.0 if passband_hz is None else passband_hz
        assert receiver.features["snr_db"]["mean"] == pytest.approx(50.0 - 10 * np.log10(received_hz), abs=0.5)
    flags = " ".join(report.stations[0].flags)
    assert ("filter passes -33" in flags) == (passband_hz is None)


def test_a_filter_beside_the_centre_is_flagged(stores, tmp_path):
    num_samples, rate_hz = 60_000, 12_000.0
    iq = filtered(num_samples, rate_hz, 1_500.0, stopband=1e-3) * np.exp(2j * np.pi * 0.2 * np.arange(num_samples))
    session = import_files(
        stores, npy_files(tmp_path, {"torino": iq.astype(np.complex64)}), **npy_options(sample_rate_hz=rate_hz)
    )
    flags = " ".join(extract_session(stores, session.session_id, quiet).stations[0].flags)
    assert "without the centre: noise_floor_dbm is too low" in flags


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda iq: np.full_like(iq, (1 + 1j) / 32768), "all samples are the same number"),
        (lambda iq: iq.real.astype(np.complex64), "Q is constant"),
        (lambda iq: (iq.real * (1 + 1j)).astype(np.complex64), "I = Q"),
    ],
)
def test_samples_without_reception_fail_their_station_alone(stores, tmp_path, broken, reason):
    iq = transmission(200_000, 1.0, 3)
    session = import_files(stores, npy_files(tmp_path, {"torino": iq, "genova": broken(iq)}), **npy_options())
    report = extract_session(stores, session.session_id, quiet)
    assert report.failed_stations == ["genova"]
    for row in rows_of(stores, session.session_id):
        receivers = {receiver.rx_id: receiver for receiver in row.receivers}
        assert receivers["genova"].error_message.startswith(reason)
        assert receivers["torino"].error_message is None


def test_clipped_samples_are_flagged_with_their_share(stores, tmp_path):
    path = tmp_path / "torino.cs16"
    iq = np.clip(noise(200_000).view(np.float32), -1, 32767 / 32768)
    np.rint(iq * 32768).astype("<i2").tofile(path)
    files = [ImportFile(path, rx_id="torino")]
    session = import_files(stores, files, **npy_options(raw_format="ci16"))
    report = extract_session(stores, session.session_id, quiet)
    assert any(re.match(r"clipped: 15\.\d% of the numbers", flag) for flag in report.stations[0].flags)
