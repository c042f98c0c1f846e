import io

import numpy as np
import pytest

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq
from heimdall_pipelines.store.objects import (
    ObjectLocation,
    ObjectNotFoundError,
    ObjectsRefusedError,
    ObjectStore,
    ObjectsUnavailableError,
)
from heimdall_pipelines.store.sessions import StationRecording
from heimdall_pipelines.store.stations import Station


def at(stores, key):
    return ObjectLocation(stores.objects.raw_iq_bucket, key)


def put(stores, key, content):
    location = at(stores, key)
    stores.objects.put(location, io.BytesIO(content), len(content), "application/octet-stream")
    return location


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def recording(location, samples_count, iq_data_format="npy"):
    return StationRecording(
        station=Station("torino", "Torino", 45.0, 7.7),
        start_time_unix_ns=0,
        sample_rate_hz=12_000.0,
        samples_count=samples_count,
        location=location,
        iq_data_format=iq_data_format,
        sha256=None,
        full_scale_dbm=0.0,
        is_calibrated=False,
        time_source="given",
        time_uncertainty_ns=None,
    )


@pytest.fixture(scope="module")
def iq():
    rng = np.random.Generator(np.random.Philox(key=1))
    return (rng.standard_normal(3_000_000) + 1j * rng.standard_normal(3_000_000)).astype(np.complex64)


def test_what_is_put_is_read_back_in_ranges(stores):
    location = put(stores, "a/b", bytes(range(200)))
    assert stores.objects.size_bytes(location) == 200
    assert stores.objects.read(location, 50, 10) == bytes(range(50, 60))


def test_an_object_longer_than_one_part_is_stored_whole(stores):
    content = np.arange(5_000_000, dtype="<i8").tobytes()  # 40 MB, three parts
    location = put(stores, "long", content)
    assert stores.objects.size_bytes(location) == len(content)
    assert stores.objects.read(location, len(content) - 8, 8) == content[-8:]


def test_a_missing_object_is_named_with_bucket_and_key(stores):
    location = at(stores, "sessions/1/torino.npy")
    for ask in (stores.objects.size_bytes, lambda where: stores.objects.read(where, 0, 1)):
        with pytest.raises(ObjectNotFoundError, match=f"^IQ file not found: {location}$"):
            ask(location)


def test_removing_a_prefix_leaves_the_neighbours(stores):
    for key in ("sessions/1/a.npy", "sessions/1/a.sigmf-meta", "sessions/10/a.npy"):
        put(stores, key, b"x")
    stores.objects.remove(stores.objects.raw_iq_bucket, "sessions/1/")
    assert [entry.key for entry in stores.objects.entries(stores.objects.raw_iq_bucket, "")] == ["sessions/10/a.npy"]


@pytest.mark.parametrize("change", [{"s3_secret_key": "wrong"}, {"s3_access_key": "nobody"}])
def test_wrong_credentials_are_refused_with_the_variables_to_look_at(settings, change):
    objects = ObjectStore(type(settings)(**settings.model_dump() | {"s3_secret_key": settings.s3_secret_key} | change))
    with pytest.raises(ObjectsRefusedError, match="HEIMDALL_S3_ACCESS_KEY and HEIMDALL_S3_SECRET_KEY"):
        objects.read(ObjectLocation(settings.s3_bucket_raw_iq, "x"), 0, 1)


def test_a_missing_bucket_says_how_to_make_it(settings):
    objects = ObjectStore(settings)
    with pytest.raises(ObjectsRefusedError, match="heimdall db migrate"):
        objects.read(ObjectLocation("no-such-bucket-here", "x"), 0, 1)


def test_a_store_that_is_down_is_an_outage_and_no_missing_object(settings):
    objects = ObjectStore(settings.model_copy(update={"s3_endpoint": "127.0.0.1:1"}))
    with pytest.raises(ObjectsUnavailableError, match=r"^S3 store at 127\.0\.0\.1:1: "):
        objects.size_bytes(ObjectLocation("bucket", "key"))


@pytest.mark.parametrize("text", ["", "bucket", "/key", "bucket/"])
def test_a_location_without_bucket_or_key_is_refused(text):
    with pytest.raises(HeimdallError, match="bucket/key is expected"):
        ObjectLocation.parse(text)


def test_iq_is_read_at_any_place_across_blocks(stores, iq):
    reader = StationIq(stores.objects, recording(put(stores, "x.npy", npy(iq)), iq.size))
    for start, count in ((0, 10), (5, 1_500_000), (1_048_570, 20), (2_999_999, 1), (7, 3)):
        np.testing.assert_array_equal(reader.read(start, count), iq[start : start + count])
    with pytest.raises(IndexError):
        reader.read(2_999_999, 2)


def test_older_headerless_recordings_are_read_too(stores, iq):
    location = put(stores, "2025/01/31/some-station/145000000/20250131T120000.bin", iq[:1000].tobytes())
    reader = StationIq(stores.objects, recording(location, 1000, "bin"))
    np.testing.assert_array_equal(reader.read(0, 1000), iq[:1000])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.ones(1000, np.complex64))[:-8], "truncated"),
        (npy(np.ones(1000, np.complex64)) + b"x", "8129 bytes are stored, 8128 are expected"),
        (npy(np.ones(999, np.complex64)), "the header says 999 samples, the session 1000"),
        (npy(np.ones(1000, np.complex128)), "dtype is complex128"),
        (npy(np.ones(2000, np.float32)), "complex"),
        (npy(np.array([None], dtype=object)), "pickle|object"),
        (b"RIFF" + bytes(9000), "npy|NumPy|magic"),
        (b"", "npy|NumPy|header|empty|short"),
    ],
)
def test_bytes_that_are_not_the_promised_iq_are_an_invalid_format(stores, content, words):
    location = put(stores, "bad.npy", content)
    with pytest.raises(IqObjectError, match=f"^Invalid IQ data format: {location}: .*(?:{words})"):
        StationIq(stores.objects, recording(location, 1000))
