"""Objects of datasets and sessions that are no more: what a process killed in the middle of a deletion leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

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
        An object in it is younger than an hour: somebody may be writing it, so it is left alone.
    """

    bucket: str
    prefix: str
    num_objects: int
    num_bytes: int
    is_young: bool


def find_orphans(stores: Stores, min_age: timedelta = MIN_AGE) -> Iterator[OrphanFolder]:
    """Look through both buckets; a dataset or session that is added meanwhile is none, its row comes before objects.

    Raises
    ------
    UnavailableError
        PostgreSQL or the S3 store could not be asked.
    """
    objects = stores.objects
    for bucket, prefix, table in (
        (objects.synthetic_iq_bucket, "synthetic/", "synthetic_datasets"),
        (objects.raw_iq_bucket, "sessions/", "recording_sessions"),
    ):
        folders = list(objects.folders(bucket, prefix))  # before the rows are asked for, see above
        with stores.database.transaction() as connection:
            known = set(connection.execute(text(f"SELECT id::text FROM heimdall.{table}")).scalars())
        for folder in folders:
            if folder in known:
                continue
            leftover = _leftover(stores, bucket, f"{prefix}{folder}/", datetime.now(UTC) - min_age)
            if leftover.num_objects:  # SeaweedFS goes on listing a folder whose objects were removed
                yield leftover


def remove_orphan(stores: Stores, leftover: OrphanFolder) -> None:
    """Remove the objects of a leftover that is not young."""
    stores.objects.remove(leftover.bucket, leftover.prefix)


def _leftover(stores: Stores, bucket: str, prefix: str, old_before: datetime) -> OrphanFolder:
    num_objects = num_bytes = 0
    is_young = False
    for entry in stores.objects.entries(bucket, prefix):
        num_objects += 1
        num_bytes += entry.size_bytes
        is_young |= entry.modified_at > old_before
    return OrphanFolder(bucket, prefix, num_objects, num_bytes, is_young)
