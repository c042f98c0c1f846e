"""`heimdall worker` refuses to start where it could do nothing, in one line that names the variable."""

import os
import subprocess

import pytest

from heimdall_pipelines.settings import ENV_PREFIX
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.dev_server import HEIMDALL
from heimdall_pipelines_tests.redis_server import RedisServer

pytestmark = pytest.mark.programs


@pytest.fixture
def workers_words(environment, tmp_path):
    """Start a worker with some variables changed, and give what it says when it ends."""

    (tmp_path / "dagster.yaml").symlink_to(PROJECT_FOLDER / "dagster.yaml")

    outside = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}

    def words(**changes: str) -> str:
        ended = subprocess.run(
            [*HEIMDALL, "worker"],
            env=outside | environment | {"DAGSTER_HOME": str(tmp_path)} | changes,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        return " ".join(ended.stderr.split())

    return words


@pytest.mark.slow
def test_a_worker_that_cannot_work_says_why(workers_words):
    assert "HEIMDALL_RUN_LAUNCHER is local" in workers_words()
    assert "HEIMDALL_REDIS_URL is not set" in workers_words(HEIMDALL_RUN_LAUNCHER="celery")
    with RedisServer() as redis:
        celery = {"HEIMDALL_RUN_LAUNCHER": "celery", "HEIMDALL_REDIS_URL": redis.url}
        wrong = redis.url.replace(redis.password, "wrong-pass")
        said = workers_words(**celery | {"HEIMDALL_REDIS_URL": wrong})
        assert f"Redis at {redis.host}:{redis.port} (HEIMDALL_REDIS_URL)" in said
        assert "wrong-pass" not in said
        assert "PostgreSQL at 127.0.0.1:1/" in (said := workers_words(**celery, HEIMDALL_PG_PORT="1"))
        assert "HEIMDALL_PG_HOST" in said
        said = workers_words(**celery, HEIMDALL_S3_ENDPOINT="127.0.0.1:1")
        assert "S3 store at 127.0.0.1:1" in said
        assert "HEIMDALL_S3_ENDPOINT" in said
