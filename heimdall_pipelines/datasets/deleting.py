"""Deletes datasets; an interrupted deletion can be finished by repeating it."""

from collections.abc import Callable

from heimdall_pipelines.store.alerts import close_alerts_of_deleted
from heimdall_pipelines.store.datasets import Dataset, delete_dataset_rows, get_dataset, mark_dataset_deleted
from heimdall_pipelines.store.iq_objects import remove_dataset_iq
from heimdall_pipelines.store.releases import require_no_releases
from heimdall_pipelines.store.stores import Stores


def delete_dataset(
    stores: Stores, name: str, forget: Callable[[str], object] = lambda _: None, *, with_releases: bool = False
) -> Dataset:
    """Delete a dataset: its objects, its partitions in Dagster and its rows; close its open alerts.

    It is marked first: from then on no batch of it begins or is committed, and it cannot be repaired or expanded. Its
    row is deleted last, so that the same call finishes an interrupted deletion.

    Parameters
    ----------
    stores : Stores
    name : str
    forget : callable, optional
        Called with the dataset's name; deletes its partitions in Dagster.
    with_releases : bool, optional
        Delete also a dataset that has releases, with them; their exports stay.

    Returns
    -------
    Dataset
        As it was.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset.
    ReleasedError
        It has releases, and `with_releases` is not given.
    UnavailableError
        PostgreSQL or the S3 store was lost; what is left is deleted by the next call.
    """
    dataset = get_dataset(stores.database, name)
    if not with_releases:
        require_no_releases(
            stores.database,
            dataset.id,
            name,
            f"deleting dataset {name} would delete its releases",
            f"to delete both: heimdall dataset delete {name} --with-releases",
        )
    mark_dataset_deleted(stores.database, dataset)
    remove_dataset_iq(stores.objects, dataset.id)
    forget(name)
    delete_dataset_rows(stores.database, dataset.id)
    close_alerts_of_deleted(stores.database)  # if this is not reached, the alerts sensor does it
    remove_dataset_iq(stores.objects, dataset.id)  # objects that a running batch has stored in the meantime
    return dataset
