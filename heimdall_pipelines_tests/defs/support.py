"""Dagster on PostgreSQL, and what it keeps of checks of synthetic datasets."""

from contextlib import contextmanager

import dagster as dg

from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS, DATASET_CHECKS
from heimdall_pipelines.defs.synthetic import MEASUREMENT_FEATURES, RAW_IQ_OBJECTS, synthetic_dataset_summary
from heimdall_pipelines.model.batches import partition_key
from heimdall_pipelines_tests.conftest import execute_on_server

BATCH_CHECKS = {
    **dict.fromkeys(BATCH_FEATURE_CHECKS, MEASUREMENT_FEATURES),
    **dict.fromkeys(BATCH_IQ_CHECKS, RAW_IQ_OBJECTS),
}


@contextmanager
def dagster_database(server_settings, name):
    """A database for Dagster until the end of the block; gives the settings that name it."""
    execute_on_server(server_settings, f"CREATE DATABASE {name}")
    try:
        yield server_settings.model_copy(update={"pg_database": name})
    finally:
        execute_on_server(server_settings, f"DROP DATABASE {name} WITH (FORCE)")


def postgres_storage(settings):
    """The entry `storage` of dagster.yaml."""
    place = {
        "scheme": "postgresql+psycopg2",
        "hostname": settings.pg_host,
        "port": settings.pg_port,
        "username": settings.pg_user,
        "password": settings.pg_password.get_secret_value(),
        "db_name": settings.pg_database,
    }
    return {"postgres": {"postgres_db": place}}


def last_words_of_dataset(instance: dg.DagsterInstance, name: str) -> dict[str, str]:
    """SUCCEEDED or FAILED of each check of a dataset, as it was last made."""
    return _last_words(instance, dict.fromkeys(DATASET_CHECKS, synthetic_dataset_summary.key), name)


def last_words_of_batch(instance: dg.DagsterInstance, name: str, batch_no: int = 0) -> dict[str, str]:
    """SUCCEEDED or FAILED of each check of a batch, as it was last made."""
    return _last_words(instance, BATCH_CHECKS, partition_key(name, batch_no))


def failed(words: dict[str, str]) -> set[str]:
    """Names of those that failed."""
    return {name for name, word in words.items() if word == "FAILED"}


def _last_words(instance: dg.DagsterInstance, assets: dict[str, dg.AssetKey], partition: str) -> dict[str, str]:
    keys = [dg.AssetCheckKey(asset, name) for name, asset in assets.items()]
    found = instance.event_log_storage.get_asset_check_partition_info(keys, partition_keys=[partition])
    return {info.check_key.name: info.latest_execution_status.value for info in found}
