"""Rows that a test wrote with SQL, as if heimdall had written them: with the digests that it gives them."""

from sqlalchemy import text

from heimdall_pipelines.store.digest_filling import fill_digests
from heimdall_pipelines.store.digests import DIGESTED_TABLES
from heimdall_pipelines.store.stores import Stores


def reseal(stores: Stores) -> None:
    """Give every row the digest of what it is now, and batches, datasets and sessions their roots."""
    with stores.database.transaction() as connection:
        for statement in (
            *(f"UPDATE heimdall.{table} SET digest = NULL" for table in DIGESTED_TABLES),
            "UPDATE heimdall.synthetic_batches SET parameters_digest = NULL",
            "UPDATE heimdall.synthetic_datasets SET parameters_digest = NULL",
            "DELETE FROM heimdall.dataset_parameters",
        ):
            connection.execute(text(statement))
        fill_digests(connection)
        for table in ("synthetic_datasets", "recording_sessions"):
            connection.execute(text(f"UPDATE heimdall.{table} SET digests_since = NULL"))
