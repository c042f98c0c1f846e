"""Servers for deployments: two empty databases and buckets of their own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines_tests.conftest import execute_on_server


@contextmanager
def empty_servers(server: Settings) -> Iterator[Settings]:
    """Settings with two empty databases, and three buckets that do not exist yet; only these stay, empty."""
    name = f"deployment-{uuid.uuid4().hex[:12]}"
    own = server.model_copy(
        update={
            "pg_database": f"{name}-heimdall".replace("-", "_"),
            "pg_dagster_database": f"{name}-dagster".replace("-", "_"),
            "s3_bucket_raw_iq": f"{name}-raw-iq",
            "s3_bucket_synthetic_iq": f"{name}-synthetic-iq",
            "s3_bucket_compute_logs": f"{name}-compute-logs",
        }
    )
    databases = (own.pg_database, own.pg_dagster_database)
    for database in databases:
        execute_on_server(own, f"CREATE DATABASE {database}")
    yield own
    objects = ObjectStore(own)
    for bucket in (own.s3_bucket_raw_iq, own.s3_bucket_synthetic_iq, own.s3_bucket_compute_logs):
        objects.remove(bucket, "")
    objects.close()
    for database in databases:
        execute_on_server(own, f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture
def deployment_settings(server_settings) -> Iterator[Settings]:
    """Empty servers of one test."""
    with empty_servers(server_settings) as own:
        yield own


@pytest.fixture(scope="module")
def module_deployment_settings(server_settings) -> Iterator[Settings]:
    """Empty servers of all tests of a module."""
    with empty_servers(server_settings) as own:
        yield own
