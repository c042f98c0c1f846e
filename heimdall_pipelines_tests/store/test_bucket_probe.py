import pytest
from pydantic import SecretStr

from heimdall_pipelines.store.bucket_probe import UnclearAnswerError, probed_missing_buckets
from heimdall_pipelines.store.objects import ObjectStore


def test_the_probe_gives_the_same_as_the_client(settings):
    assert probed_missing_buckets(settings) == []
    other = settings.model_copy(update={"s3_bucket_raw_iq": "no-such", "s3_bucket_compute_logs": "no-logs"})
    objects = ObjectStore(other)
    try:
        assert probed_missing_buckets(other) == objects.missing_buckets() == ["no-such", "no-logs"]
    finally:
        objects.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"s3_secret_key": SecretStr("wrong")}, "403"),  # the signature is compared
        ({"s3_access_key": "unknown"}, "403"),
        ({"s3_endpoint": "127.0.0.1:1"}, "Connection refused"),
    ],
)
def test_anything_else_is_left_to_the_client(settings, change, words):
    with pytest.raises(UnclearAnswerError, match=words):
        probed_missing_buckets(settings.model_copy(update=change))
