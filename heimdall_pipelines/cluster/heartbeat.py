"""Heartbeats of running runs in Redis, every two seconds, for run monitoring.

A worker that is stopping lets its runs end, but no longer answers queries about them.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from heimdall_pipelines.cluster.celery_settings import redis_url
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.waiting_runs import redis_client

INTERVAL_S = 2.0
LIFETIME_S = 10  # some heartbeats may be late: a machine may be busy, and Redis may restart
REDIS_TIMEOUT_S = 2.0
_logger = logging.getLogger(__name__)


def heartbeats_in(settings: LocalSettings) -> redis.Redis:
    """Client of Redis for heartbeats, as `redis_client` returns it."""
    return redis_client(redis_url(settings), REDIS_TIMEOUT_S)


@contextmanager
def heartbeat(settings: LocalSettings, run_id: str) -> Iterator[None]:
    """Send heartbeats until the end of the block; while Redis is unavailable, the block continues without them."""
    ended = threading.Event()
    thread = threading.Thread(target=_send_heartbeats, args=(settings, run_id, ended), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_alive(heartbeats: redis.Redis, run_id: str) -> bool:
    """Whether the run sent a heartbeat in the last ``LIFETIME_S`` seconds; raises the errors of the Redis client."""
    return bool(heartbeats.exists(_key(run_id)))


def _send_heartbeats(settings: LocalSettings, run_id: str, ended: threading.Event) -> None:
    is_unavailable = False
    with heartbeats_in(settings) as heartbeats:
        while True:
            try:
                heartbeats.set(_key(run_id), 1, ex=LIFETIME_S)
                is_unavailable = False
            except (redis.RedisError, OSError) as error:
                if not is_unavailable:
                    _logger.warning("run %s sends no heartbeats while Redis is unavailable: %s", run_id, error)
                is_unavailable = True
            if ended.wait(INTERVAL_S):
                break
        if not is_unavailable:  # otherwise the last heartbeat expires
            with suppress(redis.RedisError, OSError):
                heartbeats.delete(_key(run_id))


def _key(run_id: str) -> str:
    return f"heimdall:run:{run_id}"
