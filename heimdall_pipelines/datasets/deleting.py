"""Deletes datasets, so that a deletion which is broken off anywhere can be finished."""

from collections.abc import Callable

from heimdall_pipelines.store.alerts import close_alerts_of_deleted
from heimdall_pipelines.store.datasets import Dataset, delete_dataset_rows, get_dataset, mark_dataset_deleted
from heimdall_pipelines.store.iq_objects import remove_dataset_iq
from heimdall_pipelines.store.stores import Stores


def delete_dataset(stores: Stores, name: str, forget: Callable[[str], object] = lambda _: None) -> Dataset:
    """Delete a dataset: its objects, what Dagster knows of it, its rows, and close the alerts that were open of it.

    It is marked first: from then on no batch of it is begun or committed, and nobody repairs or expands it. Its row
    stays until the rest is gone, so that the same call finishes a deletion that was broken off.

    Parameters
    ----------
    stores : Stores
    name : str
    forget : callable, optional
        Takes the dataset's partitions out of Dagster, given its name.

    Returns
    -------
    Dataset
        As it was.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset.
    UnavailableError
        PostgreSQL or the S3 store was lost; what is left is deleted by the next call.
    """
    dataset = get_dataset(stores.database, name)
    mark_dataset_deleted(stores.database, dataset)
    remove_dataset_iq(stores.objects, dataset.id)
    forget(name)
    delete_dataset_rows(stores.database, dataset.id)
    close_alerts_of_deleted(stores.database)  # the sensor of alerts does, too, where this is not reached
    remove_dataset_iq(stores.objects, dataset.id)  # what a batch that was running had stored meanwhile
    return dataset
