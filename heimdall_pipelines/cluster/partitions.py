"""Deletes many dynamic partitions at once; Dagster's own call takes a transaction, 10 ms, for each."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.storage.event_log.schema import DynamicPartitionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

_KEYS_PER_STATEMENT = 1000


def delete_partitions(instance: dg.DagsterInstance, definition: str, keys: Sequence[str]) -> None:
    """Delete keys of a dynamic partitions definition; unknown ones are ignored.

    Parameters
    ----------
    instance : dg.DagsterInstance
    definition : str
        Name of the definition.
    keys : sequence of str
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):  # of another kind than dagster.yaml names
        for key in keys:
            instance.delete_dynamic_partition(definition, key)
        return
    columns = DynamicPartitionsTable.c
    for start in range(0, len(keys), _KEYS_PER_STATEMENT):
        some = list(keys[start : start + _KEYS_PER_STATEMENT])
        with storage.index_connection() as connection:
            connection.execute(
                DynamicPartitionsTable.delete().where(
                    columns.partitions_def_name == definition, columns.partition.in_(some)
                )
            )
