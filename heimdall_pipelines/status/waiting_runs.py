"""Runs that wait in Redis for a worker's free slot."""

import json
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis  # with the extra `cluster`

QUEUE = "dagster"  # the one that dagster-celery's app declares
_LISTS = (QUEUE, *(f"{QUEUE}\x06\x16{priority}" for priority in (3, 6, 9)))  # Kombu keeps one for each step of priority


def num_waiting_runs(client: "redis.Redis") -> int:
    """How many wait; raises what the client of Redis raises."""
    return sum(int(client.llen(name)) for name in _LISTS)


def waiting_runs(client: "redis.Redis") -> set[str]:
    """Ids of the runs that wait: those of their tasks. Raises what the client of Redis raises."""
    messages = chain.from_iterable(client.lrange(name, 0, -1) for name in _LISTS)
    return {json.loads(message)["headers"]["id"] for message in messages}
