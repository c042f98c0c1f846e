"""Checks that Redis answers, with a message for the operator."""

import redis

from heimdall_pipelines.cluster.celery_settings import redis_url
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.waiting_runs import redis_address, redis_client

TIMEOUT_S = 5.0


class RedisUnavailableError(UnavailableError):
    """Redis could not be reached, or refuses the password."""


def check_redis(settings: LocalSettings) -> str:
    """Send Redis one request.

    Returns
    -------
    str
        Its address without the password.

    Raises
    ------
    RedisUnavailableError
        It does not answer, or refuses.
    """
    url = redis_url(settings)
    where = redis_address(url)
    try:
        with redis_client(url, TIMEOUT_S) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise RedisUnavailableError(f"Redis at {where} (HEIMDALL_REDIS_URL): {error}") from error
    return where
