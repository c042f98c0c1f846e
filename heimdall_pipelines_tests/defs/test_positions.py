"""The asset recorded/positions: what the run shows, that it succeeds where there is no position, its checks alone."""

import base64
import re

import dagster as dg
import pytest
from sqlalchemy import text

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.sessions import position_picture
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines.sessions.position_checks import POSITION_CHECKS
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options

KEY = dg.AssetKey(["recorded", "positions"])


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def session(environment, example_session):
    return example_session(source=SOURCE, extracted=False).slug


def run(instance, slug, assets=None):
    instance.add_dynamic_partitions(RECORDING_SESSIONS, [slug])
    job = build_definitions().resolve_job_def("extract_recorded_session" if assets is None else "__ASSET_JOB")
    return job.execute_in_process(partition_key=slug, instance=instance, raise_on_error=False, asset_selection=assets)


def metadata(instance):
    return instance.get_latest_materialization_event(KEY).asset_materialization.metadata


def num_positions(stores):
    with stores.database.transaction() as connection:
        return connection.execute(text("SELECT count(*) FROM heimdall.positions")).scalar_one()


def test_the_run_of_an_extraction_locates_and_shows_tables_and_a_map(instance, stores, session):
    result = run(instance, session)
    assert result.success
    assert num_positions(stores) == 13
    checks = result.get_asset_check_evaluations()
    assert {check.check_name: check.passed for check in checks} == dict.fromkeys(SESSION_CHECKS, True)
    assert {check.check_name for check in checks if check.asset_key == KEY} == set(POSITION_CHECKS)
    shown = metadata(instance)
    assert shown["distance_to_known_source_km"].value < 1.0
    assert shown["segments_located"].value == 12
    assert "| genova - torino |" in shown["time_differences"].value
    assert "| torino |" in shown["stations"].value
    assert f"heimdall session report {session}" in shown["report"].value
    (data,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)\)", shown["map"].value)
    png = base64.b64decode(data)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000


def test_a_session_that_cannot_be_located_succeeds_and_says_why(instance, environment, stores, tmp_path):
    files = npy_files(tmp_path, {"torino": noise(300_000)})
    slug = import_files(stores, files, **npy_options()).slug
    result = run(instance, slug)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert "a position needs 3 stations" in metadata(instance)["not_located"].value
    assert num_positions(stores) == 1


@pytest.mark.slow
def test_the_asset_alone_has_its_own_checks(instance, session):
    run(instance, session)
    result = run(instance, session, [KEY])
    assert result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {KEY}
    assert {check.check_name for check in result.get_asset_check_evaluations()} == set(POSITION_CHECKS)


def test_a_map_that_fails_does_not_fail_the_run(instance, stores, session, monkeypatch):
    def fail(position, terrain):
        raise ValueError("no room for a map")

    monkeypatch.setattr(position_picture, "position_png", fail)
    assert run(instance, session).success
    assert metadata(instance)["map"].value == "could not be drawn: ValueError: no room for a map"
    assert num_positions(stores) == 13


def test_the_asset_carries_version_owner_and_columns():
    asset = build_definitions().resolve_asset_graph().get(KEY)
    assert asset.code_version
    assert asset.owners
    assert asset.kinds == {"postgres"}
    columns = {column.name: column for column in asset.metadata["dagster/column_schema"].columns}
    assert columns["semi_major_m"].type == "double precision"
    assert "(m)" in columns["semi_minor_m"].description or ", m" in columns["semi_minor_m"].description
