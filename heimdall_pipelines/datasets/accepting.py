"""Takes over edits of a dataset that were made by hand, so that validation trusts them from then on."""

from collections.abc import Iterator
from hashlib import sha256

from heimdall_pipelines.store.accepting import accept_dataset_rows
from heimdall_pipelines.store.dataset_locks import exclusive_lock
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, open_snapshot
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines.store.iq_form import sidecar_key
from heimdall_pipelines.store.objects import ObjectLocation, ObjectNotFoundError, ObjectStore
from heimdall_pipelines.store.stores import Stores


def accept_dataset(stores: Stores, name: str, *, reason: str | None) -> Iterator[str]:
    """Find every edit of a dataset's rows, parameters and sidecars, and take them over if there is a reason.

    What is generated from parameters that were taken over differs from the samples that are there.

    Parameters
    ----------
    stores : Stores
    name : str
        The dataset's, as it is now.
    reason : str or None
        None: nothing is changed.

    Yields
    ------
    str
        Each edit, in words. All are taken over in one transaction, at the end of the iteration.

    Raises
    ------
    InvalidSpecError
        This version cannot read the parameters, so they are not taken over.
    DatasetNotFoundError, DatasetLockedError, UnavailableError
    """
    dataset = get_dataset(stores.database, name)
    if reason is not None:
        _ = dataset.spec  # raises if this version cannot read it
    with exclusive_lock(stores.database, dataset.id, name):
        with open_snapshot(stores.database, name) as snapshot:
            grid = snapshot.dataset.grid if reason is None else dataset.grid
            sums = _sidecars(stores.objects, snapshot)
        with stores.database.transaction() as connection:
            yield from accept_dataset_rows(connection, dataset.id, grid, reason, sums)


def _sidecars(objects: ObjectStore, snapshot: DatasetSnapshot) -> dict[int, dict[str, str]]:
    """Digests of the sidecars whose digests IQ rows do not have, by sample and rx_id."""
    found: dict[int, dict[str, str]] = {}
    for row in snapshot.stored_iq_as_listed():
        for rx_id, key in row.paths.items():
            location = ObjectLocation(objects.synthetic_iq_bucket, sidecar_key(key))
            try:
                content = objects.read_whole(location)
            except ObjectNotFoundError:
                continue  # missing: another check's subject
            digest = sha256(content).hexdigest()
            if digest != row.sidecar_sha256.get(rx_id):
                found.setdefault(row.sample_idx, {})[rx_id] = digest
    return found
