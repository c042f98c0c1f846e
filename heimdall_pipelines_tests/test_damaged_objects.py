"""A byte that rots on the disk of the embedded S3 server damages one object: it is named, and the rest goes on."""

import hashlib
from collections.abc import Iterator

import pytest

from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectDamagedError
from heimdall_pipelines.store.session_features import read_session_rows
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.integrity import NAME, Night
from heimdall_pipelines_tests.own_s3 import OwnS3, own_s3
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options, quiet

pytestmark = [pytest.mark.programs, pytest.mark.slow]  # SeaweedFS tries for 13 s to read rotten bytes


@pytest.fixture(scope="module")
def rotting(tmp_path_factory) -> Iterator[OwnS3]:
    with own_s3(tmp_path_factory.mktemp("rotting")) as started:
        yield started


@pytest.fixture
def stores(rotting, settings) -> Iterator[Stores]:
    with open_stores(rotting.settings(settings, s3_sync="none")) as opened:
        opened.objects.create_buckets()
        yield opened
        for bucket in (opened.objects.raw_iq_bucket, opened.objects.synthetic_iq_bucket):
            opened.objects.remove(bucket, "")


def bytes_of(stores, location) -> bytes:
    return stores.objects.read(location, 0, stores.objects.size_bytes(location))


def rot(rotting, stores, location) -> bytes:
    """Let a byte in the middle of an object rot; returns the object as it was."""
    content = bytes_of(stores, location)
    middle = len(content) // 2
    rotting.flip_a_byte(content[middle - 500 : middle + 500])
    return content


@pytest.mark.fault("a byte of a recording rots on the disk of the S3 server")
def test_a_rotten_recording_fails_its_station_alone_and_the_checks_of_its_session_alone(
    stores, rotting, example_recordings, tmp_path, fault
):
    damaged = import_files(stores, example_recordings).session_id
    sound = import_files(stores, npy_files(tmp_path, {"torino": noise(400_000)}), **npy_options()).session_id
    first, *others = list_recordings(stores.database, damaged)
    rot(rotting, stores, first.location)

    with pytest.raises(ObjectDamagedError, match=f"^IQ file is damaged: {first.location}: S3 store at .* cannot read"):
        bytes_of(stores, first.location)
    report = extract_session(stores, damaged, quiet)
    assert report.failed_stations == [first.station.rx_id]
    with stores.database.transaction() as connection:
        rows = list(read_session_rows(connection, damaged))
    for row in rows:
        by_rx_id = {receiver.rx_id: receiver for receiver in row.receivers}
        assert by_rx_id[first.station.rx_id].error_message.startswith(f"IQ file is damaged: {first.location}")
        assert all(by_rx_id[other.station.rx_id].signal_present for other in others)

    extract_session(stores, sound, quiet)
    assert validate_session(stores, sound, checksums=True).health_status == "healthy"
    found = validate_session(stores, damaged, checksums=True)
    (failed,) = [outcome for outcome in found.outcomes if outcome.name == "objects_agree"]
    assert not failed.passed
    assert [
        example for example in failed.examples if "IQ file is damaged" in example and str(first.location) in example
    ]
    fault.record(
        detected_by=["objects_agree"],
        result="the object is named; the extraction has an entry with the reason, the other stations are extracted",
    )


@pytest.mark.fault("a byte of a synthetic sample rots on the disk of the S3 server")
def test_a_rotten_sample_is_named_and_regenerated_to_the_byte(stores, rotting, fault):
    night = Night(stores)
    sound = night.snapshot()
    key = night.key(3)
    content = night.read(key)
    rotting.flip_a_byte(content[len(content) // 2 - 500 : len(content) // 2 + 500])

    outcome = check_dataset(stores, NAME, checksums=True).outcomes["objects_agree"]
    assert (outcome.passed, outcome.num_problems) == (False, 1)
    assert "sample 3" in outcome.examples[0]
    assert "IQ file is damaged" in outcome.examples[0]
    assert key in outcome.examples[0]

    night.repair(checksums=True)
    assert night.validate(checksums=True).health_status == "healthy"
    assert hashlib.sha256(night.read(key)).hexdigest() == sound.objects[key]
    assert night.snapshot() == sound
    fault.record(
        detected_by=["objects_agree"], result="the sample is regenerated, the same bytes; the rest is unchanged"
    )
