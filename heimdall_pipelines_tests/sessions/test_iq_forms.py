"""Recordings in both forms: new objects are SigMF datasets; `.npy` objects of older versions are read as before."""

import numpy as np
import pytest
import sigmf

from heimdall_pipelines.sessions import importing
from heimdall_pipelines.sessions.correcting import Correction, correct_session
from heimdall_pipelines.sessions.deleting import delete_session
from heimdall_pipelines.sessions.exporting import export_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.importing import ImportRefusedError
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.iq_objects import StationIq, sidecar_location
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectsUnavailableError
from heimdall_pipelines.store.status import recorded_iq
from heimdall_pipelines_tests.datasets.support import query
from heimdall_pipelines_tests.npy_objects import read, session_as_npy
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options, quiet


@pytest.fixture
def files(tmp_path):
    return npy_files(tmp_path, {"torino": noise(300_000, 1), "genova": noise(300_000, 2)})


@pytest.fixture
def old(stores, files):
    session_id = import_files(stores, files, **npy_options()).session_id
    session_as_npy(stores, session_id)
    return session_id


def suffixes(stores, session_id):
    return {str(recording.location).rsplit(".", 1)[1] for recording in list_recordings(stores.database, session_id)}


def features(stores, session_id):
    rows = query(
        stores,
        "SELECT receiver_features FROM heimdall.measurement_features WHERE recording_session_id = :id"
        " ORDER BY segment_idx",
        id=session_id,
    )
    return [row["receiver_features"] for row in rows]


def test_a_new_object_is_opened_by_sigmf_and_by_numpy_alone(stores, files, tmp_path):
    session_id = import_files(stores, files, **npy_options()).session_id
    for recording in list_recordings(stores.database, session_id):
        assert recording.iq_data_format == "bin"
        assert str(recording.location).endswith(f"/{recording.station.rx_id}.sigmf-data")
        data = tmp_path / "a.sigmf-data"
        data.write_bytes(read(stores, recording.location))
        data.with_suffix(".sigmf-meta").write_bytes(read(stores, sidecar_location(recording.location)))
        samples = np.fromfile(data, "<c8")
        np.testing.assert_array_equal(samples, np.load(tmp_path / f"{recording.station.rx_id}.npy"))
        opened = sigmf.fromfile(data)
        opened.validate()
        np.testing.assert_array_equal(opened.read_samples(), samples)


def test_npy_objects_are_extracted_validated_and_exported_as_before(stores, files, old, tmp_path):
    extract_session(stores, old, quiet)
    assert validate_session(stores, old, checksums=True).health_status == "healthy"
    assert recorded_iq(stores.database) == (4, 2 * 300_000 * 8)
    export_session(stores, old, tmp_path / "out", as_archive=False, progress=quiet)
    for recording in list_recordings(stores.database, old):
        rx_id = recording.station.rx_id
        samples = np.load(tmp_path / f"{rx_id}.npy")
        np.testing.assert_array_equal(StationIq(stores.objects, recording).read(0, 300_000), samples)
        np.testing.assert_array_equal(sigmf.fromfile(tmp_path / "out" / f"{rx_id}.sigmf-data").read_samples(), samples)
    of_npy = features(stores, old)
    delete_session(stores, old, lambda _key: None, quiet)
    assert list(stores.objects.entries(stores.objects.raw_iq_bucket, "")) == []

    new = import_files(stores, files, **npy_options()).session_id
    assert suffixes(stores, new) == {"sigmf-data"}
    extract_session(stores, new, quiet)
    assert features(stores, new) == of_npy != []


def test_objects_of_both_forms_are_counted_with_their_descriptions(stores, old, tmp_path):
    (tmp_path / "more").mkdir()
    more = npy_files(tmp_path / "more", {"torino": noise(200_000, 3)})
    import_files(stores, more, **npy_options())
    entries = list(stores.objects.entries(stores.objects.raw_iq_bucket, ""))
    assert recorded_iq(stores.database)[0] == len(entries) == 6


def test_files_stored_as_npy_are_known_when_they_are_imported_again(stores, files, old):
    again = import_files(stores, files, **npy_options())
    assert (again.session_id, again.is_new) == (old, False)
    with pytest.raises(ImportRefusedError, match="already imported in another session: torino"):
        import_files(stores, files[:1], **npy_options())
    with pytest.raises(ImportRefusedError, match="heimdall session correct"):
        import_files(stores, files, **npy_options(start_time_unix_ns=1_767_268_900_000_000_000))
    assert suffixes(stores, old) == {"npy"}


def test_a_correction_keeps_npy_objects_and_describes_them(stores, old):
    before = {r.station.rx_id: read(stores, r.location) for r in list_recordings(stores.database, old)}
    correct_session(stores, old, Correction(frequency_hz=146e6))
    for recording in list_recordings(stores.database, old):
        assert read(stores, recording.location) == before[recording.station.rx_id]
    extract_session(stores, old, quiet)
    assert validate_session(stores, old, checksums=True).health_status == "healthy"


def test_an_import_that_an_older_version_began_is_completed_in_its_form(stores, files, monkeypatch):
    def stops(*_arguments):
        raise ObjectsUnavailableError("the store went away")

    with monkeypatch.context() as patched:
        # As a killed import of an older version left it: a session in progress of the digest of `.npy` objects.
        patched.setattr(importing, "put_iq", stops)
        patched.setattr(importing, "_clean_up", lambda *_arguments: None)
        patched.setattr(importing, "may_hold_npy", lambda *_arguments: True)
        patched.setattr(importing, "_form_and_content", npy_form_and_content)
        with pytest.raises(ObjectsUnavailableError):
            import_files(stores, files, **npy_options())
    (row,) = query(stores, "SELECT id, status FROM heimdall.recording_sessions")
    assert row["status"] == "in_progress"
    completed = import_files(stores, files, **npy_options())
    assert completed.session_id == row["id"]
    assert suffixes(stores, row["id"]) == {"npy"}
    extract_session(stores, row["id"], quiet)
    assert validate_session(stores, row["id"], checksums=True).health_status == "healthy"


def npy_form_and_content(_stores, sources, _sums):
    """What an older version computed: from the sums of `.npy` files."""
    import hashlib

    from heimdall_pipelines.sessions.import_request import content_digest
    from heimdall_pipelines.store.iq_form import IqForm

    parts = [
        (s.station.rx_id, s.recording.start_time_unix_ns, hashlib.sha256(s.recording.path.read_bytes()).hexdigest())
        for s in sources
    ]
    return IqForm.NPY, content_digest(parts)
