import multiprocessing
import re
import shutil

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.store import migrate as module
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import SchemaTooNewError, migrate
from heimdall_pipelines_tests.waiting import TIMEOUT_S

NEWEST = "0014"
TABLES = {
    "websdr_stations",
    "known_sources",
    "recording_sessions",
    "measurements",
    "synthetic_datasets",
    "synthetic_batches",
    "synthetic_iq_samples",
    "measurement_features",
    "alerts",
    "alert_deliveries",
    "station_checks",
    "session_extractions",
    "dataset_summaries",
    "changes",
    "dataset_parameters",
    "terrain_tiles",
    "dataset_releases",
    "positions",
    "station_delays",
}
DATASET = (
    "INSERT INTO heimdall.synthetic_datasets (name, dataset_type, spec, receivers, seed,"
    " target_num_samples, generator_version)"
    " VALUES ('d1', 'iq_raw', '{}', '[]', 0, 10, 1) RETURNING id"
)
FEATURES_OF_DATASET = (
    "INSERT INTO heimdall.measurement_features (id, timestamp, dataset_id, sample_idx, feature_version,"
    " receiver_features, tx_known, extraction_metadata, num_receivers_detected, num_receivers_in_sample)"
    " VALUES (gen_random_uuid(), now(), :dataset, :idx, 2, '[]', false, '{}', 0, 0)"
)


def test_the_project_may_be_in_a_folder_with_a_percent_sign(empty, tmp_path, monkeypatch):
    versions = tmp_path / "100%(here)s %d" / "migrations" / "versions"
    shutil.copytree(module.VERSIONS_FOLDER.parent, versions.parent)
    monkeypatch.setattr(module, "VERSIONS_FOLDER", versions)
    before, after = migrate(empty)
    assert before is None
    assert migrate(empty) == (after, after)


@pytest.fixture
def empty(empty_database_settings):
    with Database(empty_database_settings) as database:
        yield database


@pytest.fixture
def migrated(settings):
    with Database(settings) as database:
        yield database


def rows(database, statement, **values):
    with database.transaction() as connection:
        return connection.execute(text(statement), values).fetchall()


def execute(database, statement, **values):
    with database.transaction() as connection:
        return connection.execute(text(statement), values)


def test_an_empty_database_gets_every_table_of_the_data_model(empty):
    assert migrate(empty) == (None, NEWEST)
    found = rows(empty, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'heimdall'")
    assert {row[0] for row in found} == TABLES | {"receiver_features", "measurement_time_differences", "schema_version"}


def test_migrating_again_changes_nothing_and_keeps_rows(empty):
    migrate(empty)
    execute(empty, DATASET)
    assert migrate(empty) == (NEWEST, NEWEST)
    assert rows(empty, "SELECT count(*) FROM heimdall.synthetic_datasets")[0][0] == 1


def _migrate_in_process(settings, barrier, answers):
    with Database(settings) as database:
        barrier.wait()
        answers.put(migrate(database))


def test_two_processes_that_migrate_at_once_both_succeed(empty_database_settings):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_migrate_in_process, args=(empty_database_settings, barrier, answers)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    results = sorted((answers.get(timeout=TIMEOUT_S) for _ in processes), key=str)
    for process in processes:
        process.join(TIMEOUT_S)
    # One of them migrated from nothing, the other found it done.
    assert results == [(NEWEST, NEWEST), (None, NEWEST)]


def test_a_schema_of_a_newer_version_is_refused_with_what_to_do(empty):
    migrate(empty)
    execute(empty, "UPDATE heimdall.schema_version SET version_num = '9999'")
    with pytest.raises(
        SchemaTooNewError, match=rf"revision 9999, newer than the {NEWEST} .* update heimdall-pipelines"
    ):
        migrate(empty)


def test_every_table_and_every_column_that_needs_words_has_a_comment(migrated):
    without = rows(
        migrated,
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'heimdall' AND c.relkind IN ('r', 'v') AND c.relname <> 'schema_version'"
        " AND obj_description(c.oid) IS NULL",
    )
    assert without == []
    columns = rows(
        migrated,
        "SELECT a.attrelid::regclass::text || '.' || a.attname FROM pg_attribute a WHERE a.attnum > 0"
        " AND a.attrelid::regclass::text LIKE 'heimdall.%' AND col_description(a.attrelid, a.attnum) IS NULL"
        " AND (SELECT relkind FROM pg_class WHERE oid = a.attrelid) = 'r'",
    )
    speak_for_themselves = {"id", "name", "created_at", "version_num"}
    keys = {"recording_session_id", "websdr_station_id", "dataset_id", "sample_idx", "segment_idx", "batch_no"}
    assert {row[0].rsplit(".", 1)[1] for row in columns} - speak_for_themselves - keys <= {"timestamp"}


def test_deleting_a_dataset_removes_its_rows(migrated):
    dataset = execute(migrated, DATASET).scalar()
    execute(migrated, FEATURES_OF_DATASET, dataset=dataset, idx=0)
    execute(
        migrated,
        "INSERT INTO heimdall.synthetic_batches (dataset_id, batch_no, first_sample_idx, num_samples, partition_key,"
        " attempts, generator_version) VALUES (:dataset, 0, 0, 1, 'd1__00000', 1, '1')",
        dataset=dataset,
    )
    execute(
        migrated,
        "INSERT INTO heimdall.synthetic_iq_samples VALUES (:dataset, 0, now(), '{}', '{}', '{}', '{}')",
        dataset=dataset,
    )
    execute(migrated, "DELETE FROM heimdall.synthetic_datasets WHERE id = :dataset", dataset=dataset)
    for table in ("measurement_features", "synthetic_batches", "synthetic_iq_samples"):
        assert rows(migrated, f"SELECT count(*) FROM heimdall.{table}")[0][0] == 0


def test_a_sample_index_cannot_be_used_twice(migrated):
    dataset = execute(migrated, DATASET).scalar()
    execute(migrated, FEATURES_OF_DATASET, dataset=dataset, idx=7)
    with pytest.raises(IntegrityError, match="duplicate key"):
        execute(migrated, FEATURES_OF_DATASET, dataset=dataset, idx=7)


def test_a_feature_row_belongs_to_a_dataset_or_a_session(migrated):
    with pytest.raises(IntegrityError, match="check constraint"):
        execute(migrated, FEATURES_OF_DATASET, dataset=None, idx=0)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO heimdall.websdr_stations (rx_id, name, latitude, longitude) VALUES ('Not a slug', 'x', 0, 0)",
        "INSERT INTO heimdall.websdr_stations (rx_id, name, latitude, longitude) VALUES ('x', 'x', 90.1, 0)",
        "INSERT INTO heimdall.synthetic_datasets (name, dataset_type, spec, receivers, seed,"
        " target_num_samples, generator_version)"
        " VALUES ('d', 'other', '{}', '[]', 0, 1, 1)",
        "INSERT INTO heimdall.recording_sessions (slug, name, status, frequency_hz, bandwidth_hz)"
        " VALUES ('x', 'x', 'done', 1, 1)",
    ],
)
def test_values_that_make_no_sense_are_refused_by_the_database(migrated, statement):
    with pytest.raises(IntegrityError, match="check constraint"):
        execute(migrated, statement)


def test_each_completion_increments_the_revision_also_by_sql(migrated):
    session = execute(
        migrated,
        "INSERT INTO heimdall.recording_sessions (slug, name, frequency_hz, bandwidth_hz) VALUES ('s', 's', 1, 1)"
        " RETURNING id",
    ).scalar()

    def set_status(status):
        return rows(
            migrated,
            "UPDATE heimdall.recording_sessions SET status = :status WHERE id = :id RETURNING revision",
            status=status,
            id=session,
        )[0][0]

    steps = ("in_progress", "completed", "completed", "in_progress", "completed")
    assert [set_status(status) for status in steps] == [0, 1, 1, 1, 2]


def test_every_unique_key_of_measurements_holds_the_time_as_a_hypertable_needs(migrated):
    keys = rows(
        migrated,
        "SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_index i JOIN pg_attribute a"
        " ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
        " WHERE i.indrelid = 'heimdall.measurements'::regclass AND i.indisunique GROUP BY i.indexrelid",
    )
    assert sorted(key for (key,) in keys) == [
        ["id", "timestamp"],
        ["recording_session_id", "timestamp", "websdr_station_id"],
    ]


def test_the_database_takes_the_kinds_of_receivers_that_exist(migrated):
    constraint = rows(
        migrated,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'websdr_stations_api_type_check'",
    )[0][0]
    assert set(re.findall(r"'(\w+)'", constraint)) == set(ReceiverKind)
