"""The view receiver_features follows the registry of features."""

import pytest
from sqlalchemy import text

from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES, FEATURE_VERSION, FEATURES, Feature
from heimdall_pipelines.store import receiver_view
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import migrate

COLUMNS = (
    "SELECT column_name FROM information_schema.columns"
    " WHERE table_schema = 'heimdall' AND table_name = 'receiver_features' ORDER BY ordinal_position"
)
TOY = Feature("toy_db", "dB", (0.0, 1.0), "a toy", FEATURE_VERSION + 1)


@pytest.fixture
def database(settings):
    with Database(settings) as opened:
        yield opened


def execute(database, statement):
    with database.transaction() as connection:
        return connection.execute(text(statement))


def columns(database):
    with database.transaction() as connection:
        return list(connection.execute(text(COLUMNS)).scalars())


def test_the_view_has_two_columns_of_each_feature(database):
    present = columns(database)
    for name in FEATURE_NAMES:
        assert present.count(name) == present.count(f"{name}_std") == 1
    assert present.index("feature_version") + 1 == present.index("cn0_dbhz")


def test_a_new_feature_gets_columns_and_rights_and_dependent_views_stay(database, monkeypatch):
    before = columns(database)
    execute(database, "CREATE VIEW heimdall.mine AS SELECT rx_id, snr_db FROM heimdall.receiver_features")
    execute(database, "GRANT SELECT ON heimdall.receiver_features TO pg_monitor")
    monkeypatch.setattr(receiver_view, "FEATURES", (*FEATURES, TOY))
    revision, _ = migrate(database)
    assert migrate(database) == (revision, revision)
    assert columns(database) == [*before, "toy_db", "toy_db_std"]
    granted = execute(database, "SELECT has_table_privilege('pg_monitor', 'heimdall.receiver_features', 'SELECT')")
    assert granted.scalar()
    assert execute(database, "SELECT count(*) FROM heimdall.mine").scalar() == 0


def test_code_of_fewer_features_leaves_the_view_as_it_is(database, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(receiver_view, "FEATURES", (*FEATURES, TOY))
        migrate(database)
    before = columns(database)
    migrate(database)
    assert columns(database) == before
