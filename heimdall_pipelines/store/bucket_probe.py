"""Checks that the buckets exist without the S3 client, whose import takes longer than the rest of `heimdall status`.

The request is HEAD of a bucket, signed as Amazon's documentation of S3 describes for version 4
(docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
"""

import hashlib
import hmac
import http.client
from contextlib import closing
from datetime import UTC, datetime

from heimdall_pipelines.settings import Settings

TIMEOUT_S = 5.0
_NO_BODY = hashlib.sha256(b"").hexdigest()
_SIGNED_HEADERS = ("host", "x-amz-content-sha256", "x-amz-date")


class UnclearAnswerError(Exception):
    """The answer shows neither that a bucket exists nor that it is missing; the S3 client reports the reason."""


def probed_missing_buckets(settings: Settings) -> list[str]:
    """Buckets of the settings that do not exist, as `ObjectStore.missing_buckets`.

    Raises
    ------
    UnclearAnswerError
        The store cannot be reached, or refuses, redirects or fails.
    """
    buckets = (settings.s3_bucket_raw_iq, settings.s3_bucket_synthetic_iq, settings.s3_bucket_compute_logs)
    connect = http.client.HTTPSConnection if settings.s3_secure else http.client.HTTPConnection
    try:
        with closing(connect(settings.s3_endpoint, timeout=TIMEOUT_S)) as connection:
            return [bucket for bucket in filter(None, buckets) if not _is_there(connection, settings, bucket)]
    except (OSError, http.client.HTTPException) as error:
        raise UnclearAnswerError(str(error)) from error


def _is_there(connection: http.client.HTTPConnection, settings: Settings, bucket: str) -> bool:
    connection.request("HEAD", f"/{bucket}", headers=_signed_headers(settings, f"/{bucket}", datetime.now(UTC)))
    answer = connection.getresponse()
    answer.read()
    if answer.status not in (http.client.OK, http.client.NOT_FOUND):
        raise UnclearAnswerError(f"status {answer.status}")
    return answer.status == http.client.OK


def _signed_headers(settings: Settings, path: str, now: datetime) -> dict[str, str]:
    time, day = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}"
    headers = dict(zip(_SIGNED_HEADERS, (settings.s3_endpoint, _NO_BODY, time), strict=True))
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"HEAD\n{path}\n\n{lines}\n{';'.join(_SIGNED_HEADERS)}\n{_NO_BODY}"
    scope = f"{day}/{settings.s3_region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{settings.s3_secret_key.get_secret_value()}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, to_sign).hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={settings.s3_access_key}/{scope},"
        f"SignedHeaders={';'.join(_SIGNED_HEADERS)},Signature={signature}"
    )
    return headers


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
