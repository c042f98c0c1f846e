"""Orphans: objects of datasets and sessions without row, which a process killed during a deletion leaves behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from heimdall_pipelines.store.iq_objects import DATASETS_PREFIX, SESSIONS_PREFIX
from heimdall_pipelines.store.stores import Stores

MIN_AGE = timedelta(hours=1)


@dataclass(frozen=True)
class OrphanFolder:
    """A folder of objects whose dataset or session has no row.

    Attributes
    ----------
    bucket, prefix : str
    num_objects, num_bytes : int
    is_young : bool
        An object in it is younger than an hour: it may still be written, so the folder is not removed.
    """

    bucket: str
    prefix: str
    num_objects: int
    num_bytes: int
    is_young: bool


def find_orphans(stores: Stores, min_age: timedelta = MIN_AGE) -> Iterator[OrphanFolder]:
    """Search both buckets; a dataset or session that is added meanwhile is not reported: its row precedes objects.

    Raises
    ------
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    objects = stores.objects
    for bucket, prefix, table in (
        (objects.synthetic_iq_bucket, DATASETS_PREFIX, "synthetic_datasets"),
        (objects.raw_iq_bucket, SESSIONS_PREFIX, "recording_sessions"),
    ):
        folders = list(objects.folders(bucket, prefix))  # before the rows are read, see above
        with stores.database.transaction() as connection:
            known = set(connection.execute(text(f"SELECT id::text FROM heimdall.{table}")).scalars())
        for folder in folders:
            if folder in known:
                continue
            orphan = _orphan(stores, bucket, f"{prefix}{folder}/", datetime.now(UTC) - min_age)
            if orphan.num_objects:  # SeaweedFS still lists a folder whose objects were removed
                yield orphan


def remove_orphan(stores: Stores, orphan: OrphanFolder) -> None:
    """Remove the objects of an orphan folder."""
    stores.objects.remove(orphan.bucket, orphan.prefix)


def _orphan(stores: Stores, bucket: str, prefix: str, old_before: datetime) -> OrphanFolder:
    num_objects = num_bytes = 0
    is_young = False
    for entry in stores.objects.entries(bucket, prefix):
        num_objects += 1
        num_bytes += entry.size_bytes
        is_young |= entry.modified_at > old_before
    return OrphanFolder(bucket, prefix, num_objects, num_bytes, is_young)
