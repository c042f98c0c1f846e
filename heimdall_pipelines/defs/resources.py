"""What assets, checks and sensors are given: the stores, opened from the settings, and the settings themselves."""

from collections.abc import Iterator

import dagster as dg

from heimdall_pipelines.settings import Settings, load_settings
from heimdall_pipelines.store.stores import Stores, open_stores


@dg.resource(description="PostgreSQL and the S3 store, reached as the environment says.")
def stores_resource(_context: dg.InitResourceContext) -> Iterator[Stores]:
    """Open both stores for as long as a run or a tick lasts.

    It has no config: what it needs is in the environment, so that no secret shows in the UI.
    """
    with open_stores(load_settings()) as stores:
        yield stores


@dg.resource(description="The settings of the environment; their secrets never show.")
def settings_resource(_context: dg.InitResourceContext) -> Settings:
    """Read the settings anew for each run or tick; it has no config, as the stores have none."""
    return load_settings()
