"""Terrain in Dagster: the check of altitudes, and coverage as a picture of its partition."""

import dagster as dg
import pytest
from sqlalchemy import text

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import STATIONS
from heimdall_pipelines.defs.terrain import ALTITUDES_FIT


@pytest.fixture
def instance(environment):
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def network(instance):
    job = build_definitions().resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("websdr_stations")])


def test_altitudes_that_do_not_fit_the_ground_fail_a_check(instance, stores):
    (evaluation,) = network(instance).get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.passed, evaluation.severity) == (
        ALTITUDES_FIT,
        False,
        dg.AssetCheckSeverity.WARN,
    )
    assert evaluation.metadata["stations_compared"].value == 7
    examples = evaluation.metadata["examples"].value
    assert "aquila-di-giaveno: altitude_m 600" in examples
    assert "coazze: altitude_m 700" in examples
    with stores.database.transaction() as connection:
        connection.execute(
            text("UPDATE heimdall.websdr_stations SET altitude_m = 1250 WHERE rx_id IN ('coazze', 'aquila-di-giaveno')")
        )
    (evaluation,) = network(instance).get_asset_check_evaluations()
    assert evaluation.passed


def test_coverage_of_a_station_is_a_picture_with_shares(instance):
    network(instance)
    assert "torino" in instance.get_dynamic_partitions(STATIONS)
    job = build_definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["terrain", "coverage"])],
        partition_key="torino",
        run_config={"ops": {"terrain__coverage": {"config": {"radius_km": 10.0, "cell_m": 2000.0}}}},
    )
    (materialization,) = result.asset_materializations_for_node("terrain__coverage")
    metadata = materialization.metadata
    assert metadata["cells"].value == 121
    assert 0 < metadata["share of -110 dBm or more"].value <= 1
    assert len(metadata["coverage"].value) < 150_000  # as base64
    assert "GLOBE" in metadata["terrain"].value


def test_coverage_without_terrain_is_a_failure_with_what_to_do(instance, stores):
    network(instance)
    with stores.database.transaction() as connection:
        connection.execute(text("UPDATE heimdall.websdr_stations SET latitude = 60 WHERE rx_id = 'torino'"))
    job = build_definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["terrain", "coverage"])],
        partition_key="torino",
        raise_on_error=False,
    )
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "heimdall terrain download --area" in failed.step_failure_data.user_failure_data.description
