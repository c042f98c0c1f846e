"""One deployment for all of these tests, whose services take half a minute to start; each test starts its workers."""

from collections.abc import Iterator

import dagster as dg
import pytest

from heimdall_pipelines.cluster import heartbeat
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.deployment.servers import empty_servers
from heimdall_pipelines_tests.deployment.services import FAST, Deployment

VARIABLES = {
    "HEIMDALL_MAX_CONCURRENT_RUNS": "6",  # so that no summary in Redis keeps what a test waits for in the queue
    "HEIMDALL_MAX_GENERATION_RUNS": "2",
    "HEIMDALL_WORKER_SLOTS": "1",
    "HEIMDALL_WORKERS": "2",
}


@pytest.fixture(autouse=True)
def _long_redis_timeout(monkeypatch) -> None:
    """Let tests wait for Redis where a run would go on without: a busy machine may stand still for a moment."""
    monkeypatch.setattr(heartbeat, "REDIS_TIMEOUT_S", 600.0)


@pytest.fixture(scope="package")
def cluster(server_settings, tmp_path_factory) -> Iterator[Deployment]:
    with empty_servers(server_settings) as settings:
        made = Deployment(
            settings,
            tmp_path_factory.mktemp("cluster"),
            num_workers=0,
            variables=VARIABLES,
            dagster_config=FAST,
            services=("redis", "migrate", "code", "daemon"),
        )
        try:
            made.start()
            with made.environment_of_this_process():
                yield made
        finally:
            made.end_everything()


@pytest.fixture(scope="package")
def instance(cluster) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as opened:
        yield opened


@pytest.fixture(scope="package")
def cluster_stores(cluster) -> Iterator[Stores]:
    with open_stores(cluster.settings) as opened:
        yield opened
