"""The heartbeat of a run, on a real Redis."""

import pytest

from heimdall_pipelines.cluster.heartbeat import heartbeat, heartbeats_in, is_alive
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines_tests.dev_server import wait_for
from heimdall_pipelines_tests.redis_server import RedisServer

pytestmark = pytest.mark.programs


def test_a_run_writes_heartbeats_also_after_redis_lost_them():
    with RedisServer() as redis:
        settings = LocalSettings(run_launcher="celery", redis_url=redis.url)
        signs = heartbeats_in(settings)
        with heartbeat(settings, "this"):
            wait_for("a sign", lambda: is_alive(signs, "this"))
            assert not is_alive(signs, "another")
            signs.set("beside it", 1)
            redis.kill()
            redis.start()
            assert not signs.exists("beside it")  # so that the sign that comes is a new one
            wait_for("a sign anew", lambda: is_alive(signs, "this"))
        assert not is_alive(signs, "this")
