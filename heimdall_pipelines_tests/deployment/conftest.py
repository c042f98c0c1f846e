"""Servers for deployments: two empty databases and buckets of their own."""

from collections.abc import Iterator

import pytest

from heimdall_pipelines.settings import Settings
from heimdall_pipelines_tests.deployment.servers import empty_servers


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
