"""Digests in the database: written with the rows, filled by the migration, and updated by commands alone."""

import pytest
from alembic import command
from sqlalchemy import text

from heimdall_pipelines.datasets.generating import MAX_ATTEMPTS
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.store.batches import note_stopped_batch, recount
from heimdall_pipelines.store.changes import acting, list_changes
from heimdall_pipelines.store.committed_parameters import (
    ParametersEditedError,
    parameters_state,
    require_parameters_as_created,
    restore_parameters,
)
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.datasets import get_dataset, mark_dataset_deleted
from heimdall_pipelines.store.digest_filling import fill_digests
from heimdall_pipelines.store.digest_rows import read_digested
from heimdall_pipelines.store.digests import DIGESTED_TABLES, Edit, edit_of, row_digest
from heimdall_pipelines.store.known_sources import KnownSource, add_missing_known_sources
from heimdall_pipelines.store.migrate import _migrations, migrate
from heimdall_pipelines.store.session_deletion import begin_deletion
from heimdall_pipelines.store.stations import Station, add_station, set_station_active
from heimdall_pipelines_tests.datasets.support import add, expand, make
from heimdall_pipelines_tests.sessions.support import import_files, quiet

LATITUDE = "UPDATE heimdall.websdr_stations SET latitude = 46 WHERE rx_id = 'torino'"


def execute(database, statement, **values):
    with database.transaction() as connection:
        return connection.execute(text(statement), values)


def edits(stores) -> dict[str, list[Edit]]:
    """Rows that are not as committed, by table."""
    found: dict[str, list[Edit]] = {}
    with stores.database.transaction() as connection:
        for table in DIGESTED_TABLES:
            for row in read_digested(connection, table, "true", {}):
                edit = edit_of(table, row, row["digest"])
                if edit is not None:
                    found.setdefault(table, []).append(edit)
    return found


def test_every_writer_leaves_rows_as_committed(stores, example_recordings):
    dataset = add(stores, "night", 7, batch_size=5)
    assert edits(stores) == {}
    make(stores, "night", 1)
    make(stores, "night", 0)
    make(stores, "night", 0)  # again, the same
    dataset = expand(stores, dataset, 12)
    make(stores, "night", 1)
    note_stopped_batch(
        stores.database,
        dataset,
        dataset.grid.batch(2),
        reason=MAX_ATTEMPTS,
        attempts=9,
        rejections={"gdop_too_high": 9},
    )
    recount(stores.database, dataset, dataset.grid.all()[:2])
    assert edits(stores) == {}
    mark_dataset_deleted(stores.database, dataset)
    session_id = import_files(stores, example_recordings).session_id
    assert edits(stores) == {}
    extract_session(stores, session_id, quiet)
    extract_session(stores, session_id, quiet)
    begin_deletion(stores.database, session_id)
    set_station_active(stores.database, "torino", False)
    add_station(stores.database, Station("cuneo", "Cuneo", 44.4, 7.5))
    with stores.database.transaction() as connection:
        add_missing_known_sources(connection, [KnownSource("TDF", 162_000.0, 47.17, 2.2)])
    assert edits(stores) == {}


def test_only_changed_samples_are_recorded_as_changes(stores):
    dataset = add(stores, "night", 5, batch_size=5)
    make(stores, "night")
    make(stores, "night")
    assert list_changes(stores.database) == []
    with acting("heimdall dataset expand"):
        expand(stores, dataset, 9)
    (change,) = list_changes(stores.database)
    assert change.who.endswith(": heimdall dataset expand")
    assert (change.table_name, change.before, change.after, change.reason) == (
        "synthetic_datasets",
        {"target_num_samples": 5},
        {"target_num_samples": 9},
        "the dataset was expanded",
    )


def test_samples_that_come_out_differently_are_noted_with_both_digests(stores):
    add(stores, "night", 5, batch_size=5)
    make(stores, "night")
    execute(stores.database, "UPDATE heimdall.measurement_features SET digest = digest || '\\x00' WHERE sample_idx = 1")
    execute(stores.database, "UPDATE heimdall.measurement_features SET digest = '\\x00' WHERE sample_idx = 3")
    make(stores, "night")
    assert edits(stores) == {}
    (change,) = list_changes(stores.database)
    assert (change.table_name, list(change.before), list(change.after)) == ("measurement_features", ["3"], ["3"])
    assert change.reason.startswith("1 samples were generated again, and differ")


def test_a_command_updates_the_digest_but_hides_no_edit_by_hand(stores):
    add_station(stores.database, Station("torino", "Torino", 45.0, 7.7))
    execute(stores.database, LATITUDE)
    set_station_active(stores.database, "torino", False)
    assert edits(stores) == {"websdr_stations": [Edit(("latitude",))]}
    (change,) = list_changes(stores.database)
    assert (change.before, change.after) == ({"is_active": True}, {"is_active": False})


def test_a_rolled_back_transaction_leaves_neither_row_nor_digest_nor_change(stores):
    dataset = add(stores, "night", 5, batch_size=5)
    with stores.database.transaction() as connection:
        before = connection.execute(text("SELECT digest FROM heimdall.synthetic_datasets")).scalar_one()
    execute(
        stores.database,
        "ALTER TABLE heimdall.synthetic_datasets ADD CONSTRAINT small CHECK (target_num_samples < 6)",
    )
    with pytest.raises(Exception, match="small"):
        expand(stores, dataset, 9)
    with stores.database.transaction() as connection:
        assert connection.execute(text("SELECT digest FROM heimdall.synthetic_datasets")).scalar_one() == before
    assert list_changes(stores.database) == []


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("seed = seed + 1", "seed"),
        ("spec = jsonb_set(spec, '{tx_power_dbm}', '38.0')", "spec"),
        ("receivers = jsonb_set(receivers, '{0,latitude}', '45.5')", "receivers"),
        ("generator_version = generator_version + 1", "generator_version"),
        ("dataset_type = 'iq_raw'", "dataset_type"),
    ],
)
def test_edited_parameters_make_no_sample_and_are_restored_from_the_copy(stores, change, column):
    dataset = add(stores, "night", 5, batch_size=5)
    make(stores, "night")
    with stores.database.transaction() as connection:
        (before,) = read_digested(connection, "synthetic_datasets", "true", {})
    execute(stores.database, f"UPDATE heimdall.synthetic_datasets SET {change}, parameters_digest = NULL")
    with stores.database.transaction() as connection:
        state = parameters_state(connection, dataset.id)
    assert list(state.edited) == [column]
    assert state.committed is not None
    assert state.committed.of(get_dataset(stores.database, "night")).seed == dataset.seed
    with pytest.raises(ParametersEditedError, match=f"(?s)night: nothing is generated .*{column} .*is .* created with"):
        require_parameters_as_created(stores.database, dataset)
    assert list(restore_parameters(stores.database, dataset, reason="seen by a test")) == [column]
    with stores.database.transaction() as connection:
        (after,) = read_digested(connection, "synthetic_datasets", "true", {})
    assert after == before
    assert edits(stores) == {}
    require_parameters_as_created(stores.database, dataset)


def test_an_edited_copy_is_not_believed(stores):
    dataset = add(stores, "night", 5, batch_size=5)
    execute(stores.database, "UPDATE heimdall.dataset_parameters SET parameters = jsonb_set(parameters, '{seed}', '7')")
    execute(stores.database, "UPDATE heimdall.synthetic_datasets SET seed = 7")
    with stores.database.transaction() as connection:
        state = parameters_state(connection, dataset.id)
    assert state.committed is None
    assert "was edited" in state.problems[0]
    with pytest.raises(ParametersEditedError, match="no intact copy"):
        restore_parameters(stores.database, dataset, reason="x")


@pytest.fixture
def before_digests(empty_database_settings):
    """A database as the revision before digests left it."""
    with Database(empty_database_settings) as opened:
        config, script, _ = _migrations()
        with opened.transaction() as connection:
            connection.execute(text("CREATE SCHEMA heimdall"))
            config.attributes["connection"] = connection
            command.upgrade(config, script.get_revision("0010").down_revision)
        yield opened


def test_the_migration_gives_digests_to_what_exists_and_says_since_when(before_digests):
    database = before_digests
    for statement in (
        "INSERT INTO heimdall.websdr_stations (rx_id, name, latitude, longitude) VALUES ('torino', 'Torino', 45, 7)",
        "INSERT INTO heimdall.synthetic_datasets (name, dataset_type, spec, receivers, seed, target_num_samples,"
        " num_samples, generator_version) VALUES ('d1', 'iq_raw', '{\"batch_size\": 2}', '[]', 0, 1200, 1200, 1),"
        " ('d2', 'iq_raw', '{}', '[]', 0, 10, 0, 1)",
        "INSERT INTO heimdall.measurement_features (id, timestamp, dataset_id, sample_idx, feature_version,"
        " receiver_features, tx_known, extraction_metadata, num_receivers_detected, num_receivers_in_sample)"
        " SELECT gen_random_uuid(), now(), d.id, n, 2, '[]', false, '{}', 0, 0 FROM heimdall.synthetic_datasets d,"
        " generate_series(0, 1199) AS n WHERE d.name = 'd1'",
        "INSERT INTO heimdall.synthetic_batches (dataset_id, batch_no, first_sample_idx, num_samples, partition_key,"
        " attempts, generator_version) SELECT d.id, n, 2 * n, 2, 'd1__' || n, 1, 1 FROM heimdall.synthetic_datasets d,"
        " generate_series(0, 599) AS n WHERE d.name = 'd1'",
        "INSERT INTO heimdall.recording_sessions (slug, name, status, frequency_hz, bandwidth_hz)"
        " VALUES ('s1', 's', 'completed', 1, 1), ('s2', 's', 'pending', 1, 1)",
    ):
        execute(database, statement)
    assert migrate(database)[0] == "0009"

    def without_digest(table):
        return execute(database, f"SELECT count(*) FROM heimdall.{table} WHERE digest IS NULL").scalar_one()

    assert {table: without_digest(table) for table in DIGESTED_TABLES if without_digest(table)} == {
        "recording_sessions": 1  # pending: nothing is committed yet
    }
    with database.transaction() as connection:
        for table in DIGESTED_TABLES:
            for row in read_digested(connection, table, "digest IS NOT NULL", {}):
                assert bytes(row["digest"]) == row_digest(table, row)
        assert fill_digests(connection) == 0
    since = execute(
        database,
        "SELECT name, digests_since IS NOT NULL AS is_known FROM heimdall.synthetic_datasets UNION ALL"
        " SELECT slug, digests_since IS NOT NULL FROM heimdall.recording_sessions ORDER BY 1",
    ).all()
    assert [tuple(row) for row in since] == [("d1", True), ("d2", True), ("s1", True), ("s2", False)]
    (change,) = list_changes(database)
    assert change.after == {"rows": 1 + 1200 + 600 + 2 + 1}
    assert change.reason.startswith("migration 0010")
