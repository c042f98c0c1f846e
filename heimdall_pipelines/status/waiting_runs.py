"""Redis, and the runs that wait in it for a free slot of a worker."""

import json
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import redis  # with the extra `cluster`

QUEUE = "dagster"  # the queue that dagster-celery's app declares
_LISTS = (QUEUE, *(f"{QUEUE}\x06\x16{priority}" for priority in (3, 6, 9)))  # Kombu has one list per priority step


def redis_client(url: str, timeout_s: float) -> "redis.Redis":
    """Client of Redis; it connects on first use, and reconnects after an outage."""
    import redis

    return redis.Redis.from_url(url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)


def redis_address(url: str) -> str:
    """Host and port of Redis's URL, without its password.

    >>> redis_address("redis://:secret@queue.example/0")
    'queue.example:6379'
    """
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


def num_waiting_runs(client: "redis.Redis") -> int:
    """Number of waiting runs; raises the errors of the Redis client."""
    return sum(int(client.llen(name)) for name in _LISTS)


def waiting_runs(client: "redis.Redis") -> set[str]:
    """Ids of the waiting runs, which are the ids of their tasks; raises the errors of the Redis client."""
    messages = chain.from_iterable(client.lrange(name, 0, -1) for name in _LISTS)
    return {json.loads(message)["headers"]["id"] for message in messages}
