import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.store import objects
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.objects import (
    ObjectDamagedError,
    ObjectLocation,
    ObjectNotFoundError,
    ObjectsFullError,
    ObjectsRefusedError,
    ObjectStore,
    ObjectsUnavailableError,
)
from heimdall_pipelines.store.stations import Station
from heimdall_pipelines_tests.s3_proxy import S3Proxy, port_of


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


@pytest.mark.parametrize("change", [{"s3_secret_key": "wrong"}, {"s3_access_key": "stranger"}])
def test_wrong_credentials_are_refused_with_the_variables_to_correct(settings, change):
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


def test_samples_around_a_damage_are_read_and_the_damage_is_looked_for_once(stores, iq, monkeypatch):
    location = put(stores, "x.npy", npy(iq))
    damaged_byte, read, asked = 128 + 8 * 1_500_000, stores.objects.read, []

    def damaged(where, offset, length):
        asked.append(offset)
        if offset <= damaged_byte < offset + length:
            raise ObjectDamagedError(f"IQ file is damaged: {where}")
        return read(where, offset, length)

    monkeypatch.setattr(stores.objects, "read", damaged)
    reader = StationIq(stores.objects, recording(location, iq.size))
    np.testing.assert_array_equal(reader.read(0, 10), iq[:10])
    for start in (1_200_000, 1_200_010, 1_500_000, 2_000_000):
        with pytest.raises(ObjectDamagedError, match=f"^IQ file is damaged: {location}$"):
            reader.read(start, 10)
    np.testing.assert_array_equal(reader.read(2_500_000, 100_000), iq[2_500_000:2_600_000])
    assert len(asked) == 4  # header, first block, the damaged one, the next


def test_older_headerless_recordings_are_read_too(stores, iq):
    location = put(stores, "2025/01/31/some-station/145000000/20250131T120000.bin", iq[:1000].tobytes())
    reader = StationIq(stores.objects, recording(location, 1000, "bin"))
    np.testing.assert_array_equal(reader.read(0, 1000), iq[:1000])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.ones(1000, np.complex64))[:-8], "truncated"),
        (npy(np.ones(1000, np.complex64)) + b"x", "8129 bytes are stored, 8128 are expected"),
        (npy(np.ones(999, np.complex64)), "the header has 999 samples, the session 1000"),
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


def listed(stores, prefix=""):
    return list(stores.objects.entries(stores.objects.raw_iq_bucket, prefix))


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 100, np.arange(5_000_000, dtype="<i8").tobytes()])
def test_the_etag_of_a_put_is_the_one_that_a_listing_shows(stores, content):
    """The last one goes up in parts; its ETag is no MD5 then."""
    etag = stores.objects.put(at(stores, "a/b"), io.BytesIO(content), len(content), "application/octet-stream")
    (entry,) = listed(stores)
    assert etag
    assert '"' not in etag
    assert (entry.key, entry.size_bytes, entry.etag) == ("a/b", len(content), etag)


def test_etags_tell_bytes_apart_and_are_the_same_for_the_same_bytes(stores):
    def etag(key, content):
        return stores.objects.put(at(stores, key), io.BytesIO(content), len(content), "application/octet-stream")

    assert etag("a", b"one") == etag("b", b"one") != etag("a", b"two")


def test_a_listing_is_in_the_order_of_keys_and_tells_size_and_time(stores):
    before = datetime.now(UTC) - timedelta(seconds=2)
    keys = ["d/1/a.npy", "d/1/a.sigmf-meta", "d/10/a.npy", "d/100/a.npy", "d/2/a.npy", "d/20/a.npy", "d/notes.txt"]
    for key in reversed(keys):
        put(stores, key, key.encode())
    put(stores, "e/1/a.npy", b"x")
    entries = listed(stores, "d/")
    assert [entry.key for entry in entries] == keys
    assert [entry.size_bytes for entry in entries] == [len(key) for key in keys]
    assert all(before <= entry.modified_at <= datetime.now(UTC) + timedelta(seconds=2) for entry in entries)


def test_folders_are_the_names_right_below_a_prefix(stores):
    for key in ("d/1/a.npy", "d/1/b/c.npy", "d/10/a.npy", "d/notes.txt", "e/2/a.npy"):
        put(stores, key, b"x")
    folders = stores.objects.folders
    bucket = stores.objects.raw_iq_bucket
    assert list(folders(bucket, "d/")) == ["1", "10"]
    assert list(folders(bucket, "")) == ["d", "e"]
    assert list(folders(bucket, "nothing/")) == []


def test_a_listing_goes_on_after_its_first_page(stores):
    keys = [f"many/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: put(stores, key, b""), keys))
    assert [entry.key for entry in listed(stores, "many/")] == keys
    stores.objects.remove_keys(stores.objects.raw_iq_bucket, keys[1:])
    assert [entry.key for entry in listed(stores)] == keys[:1]


def test_removing_keys_leaves_the_others_and_minds_none_that_is_missing(stores):
    for key in ("a", "b", "c"):
        put(stores, key, b"x")
    stores.objects.remove_keys(stores.objects.raw_iq_bucket, iter(["a", "nothing", "c"]))
    stores.objects.remove_keys(stores.objects.raw_iq_bucket, [])
    assert [entry.key for entry in listed(stores)] == ["b"]


def test_a_full_store_is_an_outage_that_says_so_and_stores_nothing(settings):
    with S3Proxy(port_of(settings.s3_endpoint)) as proxy:
        objects = ObjectStore(settings.model_copy(update={"s3_endpoint": f"127.0.0.1:{proxy.port}"}))
        location = ObjectLocation(objects.raw_iq_bucket, "a/b")
        proxy.puts_until_full = 0
        with pytest.raises(
            ObjectsFullError, match=rf"^S3 store at 127.0.0.1:\d+ has no room for {location} "
        ) as caught:
            objects.put(location, io.BytesIO(b"x"), 1, "application/octet-stream")
        assert isinstance(caught.value, ObjectsUnavailableError)
        assert "free space or add some" in str(caught.value)
        assert list(objects.entries(objects.raw_iq_bucket, "")) == []
        proxy.puts_until_full = None
        objects.put(location, io.BytesIO(b"x"), 1, "application/octet-stream")
        assert objects.read(location, 0, 1) == b"x"


@pytest.fixture
def proxied(settings):
    """A store behind a proxy, with two objects."""
    with S3Proxy(port_of(settings.s3_endpoint)) as proxy:
        store = ObjectStore(settings.model_copy(update={"s3_endpoint": f"127.0.0.1:{proxy.port}"}))
        for key in ("a/b", "a/c"):
            store.put(ObjectLocation(store.raw_iq_bucket, key), io.BytesIO(key.encode()), 3, "application/any")
        yield proxy, store
        store.close()


@pytest.mark.parametrize("damaged", ["a/b", "a/c"])
def test_an_object_that_fails_for_good_while_others_are_read_is_damaged(proxied, monkeypatch, damaged):
    monkeypatch.setattr(objects, "DAMAGED_AFTER_S", 0.5)
    proxy, store = proxied
    location = ObjectLocation(store.raw_iq_bucket, damaged)
    proxy.unreadable = lambda path: damaged in path
    with pytest.raises(ObjectDamagedError) as caught:
        store.read(location, 0, 3)
    assert not isinstance(caught.value, UnavailableError)
    assert str(caught.value).startswith(f"IQ file is damaged: {location}: S3 store at 127.0.0.1:{proxy.port} ")
    assert str(caught.value).endswith("(InternalError: We encountered an internal error, please try again.)")
    proxy.unreadable = lambda path: False
    assert store.read(location, 0, 3) == damaged.encode()


def test_a_store_that_reads_no_object_is_an_outage_with_what_the_server_says(proxied, monkeypatch):
    monkeypatch.setattr(objects, "DAMAGED_AFTER_S", 0.0)
    proxy, store = proxied
    proxy.unreadable = lambda path: True
    with pytest.raises(ObjectsUnavailableError, match=r"InternalError for .*: We encountered an internal error"):
        store.read(ObjectLocation(store.raw_iq_bucket, "a/b"), 0, 3)


def test_an_object_alone_in_its_bucket_is_never_called_damaged(proxied, monkeypatch):
    monkeypatch.setattr(objects, "DAMAGED_AFTER_S", 0.0)
    proxy, store = proxied
    store.remove_keys(store.raw_iq_bucket, ["a/c"])
    proxy.unreadable = lambda path: True
    with pytest.raises(ObjectsUnavailableError):
        store.read(ObjectLocation(store.raw_iq_bucket, "a/b"), 0, 3)


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_an_object_that_fails_for_a_moment_is_read(proxied, failures):
    proxy, store = proxied
    left = [True] * failures
    proxy.unreadable = lambda path: "a/b" in path and bool(left) and left.pop()
    assert store.read(ObjectLocation(store.raw_iq_bucket, "a/b"), 0, 3) == b"a/b"
    assert left == []


@pytest.mark.parametrize("ask", ["entries", "folders"])
def test_listing_raises_without_a_store_or_bucket(settings, ask):
    down = ObjectStore(settings.model_copy(update={"s3_endpoint": "127.0.0.1:1"}))
    with pytest.raises(ObjectsUnavailableError):
        list(getattr(down, ask)("bucket", "a/"))
    with pytest.raises(ObjectsRefusedError, match="heimdall db migrate"):
        list(getattr(ObjectStore(settings), ask)("no-such-bucket-here", "a/"))
