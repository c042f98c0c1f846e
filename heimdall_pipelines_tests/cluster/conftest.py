"""One deployment for all of these tests: Dagster's daemon and a worker take half a minute to start."""

from collections.abc import Iterator

import dagster as dg
import pytest

from heimdall_pipelines.cluster import heartbeat
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.cluster.deployment import Deployment, deployment
from heimdall_pipelines_tests.datasets.support import database_of_module, empty


@pytest.fixture(autouse=True)
def _patience_with_redis(monkeypatch) -> None:
    """Let tests wait for Redis where a run would go on without: a busy machine may stand still for a moment."""
    monkeypatch.setattr(heartbeat, "REDIS_TIMEOUT_S", 600.0)


@pytest.fixture(scope="package")
def cluster(server_settings, _template, tmp_path_factory) -> Iterator[Deployment]:
    with (
        database_of_module(server_settings) as settings,
        deployment(tmp_path_factory.mktemp("cluster"), settings) as made,
    ):
        yield made
        made.end_everything()  # what a run stores after the buckets were emptied, the next file of tests would find
        empty(settings)


@pytest.fixture(scope="package")
def instance(cluster) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as opened:
        yield opened


@pytest.fixture(scope="package")
def cluster_stores(cluster) -> Iterator[Stores]:
    with open_stores(cluster.settings) as opened:
        yield opened
