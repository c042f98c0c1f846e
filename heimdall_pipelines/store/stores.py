"""Both stores of a process, opened from the settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.objects import ObjectStore


@dataclass(frozen=True)
class Stores:
    """The database of rows and the store of objects."""

    database: Database
    objects: ObjectStore


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Open both stores; connections are made when they are first needed and closed at the end."""
    objects = ObjectStore(settings)
    try:
        with Database(settings) as database:
            yield Stores(database, objects)
    finally:
        objects.close()
