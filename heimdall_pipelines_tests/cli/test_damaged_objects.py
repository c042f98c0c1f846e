"""Commands name a damaged object and go on with the rest: it is no outage (exit code 2)."""

import json

import pytest

from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store import objects
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines_tests.datasets.support import add, make
from heimdall_pipelines_tests.s3_proxy import S3Proxy, port_of
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options, quiet


@pytest.fixture
def proxy(settings, environment, monkeypatch):
    monkeypatch.setattr(objects, "DAMAGED_AFTER_S", 0.0)
    with S3Proxy(port_of(settings.s3_endpoint)) as started:
        monkeypatch.setenv("HEIMDALL_S3_ENDPOINT", f"127.0.0.1:{started.port}")
        yield started


def examples(document, name):
    return [example for check in document["checks"] if check["check"] == name for example in check["examples"]]


@pytest.mark.slow
def test_all_sessions_are_validated_though_an_object_of_one_is_damaged(stores, proxy, heimdall, tmp_path):
    sessions = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = npy_files(folder, {"torino": noise(300_000, key=number), "genova": noise(300_000, key=10 + number)})
        sessions.append(import_files(stores, files, **npy_options()))
        extract_session(stores, sessions[-1].session_id, quiet)
    damaged = list_recordings(stores.database, sessions[0].session_id)[0].location
    proxy.unreadable = lambda path: damaged.key in path

    code, out, _ = heimdall("session", "validate", "--all", "--checksums", "--json")

    found = {document["session_id"]: document for document in json.loads(out)}
    assert code == 1
    assert found.keys() == {str(session.session_id) for session in sessions}
    (example,) = examples(found[str(sessions[0].session_id)], "objects_agree")
    assert example.startswith(f"IQ file is damaged: {damaged}: ")
    assert found[str(sessions[1].session_id)]["health_status"] == "healthy"


@pytest.mark.slow
def test_a_damaged_sample_is_named_and_planned_to_be_regenerated(stores, proxy, heimdall):
    add(stores, "night", 2)
    make(stores, "night")
    bucket = stores.objects.synthetic_iq_bucket
    key = next(entry.key for entry in stores.objects.entries(bucket, "") if entry.key.endswith(".sigmf-data"))
    proxy.unreadable = lambda path: key in path

    code, out, _ = heimdall("dataset", "validate", "night", "--checksums", "--json")
    assert code == 1
    (example,) = examples(json.loads(out), "objects_agree")
    assert f"IQ file is damaged: {bucket}/{key}: " in example

    code, out, err = heimdall("dataset", "repair", "night", "--checksums")
    assert (code, "1 sample" in out) == (0, True), out + err
