"""Runs that wait in Redis for a free slot of a worker."""

import json
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis  # with the extra `cluster`

QUEUE = "dagster"  # the queue that dagster-celery's app declares
_LISTS = (QUEUE, *(f"{QUEUE}\x06\x16{priority}" for priority in (3, 6, 9)))  # Kombu has one list per priority step


def num_waiting_runs(client: "redis.Redis") -> int:
    """Number of waiting runs; raises the errors of the Redis client."""
    return sum(int(client.llen(name)) for name in _LISTS)


def waiting_runs(client: "redis.Redis") -> set[str]:
    """Ids of the waiting runs, which are the ids of their tasks; raises the errors of the Redis client."""
    messages = chain.from_iterable(client.lrange(name, 0, -1) for name in _LISTS)
    return {json.loads(message)["headers"]["id"] for message in messages}
