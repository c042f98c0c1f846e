"""Every column of every row that digests cover: edited with SQL it is found by a plain validation, and named."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import DBAPIError

from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.model.checks import CheckOutcome
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.datasets import list_datasets
from heimdall_pipelines.store.digests import DIGESTED_TABLES, counted_columns
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.integrity import BYSTANDER, NAME, Night, failed, night_of_module
from heimdall_pipelines_tests.sessions.support import import_files, quiet

# Edits as small as the type has them; None of a column that is null becomes a value.
EDITS = {
    "uuid": "gen_random_uuid()",
    "text": "coalesce({0}, '') || 'x'",
    "smallint": "coalesce({0}, 0) + 1",
    "integer": "coalesce({0}, 0) + 1",
    "bigint": "coalesce({0}, 0) + 1",
    "boolean": "NOT {0}",
    "double precision": "CASE WHEN {0} = 0 THEN 1e-9 ELSE coalesce({0} * (1 + 2.3e-16::float8), 1e-9) END",
    "timestamp with time zone": "coalesce({0}, now()) + INTERVAL '1 microsecond'",
    "jsonb": "CASE jsonb_typeof({0}) WHEN 'array' THEN {0} || '[7]' ELSE coalesce({0}, '{{}}') || '{{\"x\": 7}}' END",
    "bytea": "coalesce({0}, '') || '\\x00'",
}
SPECIAL = {  # where a check of the database allows few values
    "synthetic_datasets.dataset_type": "'iq_raw'",
    "synthetic_datasets.target_num_samples": "13",
    "synthetic_batches.first_sample_idx": "7",
    "measurement_features.sample_idx": "7000",
    "synthetic_iq_samples.sample_idx": "7000",
    "measurement_features.segment_idx": "7000",
    "measurements.sha256": "repeat('0', 64)",
    "measurements.sidecar_sha256": "repeat('0', 64)",
    "measurements.iq_data_format": "'npy'",
    "measurements.time_source": "'arrival'",
    "recording_sessions.status": "'failed'",
    "recording_sessions.slug": None,  # a trigger keeps it
}
PLACES = {"websdr_stations": {"rx_id", "name", "latitude", "longitude", "altitude_m"}}


def edits_of(table: str) -> Iterator[tuple[str, str]]:
    for column in counted_columns(table):
        expression = SPECIAL.get(f"{table}.{column.name}", EDITS[column.type])
        if expression is not None:
            yield column.name, expression.format(column.name)


def execute(stores: Stores, statement: str, **values: object) -> None:
    with stores.database.transaction() as connection:
        connection.exec_driver_sql(statement, values)


def assert_each_edit_is_named(
    stores: Stores, table: str, where: str, found: Callable[[], list[str]], only: set[str] | None = None
) -> None:
    """Edit one column of one row after the other; each time a problem names it, and none does when it is put back."""
    key = " AND ".join(f"t.{name} = s.{name}" for name in DIGESTED_TABLES[table])
    execute(stores, f"CREATE TABLE saved AS SELECT * FROM heimdall.{table} t WHERE {where}")
    missed, rejected = [], []
    try:
        for column, expression in edits_of(table):
            if only is not None and column not in only:
                continue
            try:
                execute(stores, f"UPDATE heimdall.{table} t SET {column} = {expression} WHERE {where}")
            except DBAPIError as error:
                rejected.append(f"{column}: {error.orig}")
                continue
            if not any(column in problem for problem in found()):
                missed.append(column)
            if column in DIGESTED_TABLES[table] or column in ("dataset_id", "sample_idx", "segment_idx"):
                execute(stores, f"DELETE FROM heimdall.{table} t WHERE t.digest = (SELECT digest FROM saved)")
                execute(stores, f"INSERT INTO heimdall.{table} SELECT * FROM saved")
            else:
                execute(stores, f"UPDATE heimdall.{table} t SET {column} = s.{column} FROM saved s WHERE {key}")
        assert missed == []
        assert found() == []
    finally:
        execute(stores, "DROP TABLE saved")
    print(f"{table}: rejected by the database: {rejected}")


@pytest.fixture(scope="module")
def night(server_settings, _template) -> Iterator[Night]:
    with night_of_module(server_settings) as (_, made):
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("measurement_features", "dataset_id = '{id}' AND sample_idx = 3"),
        ("synthetic_iq_samples", "dataset_id = '{id}' AND sample_idx = 3"),
        ("synthetic_batches", "dataset_id = '{id}' AND batch_no = 1"),
        ("synthetic_datasets", "id = '{id}'"),
    ],
)
def test_an_edit_of_any_column_of_a_dataset_is_found_and_named(night, table, where):
    def found() -> list[str]:
        (name,) = (one.name for one in list_datasets(night.stores.database) if one.name != BYSTANDER)
        problems = failed(validate_dataset(night.stores, name, seed=1))
        return [
            example for check in ("rows_as_committed", "parameters_as_created") for example in problems.get(check, ())
        ]

    assert found() == []
    assert_each_edit_is_named(night.stores, table, where.format(id=night.dataset.id), found)
    assert failed(validate_dataset(night.stores, NAME, seed=1)) == {}


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("recording_sessions", "id = '{id}'"),
        ("measurements", "recording_session_id = '{id}' AND sha256 = (SELECT min(sha256) FROM heimdall.measurements)"),
        ("measurement_features", "recording_session_id = '{id}' AND segment_idx = 1"),
        ("websdr_stations", "rx_id = 'torino'"),
    ],
)
def test_an_edit_of_any_column_of_a_session_is_found_and_named(stores, example_recordings, table, where):
    session_id = import_files(stores, example_recordings).session_id
    extract_session(stores, session_id, quiet)

    def found() -> list[str]:
        outcomes: tuple[CheckOutcome, ...] = check_session(stores, session_id).outcomes
        return [example for outcome in outcomes if outcome.name == "rows_as_committed" for example in outcome.examples]

    assert found() == []
    assert_each_edit_is_named(stores, table, where.format(id=session_id), found, PLACES.get(table))
    assert all(outcome.passed for outcome in check_session(stores, session_id).outcomes)
