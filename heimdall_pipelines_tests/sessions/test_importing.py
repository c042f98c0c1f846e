import hashlib
import json

import numpy as np
import pytest
import sigmf
from sqlalchemy import text

from heimdall_pipelines.formats.samples import RecordingFormatError
from heimdall_pipelines.sessions import importing
from heimdall_pipelines.sessions.importing import ImportFile, ImportRefusedError
from heimdall_pipelines.store.iq_objects import sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectsUnavailableError
from heimdall_pipelines.store.session_import import ImportInProgressError, import_lock
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stations import StationError, list_stations
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.sessions.support import RATE_HZ, copied, import_files, noise, npy_files, npy_options


def count(stores, table):
    with stores.database.transaction() as connection:
        return connection.execute(text(f"SELECT count(*) FROM heimdall.{table}")).scalar()


def object_keys(stores):
    return [entry.key for entry in stores.objects.entries(stores.objects.raw_iq_bucket, "")]


def assert_nothing_is_left(stores):
    assert object_keys(stores) == []
    assert count(stores, "recording_sessions") == 0
    assert count(stores, "measurements") == 0


def read_whole(stores, location):
    return stores.objects.read(location, 0, stores.objects.size_bytes(location))


def test_a_session_is_completed_with_objects_sidecars_and_checksums(stores, example_recordings):
    report = import_files(stores, example_recordings)
    session = get_session(stores.database, report.session_id)
    assert (session.status, session.revision, session.frequency_hz) == ("completed", 1, 7_050_000.0)
    assert session.bandwidth_hz == pytest.approx(0.8 * 12_000.954)  # four fifths of the lowest sample rate
    recordings = list_recordings(stores.database, report.session_id)
    assert [recording.station.rx_id for recording in recordings] == ["genova", "milano-baggio", "torino"]
    for recording in recordings:
        content = read_whole(stores, recording.location)
        assert hashlib.sha256(content).hexdigest() == recording.sha256
        assert len(content) == 8 * recording.samples_count
        assert str(recording.location).endswith(f"sessions/{report.session_id}/{recording.station.rx_id}.sigmf-data")
        sidecar = json.loads(read_whole(stores, sidecar_location(recording.location)))
        sigmf.SigMFFile(sidecar).validate()
        (capture,) = sidecar["captures"]
        assert capture["core:geolocation"]["coordinates"] == [
            recording.station.longitude,
            recording.station.latitude,
            recording.station.altitude_m,
        ]
        assert "core:header_bytes" not in capture
        assert (recording.time_source, recording.is_calibrated, recording.full_scale_dbm) == ("gnss", False, 0.0)


def test_the_stored_iq_and_its_sidecar_are_read_by_sigmf(stores, example_recordings, tmp_path):
    report = import_files(stores, example_recordings)
    recording = list_recordings(stores.database, report.session_id)[0]
    (tmp_path / "genova.sigmf-data").write_bytes(read_whole(stores, recording.location))
    meta = tmp_path / "genova.sigmf-meta"
    meta.write_bytes(read_whole(stores, sidecar_location(recording.location)))
    samples = sigmf.fromfile(meta).read_samples()
    np.testing.assert_array_equal(samples, np.fromfile(tmp_path / "genova.sigmf-data", "<c8"))


def test_importing_the_same_files_again_changes_nothing(stores, example_recordings):
    first = import_files(stores, example_recordings)
    keys = object_keys(stores)
    again = import_files(stores, reversed(example_recordings), name="another name")
    assert (again.session_id, again.is_new, again.revision) == (first.session_id, False, 1)
    assert (object_keys(stores), count(stores, "recording_sessions"), count(stores, "measurements")) == (keys, 1, 3)


def test_a_part_of_an_imported_session_is_refused_with_the_session(stores, example_recordings):
    first = import_files(stores, example_recordings)
    with pytest.raises(ImportRefusedError, match=f"already imported in another session: .*{first.slug}"):
        import_files(stores, example_recordings[:2])
    assert count(stores, "recording_sessions") == 1


def test_a_known_source_is_kept_and_an_unknown_one_is_refused_with_those_known(stores, example_recordings):
    with pytest.raises(StationError, match=r"unknown source DCF78; known are: DCF77"):
        import_files(stores, example_recordings, known_source="DCF78")
    assert_nothing_is_left(stores)
    report = import_files(stores, example_recordings, known_source="DCF77")
    assert get_session(stores.database, report.session_id).known_source.name == "DCF77"


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_npy_files_are_imported_with_what_the_user_says_of_them(stores, tmp_path, dtype):
    iq = {"torino": noise(40_000, 1).astype(dtype), "genova": noise(50_000, 2).astype(dtype)}
    report = import_files(stores, npy_files(tmp_path, iq), **npy_options(full_scale_dbm=30.0))
    for recording in list_recordings(stores.database, report.session_id):
        stored = np.frombuffer(read_whole(stores, recording.location), "<c8")
        np.testing.assert_array_equal(stored, iq[recording.station.rx_id].astype(np.complex64))
        assert recording.start_time_unix_ns == 1_767_268_800_123_456_789
        assert (recording.full_scale_dbm, recording.is_calibrated, recording.time_source) == (30.0, True, "given")
    assert get_session(stores.database, report.session_id).bandwidth_hz == 12_500.0


@pytest.mark.parametrize(
    ("raw_format", "dtype", "scale"), [("cf32", "<f4", 1.0), ("ci16", "<i2", 32_768.0), ("cu8", "u1", 127.5)]
)
def test_raw_files_are_imported(stores, tmp_path, raw_format, dtype, scale):
    path = tmp_path / "capture.bin"
    pairs = (np.arange(100_000) % 200).astype(dtype)
    pairs.tofile(path)
    files = [ImportFile(path, rx_id="torino")]
    report = import_files(stores, files, **npy_options(raw_format=raw_format))
    (recording,) = list_recordings(stores.database, report.session_id)
    stored = np.frombuffer(read_whole(stores, recording.location), "<c8")
    offset = 127.5 if raw_format == "cu8" else 0.0
    np.testing.assert_allclose(stored.real, (pairs[0::2].astype(float) - offset) / scale, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(stored.imag, (pairs[1::2].astype(float) - offset) / scale, rtol=1e-6, atol=1e-7)


def test_a_sigmf_recording_brings_its_position_frequency_and_time(stores, tmp_path):
    iq = noise(60_000)
    iq.tofile(tmp_path / "field.sigmf-data")
    meta = {
        "global": {"core:datatype": "cf32_le", "core:version": "1.2.0", "core:sample_rate": RATE_HZ},
        "captures": [
            {
                "core:sample_start": 0,
                "core:frequency": 433.5e6,
                "core:datetime": "2026-05-04T03:02:01.000000007Z",
                "core:geolocation": {"type": "Point", "coordinates": [7.5, 45.25, 321.0]},
            }
        ],
        "annotations": [],
    }
    (tmp_path / "field.sigmf-meta").write_text(json.dumps(meta))
    report = import_files(stores, [ImportFile(tmp_path / "field.sigmf-meta", rx_id="field-day")])
    (recording,) = list_recordings(stores.database, report.session_id)
    station = recording.station
    assert (station.latitude, station.longitude, station.altitude_m) == (45.25, 7.5, 321.0)
    assert not station.is_active  # an import does not activate stations
    assert recording.start_time_unix_ns == 1_777_863_721_000_000_007
    assert get_session(stores.database, report.session_id).frequency_hz == 433.5e6


def test_an_unknown_station_is_created_from_the_given_position(stores, tmp_path):
    files = npy_files(tmp_path, {"garden": noise(50_000)})
    with pytest.raises(ImportRefusedError, match=r"unknown station garden; give --position garden\.npy="):
        import_files(stores, files, **npy_options())
    assert "garden" not in {station.rx_id for station in list_stations(stores.database)}
    placed = [ImportFile(files[0].path, "garden", (45.1, 7.2, 250.0))]
    import_files(stores, placed, **npy_options())
    garden = {station.rx_id: station for station in list_stations(stores.database)}["garden"]
    assert (garden.latitude, garden.longitude, garden.altitude_m, garden.is_active) == (45.1, 7.2, 250.0, False)


def two_stations(tmp_path):
    return npy_files(tmp_path, {"torino": noise(40_000, 1), "genova": noise(40_000, 2)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: [], "no file to import"),
        (lambda files: [files[0], ImportFile(files[1].path, "torino")], "station torino is given twice"),
        (lambda files: [ImportFile(files[0].path)], r"give --station torino\.npy=rx_id"),
        (lambda files: [ImportFile(files[0].path, "torino", (1.0, 2.0, 3.0))], "torino has a position already"),
    ],
)
def test_files_that_make_no_session_are_refused_with_what_to_do(stores, tmp_path, change, words):
    with pytest.raises(ImportRefusedError, match=words):
        import_files(stores, change(two_stations(tmp_path)), **npy_options())
    assert_nothing_is_left(stores)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample_rate_hz": 7_999.0}, "outside 8 kHz to 2.4 MHz"),
        ({"sample_rate_hz": 2.5e6}, "outside 8 kHz to 2.4 MHz"),
        ({"bandwidth_hz": 170_000.0}, "must be from 250 Hz to 160000 Hz"),
        ({"bandwidth_hz": 0.0}, "--bandwidth 0 Hz"),
        ({"passband_hz": 5_000.0, "bandwidth_hz": 6_000.0}, "must be from 250 Hz to 5000 Hz"),
        ({"passband_hz": 100.0}, "--passband 100 Hz"),
        ({"sample_rate_hz": 2.4e6}, r"16\.7 ms in common, one chunk needs 200 ms: .*torino\.npy starts 2026-01-01"),
    ],
)
def test_options_that_make_no_sense_are_refused(stores, tmp_path, options, words):
    with pytest.raises(ImportRefusedError, match=words):
        import_files(stores, two_stations(tmp_path), **npy_options(**options))
    assert_nothing_is_left(stores)


def test_files_tuned_to_different_frequencies_are_refused(stores, example_recordings, tmp_path):
    other = tmp_path / example_recordings[1].name.replace("7050000", "7060000")
    other.write_bytes(example_recordings[1].read_bytes())
    with pytest.raises(ImportRefusedError, match=r"different frequencies .*7050000 Hz.*7060000 Hz"):
        import_files(stores, [example_recordings[0], other])
    assert_nothing_is_left(stores)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinity_rejects_the_import_with_file_and_offset(stores, tmp_path, value):
    damaged = noise(1_500_000)
    damaged[1_234_567] = value
    files = npy_files(tmp_path, {"torino": noise(1_500_000, 1), "genova": damaged})
    with pytest.raises(RecordingFormatError, match=rf"genova\.npy: at byte {128 + 8 * 1_234_567}: "):
        import_files(stores, files, **npy_options())
    assert_nothing_is_left(stores)


def test_an_empty_or_cut_file_leaves_nothing(stores, example_recordings, tmp_path):
    for content in (b"", example_recordings[1].read_bytes()[:2000], b"RIFF" + b"\xff" * 4000):
        damaged = tmp_path / example_recordings[1].name
        damaged.write_bytes(content)
        with pytest.raises(RecordingFormatError, match=damaged.name):
            import_files(stores, [example_recordings[0], damaged])
        assert_nothing_is_left(stores)


def test_an_import_completes_after_an_outage_while_storing(stores, settings, example_recordings):
    # The database answers, the object store does not.
    from heimdall_pipelines.store.objects import ObjectStore

    down = Stores(stores.database, ObjectStore(settings.model_copy(update={"s3_endpoint": "127.0.0.1:1"})))
    with pytest.raises(ObjectsUnavailableError):
        import_files(down, example_recordings)
    with stores.database.transaction() as connection:
        (left,) = connection.execute(text("SELECT id, status FROM heimdall.recording_sessions")).fetchall()
    assert left.status == "in_progress"
    report = import_files(stores, example_recordings)
    assert (report.session_id, report.is_new, report.revision) == (left.id, True, 1)
    assert count(stores, "recording_sessions") == 1


def test_a_failure_after_the_objects_removes_them_and_the_session(stores, example_recordings, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("power cut")

    monkeypatch.setattr(importing, "complete_session", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        import_files(stores, example_recordings)
    assert_nothing_is_left(stores)


def test_a_file_that_changes_while_it_is_imported_is_noticed(stores, example_recordings, tmp_path, monkeypatch):
    path = copied(example_recordings[0], tmp_path)
    begin = importing.begin_import

    def change_then_begin(*arguments):
        content = bytearray(path.read_bytes())
        content[-100] ^= 0xFF
        path.write_bytes(content)
        return begin(*arguments)

    monkeypatch.setattr(importing, "begin_import", change_then_begin)
    with pytest.raises(ImportRefusedError, match="the file changed while it was imported"):
        import_files(stores, [path])
    assert_nothing_is_left(stores)


def test_two_imports_of_the_same_files_at_once_do_not_disturb_each_other(stores, example_recordings):
    report = import_files(stores, example_recordings)
    with stores.database.transaction() as connection:
        digest = connection.execute(text("SELECT content_sha256 FROM heimdall.recording_sessions")).scalar()
    with (
        import_lock(stores.database, digest),
        pytest.raises(ImportInProgressError, match="another process is importing these files"),
    ):
        import_files(stores, example_recordings)
    assert import_files(stores, example_recordings).session_id == report.session_id


def test_a_station_that_sql_users_calibrated_gives_calibrated_levels(stores, example_recordings):
    import_files(stores, example_recordings[:1])  # adds the network
    with stores.database.transaction() as connection:
        connection.execute(text("UPDATE heimdall.websdr_stations SET full_scale_dbm = -13.5 WHERE rx_id = 'genova'"))
    genova = next(path for path in example_recordings if "GENOVA" in path.name)
    report = import_files(stores, [genova])
    (recording,) = list_recordings(stores.database, report.session_id)
    assert (recording.full_scale_dbm, recording.is_calibrated) == (-13.5, True)
