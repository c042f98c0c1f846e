"""Why a dataset should not be released or exported: it is being written, deleted, or not healthy."""

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.dataset_locks import is_locked
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.stores import Stores

_GOOD = ("healthy", "warning")


class NotReadyError(HeimdallError):
    """The dataset is being written, or its last validation did not find it healthy."""


def reason_against(stores: Stores, dataset: Dataset) -> str | None:
    """Why a dataset is not ready; None if it is."""
    if dataset.deletion_began_at is not None:
        return "it is being deleted"
    with stores.database.transaction() as connection:
        if is_locked(connection, dataset.id):
            return "it is being written: a batch or a repair is running"
    if dataset.health_status == "unknown":
        return f"it was never validated; run: heimdall dataset validate {dataset.name}"
    if dataset.health_status not in _GOOD:
        return f"its health is {dataset.health_status}; see: heimdall dataset validate {dataset.name}"
    return None


def require_ready(stores: Stores, dataset: Dataset, what: str, *, force: bool) -> str | None:
    """Refuse a dataset that is not ready; with `force` the reason is returned, for the card.

    Raises
    ------
    NotReadyError
    """
    reason = reason_against(stores, dataset)
    if reason is not None and not force:
        raise NotReadyError(f"dataset {dataset.name} was not {what}: {reason}. With --force the card says so")
    return reason.partition(";")[0] if reason is not None else None
