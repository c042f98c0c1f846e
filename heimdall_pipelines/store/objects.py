"""Objects in the S3 store: writes streams, reads ranges, distinguishes outages from missing objects."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import BinaryIO, Protocol

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.settings import Settings

PART_SIZE_BYTES = 16 * 2**20
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
ATTEMPTS = 3
PATIENT_ATTEMPTS = 8  # 40 s with their pauses
CONNECTIONS = 10
_NOT_FOUND = {"NoSuchKey", "NoSuchObject", "ResourceNotFound"}
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_FULL = {
    "XMinioStorageFull",
    "InsufficientStorage",
    "InsufficientCapacity",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
}


class ObjectsUnavailableError(UnavailableError):
    """The S3 store could not be reached, closed the connection or answered with a server error."""


class ObjectsFullError(ObjectsUnavailableError):
    """The S3 store has no space left; the object was not stored."""


class ObjectsRefusedError(HeimdallError):
    """The S3 store refuses the credentials, or the bucket does not exist."""


class ObjectNotFoundError(HeimdallError):
    """There is no object under this key."""


@dataclass(frozen=True)
class ObjectLocation:
    """Location of an object; written ``bucket/key`` in tables and messages."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, text: str) -> "ObjectLocation":
        """Read ``bucket/key``."""
        bucket, _, key = text.partition("/")
        if not bucket or not key:
            raise HeimdallError(f"not an object location, bucket/key is expected: {text!r}")
        return cls(bucket, key)


@dataclass(frozen=True)
class ObjectEntry:
    """An object in a listing.

    Attributes
    ----------
    key : str
    size_bytes : int
    etag : str
        Assigned by the store when the object was put; a different one suggests, but does not prove, different bytes.
    modified_at : datetime
        When it was put, by the store's clock.
    """

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime


class ByteSource(Protocol):
    """A source of bytes in order, like a file opened for reading."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


class ObjectStore:
    """Client of the S3 store of the settings; failed requests are repeated with back-off."""

    def __init__(self, settings: Settings, *, attempts: int = ATTEMPTS) -> None:
        self._settings = settings
        self.raw_iq_bucket = settings.s3_bucket_raw_iq
        self.synthetic_iq_bucket = settings.s3_bucket_synthetic_iq
        self._where = f"S3 store at {settings.s3_endpoint}"
        self._http = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            retries=urllib3.Retry(total=attempts - 1, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504]),
        )
        self._client = Minio(
            endpoint=settings.s3_endpoint,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=settings.s3_secure,
            region=settings.s3_region,
            http_client=self._http,
        )

    def __repr__(self) -> str:
        return f"ObjectStore({self._where})"

    def __reduce__(self) -> tuple[Callable[[Settings], "ObjectStore"], tuple[Settings]]:
        """Pickle as the settings: each process has its own cached client with its own connections."""
        return _client_of_process, (self._settings,)

    def patient(self) -> "ObjectStore":
        """Make a client of the same store with more retries, for data that cannot be regenerated; close it."""
        return ObjectStore(self._settings, attempts=PATIENT_ATTEMPTS)

    def close(self) -> None:
        """Close the kept connections."""
        self._http.clear()

    def create_buckets(self) -> None:
        """Create the missing buckets of the settings; for existing ones no right to create is needed."""
        for bucket in self.missing_buckets():
            self._create_bucket(bucket)

    def missing_buckets(self) -> list[str]:
        """Buckets of the settings that do not exist."""
        missing = []
        compute_logs = self._settings.s3_bucket_compute_logs
        for bucket in filter(None, (self.raw_iq_bucket, self.synthetic_iq_bucket, compute_logs)):
            with self._errors(bucket):
                if not self._client.bucket_exists(bucket):
                    missing.append(bucket)
        return missing

    def put(self, location: ObjectLocation, source: ByteSource | BinaryIO, length: int, content_type: str) -> str:
        """Store ``length`` bytes read from ``source``; long objects in parts, of which a few are in memory at once.

        Returns
        -------
        str
            The object's ETag, which listings show too.

        Raises
        ------
        ObjectsFullError
            The store has no space left.
        ObjectsUnavailableError
            The store could not be reached.
        """
        with self._errors(str(location)):
            stored = self._client.put_object(
                location.bucket,
                location.key,
                source,  # type: ignore[arg-type]
                length,
                content_type=content_type,
                part_size=PART_SIZE_BYTES if length > PART_SIZE_BYTES else 0,
            )
        return _bare(stored.etag)

    def put_slowly(
        self, location: ObjectLocation, source: ByteSource, length: int, content_type: str, part_size_bytes: int
    ) -> str:
        """Store ``length`` bytes of a slow source; no part is in memory while the source is read.

        Returns and raises as `put`, and what the source raises; then nothing is stored.
        """
        if length <= part_size_bytes:
            return self.put(location, source, length, content_type)
        where = location.bucket, location.key
        with self._errors(str(location)):
            # Private calls, since put_object holds a part until the next one is read: peak memory of seven stations is
            # 309 MB with it and 273 MB without (7 parts of 5 MB), and `heimdall session record` has 300 MB.
            upload = self._client._create_multipart_upload(*where, {"Content-Type": content_type})
            try:
                parts = []
                for number, begin in enumerate(range(0, length, part_size_bytes), start=1):
                    size = min(part_size_bytes, length - begin)
                    etag = self._client._upload_part(*where, _exactly(source, size), None, upload, number)
                    parts.append(Part(number, etag))
                stored = self._client._complete_multipart_upload(*where, upload, parts)
            except BaseException:
                self._client._abort_multipart_upload(*where, upload)
                raise
        return _bare(stored.etag)

    def size_bytes(self, location: ObjectLocation) -> int:
        """Length of an object.

        Raises
        ------
        ObjectNotFoundError
            Nothing is stored under this key.
        ObjectsUnavailableError
            The store could not be reached.
        """
        with self._errors(str(location)):
            size = self._client.stat_object(location.bucket, location.key).size
        assert size is not None
        return int(size)

    def read(self, location: ObjectLocation, offset: int, length: int) -> bytes:
        """Bytes ``offset`` to ``offset + length`` of an object, fewer only at its end."""
        with self._errors(str(location)):
            response = self._client.get_object(location.bucket, location.key, offset=offset, length=length)
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

    def entries(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """Objects below a prefix, streamed in pages of 1000: memory does not grow with their number."""
        with self._errors(f"{bucket}/{prefix}"):
            for entry in self._client.list_objects(bucket, prefix=prefix, recursive=True):
                assert entry.object_name is not None
                assert entry.size is not None
                assert entry.last_modified is not None
                yield ObjectEntry(entry.object_name, entry.size, _bare(entry.etag), entry.last_modified)

    def folders(self, bucket: str, prefix: str) -> Iterator[str]:
        """Names directly below a prefix, which ends with ``/``, that have objects below them; streamed."""
        with self._errors(f"{bucket}/{prefix}"):
            for entry in self._client.list_objects(bucket, prefix=prefix, recursive=False):
                assert entry.object_name is not None
                # SeaweedFS keeps and lists folders whose objects are all removed.
                if entry.is_dir and next(self.entries(bucket, entry.object_name), None) is not None:
                    yield entry.object_name.removeprefix(prefix).rstrip("/")

    def remove(self, bucket: str, prefix: str) -> None:
        """Remove every object below a prefix."""
        self.remove_keys(bucket, (entry.key for entry in self.entries(bucket, prefix)))

    def remove_keys(self, bucket: str, keys: Iterable[str]) -> None:
        """Remove objects; missing ones are ignored."""
        with self._errors(bucket):
            for problem in self._client.remove_objects(bucket, (DeleteObject(key) for key in keys)):
                raise ObjectsUnavailableError(f"{self._where}: {bucket}/{problem.name} not removed: {problem.message}")

    def _create_bucket(self, bucket: str) -> None:
        try:
            with self._errors(bucket):
                self._client.make_bucket(bucket)
        except ObjectsRefusedError as error:
            raise ObjectsRefusedError(
                f"{self._where}: the bucket {bucket} is missing, and the key of HEIMDALL_S3_ACCESS_KEY may not create "
                "it: create it with an administrator's key, see deploy/s3/README.md"
            ) from error

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in _NOT_FOUND:
                raise ObjectNotFoundError(f"IQ file not found: {what}") from error
            if error.code == "NoSuchBucket":
                raise ObjectsRefusedError(
                    f"{self._where}: bucket not found for {what}; create it with: heimdall db migrate"
                ) from error
            if error.code in _FULL:
                raise ObjectsFullError(
                    f"{self._where} has no room for {what} ({error.code}): free space or add some, "
                    "then run the same again; nothing is lost"
                ) from error
            if error.code in _REFUSED:
                raise ObjectsRefusedError(
                    f"{self._where} refuses the credentials for {what} ({error.code}): "
                    "see HEIMDALL_S3_ACCESS_KEY and HEIMDALL_S3_SECRET_KEY, and deploy/s3/README.md for their rights"
                ) from error
            raise ObjectsUnavailableError(f"{self._where}: {error.code} for {what}: {error.message}") from error
        except (ServerError, InvalidResponseError, MinioException, urllib3.exceptions.HTTPError) as error:
            raise ObjectsUnavailableError(f"{self._where}: {what}: {error}") from error


def _exactly(source: ByteSource, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError(f"expected {size} bytes, received {len(data)}")
    return data


def _bare(etag: str | None) -> str:
    """An ETag without the quotes that some answers have."""
    return (etag or "").strip('"')


@lru_cache(maxsize=1)
def _client_of_process(settings: Settings) -> ObjectStore:
    return ObjectStore(settings)
