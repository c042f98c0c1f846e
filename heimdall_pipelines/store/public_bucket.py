"""A public bucket that is read without credentials by the S3 protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from heimdall_pipelines.store.objects import (
    CONNECT_TIMEOUT_S,
    NOT_FOUND_CODES,
    READ_TIMEOUT_S,
    ObjectEntry,
    ObjectNotFoundError,
    ObjectsUnavailableError,
    bare_etag,
    whole_body,
)

_ATTEMPTS = 5
_REGION = "eu-central-1"


class PublicBucket:
    """Client of a bucket; failed requests are repeated with back-off.

    Parameters
    ----------
    endpoint : str
        ``https://host`` or ``http://host:port``.
    bucket : str
    """

    def __init__(self, endpoint: str, bucket: str) -> None:
        address = urlsplit(endpoint)
        self.bucket = bucket
        self._where = f"{endpoint}/{bucket}"
        self._client = Minio(
            endpoint=address.netloc,
            secure=address.scheme == "https",
            region=_REGION,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
                retries=urllib3.Retry(total=_ATTEMPTS, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504]),
            ),
        )

    def entry(self, key: str) -> ObjectEntry:
        """Size and ETag of an object.

        Raises
        ------
        ObjectNotFoundError
            There is none.
        ObjectsUnavailableError
            The server could not be reached, or refuses the request.
        """
        with self._errors(key):
            found = self._client.stat_object(self.bucket, key)
        assert found.size is not None
        assert found.last_modified is not None
        return ObjectEntry(key, found.size, bare_etag(found.etag), found.last_modified)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes ``offset`` to ``offset + length`` of an object; raises as `entry`."""
        with self._errors(key):
            return whole_body(self._client.get_object(self.bucket, key, offset=offset, length=length))

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in NOT_FOUND_CODES:
                raise ObjectNotFoundError(f"{self._where} has no {key}") from error
            raise ObjectsUnavailableError(f"{self._where}: {error.code} for {key}: {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise ObjectsUnavailableError(f"{self._where}: {key}: {error}") from error
