"""What a run at work leaves in Redis every two seconds, for run monitoring.

A worker that was told to stop lets its runs end, but no longer answers who asks it for them.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from heimdall_pipelines.cluster.celery_settings import redis_url
from heimdall_pipelines.settings import LocalSettings

INTERVAL_S = 2.0
LASTS_S = 10  # some signs may be late: a machine may be busy, and Redis be started anew
REDIS_PATIENCE_S = 2.0
_logger = logging.getLogger(__name__)


def heartbeats_in(settings: LocalSettings) -> redis.Redis:
    """Redis as the place of the signs; it connects when it is asked something, and anew after an outage."""
    return redis.Redis.from_url(
        redis_url(settings), socket_connect_timeout=REDIS_PATIENCE_S, socket_timeout=REDIS_PATIENCE_S
    )


@contextmanager
def heartbeat(settings: LocalSettings, run_id: str) -> Iterator[None]:
    """Leave signs until the end of the block; where Redis is away, the block goes on without."""
    ended = threading.Event()
    thread = threading.Thread(target=_send_heartbeats, args=(settings, run_id, ended), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_alive(signs: redis.Redis, run_id: str) -> bool:
    """Whether the run left a sign within the last ``LASTS_S``; raises what the client of Redis raises."""
    return bool(signs.exists(_key(run_id)))


def _send_heartbeats(settings: LocalSettings, run_id: str, ended: threading.Event) -> None:
    is_away = False
    with heartbeats_in(settings) as signs:
        while True:
            try:
                signs.set(_key(run_id), 1, ex=LASTS_S)
                is_away = False
            except (redis.RedisError, OSError) as error:
                if not is_away:
                    _logger.warning("run %s leaves no heartbeat while Redis is away: %s", run_id, error)
                is_away = True
            if ended.wait(INTERVAL_S):
                break
        if not is_away:  # else the last sign goes by itself
            with suppress(redis.RedisError, OSError):
                signs.delete(_key(run_id))


def _key(run_id: str) -> str:
    return f"heimdall:run:{run_id}"
