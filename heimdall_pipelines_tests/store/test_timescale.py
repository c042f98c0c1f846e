"""Measurements as a hypertable, on the TimescaleDB that HEIMDALL_TEST_TIMESCALE_URL names."""

import os
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import make_url, text

from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.measurements import StationRecording, list_recordings
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.session_completion import complete_session
from heimdall_pipelines.store.session_deletion import delete_session_rows
from heimdall_pipelines.store.session_features import SessionFeatureWriter, StationMetrics
from heimdall_pipelines.store.session_import import ImportedSession, begin_import
from heimdall_pipelines.store.session_revisions import SessionRevision
from heimdall_pipelines.store.stations import Station
from heimdall_pipelines.store.timescale import HypertableError, HypertablePolicy, apply_policy

WEEKLY = HypertablePolicy(chunk_days=7, compress_after_days=None)
DAYS_OLD = 30
NOW = datetime.now(UTC)  # one for all, so that no two recordings of a session lie on both sides of a chunk's end


@pytest.fixture
def timescale():
    """A database with TimescaleDB whose schema `heimdall` is made, and removed again, by the test."""
    url = os.environ.get("HEIMDALL_TEST_TIMESCALE_URL")
    if not url:
        pytest.skip("HEIMDALL_TEST_TIMESCALE_URL names no database with TimescaleDB")
    parts = make_url(url)
    settings = load_settings(
        pg_host=parts.host,
        pg_port=parts.port or 5432,
        pg_user=parts.username,
        pg_password=parts.password,
        pg_database=parts.database,
        s3_endpoint="unused",
        s3_access_key="unused",
        s3_secret_key="unused",
    )
    with Database(settings) as database:
        there = rows(database, "SELECT to_regnamespace('heimdall') IS NOT NULL")[0][0]
        assert not there, "HEIMDALL_TEST_TIMESCALE_URL has a schema heimdall, which the tests would drop"
        execute(database, "CREATE EXTENSION IF NOT EXISTS timescaledb")
        try:
            migrate(database)
            yield database
        finally:
            execute(database, "DROP SCHEMA heimdall CASCADE")


def rows(database, statement, **values):
    with database.transaction() as connection:
        return connection.execute(text(statement), values).fetchall()


def execute(database, statement, **values):
    with database.transaction() as connection:
        connection.execute(text(statement), values)


def hypertables(database):
    """Chunk interval of each, in days."""
    found = rows(database, "SELECT hypertable_name, time_interval FROM timescaledb_information.dimensions")
    return {name: interval / timedelta(days=1) for name, interval in found}


def policies(database):
    return rows(
        database,
        "SELECT proc_name, config ->> 'compress_after' FROM timescaledb_information.jobs"
        " WHERE hypertable_name = 'measurements'",
    )


def recording(rx_id, days_ago):
    start = NOW - timedelta(days=days_ago)
    return StationRecording(
        station=Station(rx_id, rx_id, 45.0, 7.7),
        start_time_unix_ns=int(start.timestamp()) * 10**9,
        sample_rate_hz=12_000.0,
        samples_count=12_000,
        location=ObjectLocation("heimdall-raw-iq", f"sessions/{uuid.uuid4()}/{rx_id}.npy"),
        iq_data_format="npy",
        sha256=uuid.uuid4().hex * 2,
        full_scale_dbm=0.0,
        is_calibrated=False,
        time_source="gnss",
        time_uncertainty_ns=100.0,
    )


def add_session(database, days_ago, stations=("genova", "torino")):
    imported = ImportedSession("s", 77_500.0, 1000.0, None, uuid.uuid4().hex * 2)
    session_id, _ = begin_import(database, imported)
    complete_session(database, session_id, [recording(rx_id, days_ago) for rx_id in stations])
    return session_id


def stations_of(database, session_id):
    return [found.station.rx_id for found in list_recordings(database, session_id)]


def compress_all(database):
    """What the policy's job does when its time has come."""
    execute(database, "SELECT compress_chunk(c) FROM show_chunks('heimdall.measurements') c")
    states = rows(
        database,
        "SELECT DISTINCT is_compressed FROM timescaledb_information.chunks WHERE hypertable_name = 'measurements'",
    )
    assert states == [(True,)]


def test_on_plain_postgresql_there_is_nothing_to_do_and_compression_is_refused(stores):
    assert apply_policy(stores.database, WEEKLY) == []
    with pytest.raises(HypertableError, match="unset HEIMDALL_TIMESCALE_COMPRESS_AFTER_DAYS"):
        apply_policy(stores.database, HypertablePolicy(7, 30))


def test_a_table_with_rows_becomes_a_hypertable_once_and_keeps_them(timescale):
    sessions = [add_session(timescale, days_ago) for days_ago in (1, DAYS_OLD)]
    assert hypertables(timescale) == {}
    assert apply_policy(timescale, WEEKLY) == ["measurements is a hypertable now, in chunks of 7 days"]
    assert hypertables(timescale) == {"measurements": 7}
    assert rows(timescale, "SELECT count(*) FROM show_chunks('heimdall.measurements')") == [(2,)]
    assert [stations_of(timescale, session_id) for session_id in sessions] == [["genova", "torino"]] * 2
    assert apply_policy(timescale, WEEKLY) == []
    assert migrate(timescale)[0] == migrate(timescale)[1]


def test_policies_are_set_changed_and_removed_as_the_settings_say(timescale):
    apply_policy(timescale, WEEKLY)
    assert policies(timescale) == []
    asked = [HypertablePolicy(7, 14), HypertablePolicy(7, 14), HypertablePolicy(30, 60), HypertablePolicy(30, None)]
    assert [apply_policy(timescale, policy) for policy in asked] == [
        ["chunks of measurements are compressed after 14 days"],
        [],
        [
            "new chunks of measurements hold 30 days, those before 7",
            "chunks of measurements are compressed after 60 days",
        ],
        ["chunks of measurements are no longer compressed; compressed ones stay compressed"],
    ]
    assert hypertables(timescale)["measurements"] == 30
    assert policies(timescale) == []


def test_a_retention_policy_that_somebody_set_is_warned_of(timescale):
    apply_policy(timescale, WEEKLY)
    execute(timescale, "SELECT add_retention_policy('heimdall.measurements', INTERVAL '90 days')")
    (warning,) = apply_policy(timescale, WEEKLY)
    assert warning.startswith("Warning: measurements has a retention policy")


@pytest.mark.parametrize("is_compressed", [False, True])
def test_sessions_are_read_updated_completed_again_and_deleted(timescale, is_compressed):
    apply_policy(timescale, HypertablePolicy(7, 14))
    first, second = add_session(timescale, DAYS_OLD), add_session(timescale, DAYS_OLD)
    if is_compressed:
        compress_all(timescale)
    with timescale.transaction() as connection:
        writer = SessionFeatureWriter(connection, SessionRevision(first, "night", 1))
        writer.set_station_metrics({"torino": StationMetrics(12.0, -80.0, 1.5)})
    assert {x.station.rx_id: x.snr_db for x in list_recordings(timescale, first)} == {"genova": None, "torino": 12.0}
    assert [x.snr_db for x in list_recordings(timescale, second)] == [None, None]
    execute(timescale, "UPDATE heimdall.recording_sessions SET status = 'in_progress' WHERE id = :id", id=first)
    assert complete_session(timescale, first, [recording("torino", DAYS_OLD)]) == 2
    assert stations_of(timescale, first) == ["torino"]
    delete_session_rows(timescale, first)
    left = rows(timescale, "SELECT DISTINCT recording_session_id FROM heimdall.measurements")
    assert left == [(second,)]


@pytest.mark.parametrize("is_compressed", [False, True])
def test_rights_on_the_table_suffice_for_its_chunks(timescale, is_compressed):
    role = f"app_{uuid.uuid4().hex[:8]}"
    apply_policy(timescale, HypertablePolicy(7, 14))
    session_id = add_session(timescale, DAYS_OLD)
    if is_compressed:
        compress_all(timescale)
    execute(timescale, f"CREATE ROLE {role}")
    try:
        execute(timescale, f"GRANT USAGE ON SCHEMA heimdall TO {role}")
        execute(timescale, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA heimdall TO {role}")
        with timescale.transaction() as connection:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            connection.execute(text("UPDATE heimdall.measurements SET snr_db = 1"))
            for offset in ("1 second", "100 days"):  # beside the others, and into a chunk that is not there yet
                connection.execute(
                    text(
                        "INSERT INTO heimdall.measurements (timestamp, recording_session_id, websdr_station_id,"
                        " start_time_unix_ns, time_source, samples_count, full_scale_dbm, is_calibrated, error_message)"
                        " SELECT timestamp - CAST(:offset AS interval), recording_session_id, websdr_station_id, 0,"
                        " 'given', 0, 0, false, 'gone' FROM heimdall.measurements"
                    ),
                    {"offset": offset},
                )
            assert connection.execute(text("SELECT count(*) FROM heimdall.measurements")).scalar() == 8
            connection.execute(text("DELETE FROM heimdall.recording_sessions WHERE id = :id"), {"id": session_id})
            assert connection.execute(text("SELECT count(*) FROM heimdall.measurements")).scalar() == 0
    finally:
        execute(timescale, f"DROP OWNED BY {role}")
        execute(timescale, f"DROP ROLE {role}")
