"""The receiver network: its sync into the database."""

import dagster as dg

from heimdall_pipelines.defs.asset_metadata import OWNERS, stored_in_table
from heimdall_pipelines.defs.metadata import table_metadata
from heimdall_pipelines.defs.partitions import STATIONS
from heimdall_pipelines.stations.network import load_network, sync_network
from heimdall_pipelines.store.stations import list_stations
from heimdall_pipelines.store.stores import Stores


@dg.asset(group_name="stations", owners=OWNERS, kinds={"postgres"}, metadata=stored_in_table("websdr_stations"))
def websdr_stations(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]) -> dg.MaterializeResult[None]:
    """The receivers of the network and the transmitters with known position.

    Adds what is missing in the tables `websdr_stations` and `known_sources`. Rows that exist are never
    changed, so that edits stay; differences from the file are reported as drift. Each station becomes a partition of
    `terrain/coverage`.
    """
    report = sync_network(stores.database, load_network())
    stations = list_stations(stores.database)
    context.instance.add_dynamic_partitions(STATIONS, [station.rx_id for station in stations])
    return dg.MaterializeResult(
        metadata={
            "stations": len(stations),
            "added": list(report.added),
            "drift": list(report.drift),
            "network": table_metadata(
                ("rx_id", "name", "latitude", "longitude", "altitude, m", "active"),
                (
                    (s.rx_id, s.name, f"{s.latitude:.4f}", f"{s.longitude:.4f}", f"{s.altitude_m:g}", s.is_active)
                    for s in stations
                ),
            ),
        }
    )
