"""Resources of assets, checks and sensors: the stores, opened from the settings, and the settings."""

from collections.abc import Iterator

import dagster as dg

from heimdall_pipelines.settings import Settings, load_settings
from heimdall_pipelines.store.stores import Stores, open_stores


@dg.resource(description="PostgreSQL and the S3 store, configured by environment variables.")
def stores_resource(_context: dg.InitResourceContext) -> Iterator[Stores]:
    """Open both stores for the duration of a run or a tick.

    It has no config, but reads the environment, so that no secret shows in the UI.
    """
    with open_stores(load_settings()) as stores:
        yield stores


@dg.resource(description="Settings from environment variables; secrets never show.")
def settings_resource(_context: dg.InitResourceContext) -> Settings:
    """Read the settings for each run or tick; it has no config, for the same reason as the stores."""
    return load_settings()
