"""Objects in the S3 store: writes streams, reads ranges, distinguishes outages from missing objects."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import count, islice
from typing import BinaryIO, Protocol

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.object_files import sync_files

PART_SIZE_BYTES = 16 * 2**20
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
ATTEMPTS = 3
PATIENT_ATTEMPTS = 8  # 40 s with their pauses
CONNECTIONS = 10
DAMAGED_AFTER_S = 20.0  # SeaweedFS itself tries for 13 s to read rotten bytes
LONGEST_PAUSE_S = 4.0
OTHERS_TRIED = 2
LOW_SPACE_BYTES = 2**30  # SeaweedFS takes nothing into a bucket once no volume of 256 MiB is left for it
NOT_FOUND_CODES = {"NoSuchKey", "NoSuchObject", "ResourceNotFound"}
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


class ObjectUnreadableError(HeimdallError):
    """One object cannot be read, now or later, while the store works: an entry in a report, not an outage."""


class ObjectNotFoundError(ObjectUnreadableError):
    """There is no object under this key."""


class ObjectDamagedError(ObjectUnreadableError):
    """The store fails to read this object, again and again, while it reads others of the same bucket."""


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

    @classmethod
    def readable(cls, text: str | None) -> "ObjectLocation | None":
        """Read what a column holds; None where it holds nothing or is malformed."""
        with suppress(HeimdallError):
            return cls.parse(text or "")
        return None


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
        self._attempts = attempts
        self.raw_iq_bucket = settings.s3_bucket_raw_iq
        self.synthetic_iq_bucket = settings.s3_bucket_synthetic_iq
        self._where = f"S3 store at {settings.s3_endpoint}"
        self._http = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            retries=urllib3.Retry(
                total=attempts - 1,
                backoff_factor=0.3,
                status_forcelist=[500, 502, 503, 504],
                raise_on_status=False,  # the last answer says why
            ),
        )
        # Reads repeat an answer of status 500 themselves: one object that cannot be read may be the reason.
        self._http_reads = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            timeout=self._http.connection_pool_kw["timeout"],
            retries=urllib3.Retry(
                total=attempts - 1, backoff_factor=0.3, status_forcelist=[502, 503, 504], raise_on_status=False
            ),
        )
        self._client, self._reads = (_client(settings, http) for http in (self._http, self._http_reads))

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
        self._http_reads.clear()

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
        with self._errors(str(location), is_put=True):
            stored = self._client.put_object(
                location.bucket,
                location.key,
                source,  # type: ignore[arg-type]
                length,
                content_type=content_type,
                part_size=PART_SIZE_BYTES if length > PART_SIZE_BYTES else 0,
            )
        return bare_etag(stored.etag)

    def put_slowly(
        self, location: ObjectLocation, source: ByteSource, length: int, content_type: str, part_size_bytes: int
    ) -> str:
        """Store ``length`` bytes of a slow source; no part is in memory while the source is read.

        Returns and raises as `put`, and what the source raises; then nothing is stored.
        """
        if length <= part_size_bytes:
            return self.put(location, source, length, content_type)
        where = location.bucket, location.key
        with self._errors(str(location), is_put=True):
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
        return bare_etag(stored.etag)

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
        """Bytes ``offset`` to ``offset + length`` of an object, fewer only at its end.

        Raises
        ------
        ObjectNotFoundError
            Nothing is stored under this key.
        ObjectDamagedError
            The store answers, but has failed to read these bytes for 20 s, while it reads other objects of the bucket.
        ObjectsUnavailableError
            The store could not be reached, or reads no object.
        """
        began = time.monotonic()
        for attempt in count():
            try:
                return self._read(location, offset, length)
            except ObjectsUnavailableError as error:
                if not _is_answer(error.__cause__):
                    raise
                if attempt:
                    if not self._reads_others(location):
                        if attempt + 1 >= self._attempts:
                            raise
                    elif time.monotonic() - began >= DAMAGED_AFTER_S:
                        raise _damaged(self._where, location, error.__cause__) from error
            time.sleep(min(0.3 * 2**attempt, LONGEST_PAUSE_S))
        raise AssertionError

    def read_whole(self, location: ObjectLocation) -> bytes:
        """All bytes of a small object by a single request; errors are those of `read`."""
        return self.read(location, 0, 0)  # to the client no offset and no length mean no range

    def sync_before_commit(self, bucket: str) -> None:
        """Write to disk what a store on this machine has taken, if HEIMDALL_S3_SYNC asks for it for this bucket's rows.

        Called before the rows that name the objects are committed, which PostgreSQL writes to disk: after a power cut
        no row is without its object. Another store's server decides that itself.

        Raises
        ------
        ObjectsUnavailableError
            The disk failed.
        """
        folder, wanted = self._settings.s3_folder, self._settings.s3_sync
        if folder is None or wanted == "none" or (wanted == "sessions" and bucket != self.raw_iq_bucket):
            return
        try:
            sync_files(folder)
        except OSError as error:
            raise ObjectsUnavailableError(
                f"{self._where}: its files in {folder} (HEIMDALL_S3_FOLDER) could not be written to disk: "
                f"{error.strerror}; no row was committed"
            ) from error

    def entries(self, bucket: str, prefix: str) -> Iterator[ObjectEntry]:
        """Objects below a prefix, streamed in pages of 1000: memory does not grow with their number."""
        with self._errors(f"{bucket}/{prefix}"):
            for entry in self._client.list_objects(bucket, prefix=prefix, recursive=True):
                assert entry.object_name is not None
                assert entry.size is not None
                assert entry.last_modified is not None
                yield ObjectEntry(entry.object_name, entry.size, bare_etag(entry.etag), entry.last_modified)

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

    def _read(self, location: ObjectLocation, offset: int, length: int) -> bytes:
        with self._errors(str(location)):
            return whole_body(self._reads.get_object(location.bucket, location.key, offset=offset, length=length))

    def _reads_others(self, location: ObjectLocation) -> bool:
        """Whether the store reads a byte of another object of the bucket; of those next to it, or of the first ones."""
        bucket = location.bucket
        with suppress(HeimdallError), self._errors(bucket):
            for start_after in (location.key, None):
                listed = self._client.list_objects(bucket, recursive=True, start_after=start_after)
                others = (x for x in listed if x.size and x.object_name and x.object_name != location.key)
                for other in islice(others, OTHERS_TRIED):
                    with suppress(ObjectsUnavailableError, ObjectNotFoundError):
                        self._read(ObjectLocation(bucket, str(other.object_name)), 0, 1)
                        return True
        return False

    def _free_if_low(self) -> str | None:
        """What is free where the store's files are, if that may be why it took nothing; None elsewhere."""
        folder = self._settings.s3_folder
        with suppress(OSError):
            if folder is not None and (free := shutil.disk_usage(folder).free) < LOW_SPACE_BYTES:
                return f"{free / 1e6:.0f} MB are free in {folder}, of which it allocates 268 MB at a time"
        return None

    @contextmanager
    def _errors(self, what: str, *, is_put: bool = False) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in NOT_FOUND_CODES:
                raise ObjectNotFoundError(f"IQ file not found: {what}") from error
            if error.code == "NoSuchBucket":
                raise ObjectsRefusedError(
                    f"{self._where}: bucket not found for {what}; create it with: heimdall db migrate"
                ) from error
            if error.code in _FULL:
                said = f"{error.code}: {error.message}" if error.message else str(error.code)
                raise ObjectsFullError(_no_room(self._where, what, said)) from error
            if error.code in _REFUSED:
                raise ObjectsRefusedError(
                    f"{self._where} refuses the credentials for {what} ({error.code}): "
                    "see HEIMDALL_S3_ACCESS_KEY and HEIMDALL_S3_SECRET_KEY, and deploy/s3/README.md for their rights"
                ) from error
            if is_put and (free := self._free_if_low()) is not None:
                raise ObjectsFullError(_no_room(self._where, what, free)) from error
            raise ObjectsUnavailableError(f"{self._where}: {error.code} for {what}: {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise ObjectsUnavailableError(f"{self._where}: {what}: {error}") from error


def _client(settings: Settings, http: urllib3.PoolManager) -> Minio:
    return Minio(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=settings.s3_secure,
        region=settings.s3_region,
        http_client=http,
    )


def _is_answer(cause: BaseException | None) -> bool:
    """Whether the store answered, with an error or with the object's first part: it can be reached."""
    return isinstance(cause, S3Error | ServerError | InvalidResponseError | urllib3.exceptions.ProtocolError)


def _damaged(where: str, location: ObjectLocation, cause: BaseException | None) -> ObjectDamagedError:
    said = f"{cause.code}: {cause.message}" if isinstance(cause, S3Error) else str(cause).partition("\n")[0]
    return ObjectDamagedError(
        f"IQ file is damaged: {location}: {where} cannot read it, but reads other objects of the bucket ({said})"
    )


def _no_room(where: str, what: str, why: str) -> str:
    return f"{where} has no room for {what} ({why}): free space or add some, then run the same again; nothing is lost"


def _exactly(source: ByteSource, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError(f"expected {size} bytes, received {len(data)}")
    return data


def whole_body(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read the body of an answer, and give its connection back."""
    try:
        return bytes(response.read())
    finally:
        response.close()
        response.release_conn()


def bare_etag(etag: str | None) -> str:
    """An ETag without the quotes that some answers have."""
    return (etag or "").strip('"')


@lru_cache(maxsize=1)
def _client_of_process(settings: Settings) -> ObjectStore:
    return ObjectStore(settings)
