import dagster as dg
from sqlalchemy import text

from heimdall_pipelines.definitions import build_definitions


def materialize(instance):
    job = build_definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("websdr_stations")])
    (materialization,) = result.asset_materializations_for_node("websdr_stations")
    return materialization.metadata


def test_materializing_the_network_adds_it_once_and_then_reports_drift(environment, stores):
    with dg.DagsterInstance.ephemeral() as instance:
        first = materialize(instance)
        assert (first["stations"].value, len(first["added"].value), first["drift"].value) == (7, 8, [])
        with stores.database.transaction() as connection:
            connection.execute(text("UPDATE heimdall.websdr_stations SET name = 'Turin' WHERE rx_id = 'torino'"))
        second = materialize(instance)
        assert (second["added"].value, second["drift"].value) == (
            [],
            ["torino: name is 'Turin', the file has 'Torino'"],
        )
