"""Terrain: whether stations fit it, and how far each one hears."""

import dagster as dg
from pydantic import Field

from heimdall_pipelines.defs.asset_metadata import OWNERS
from heimdall_pipelines.defs.check_results import check_result
from heimdall_pipelines.defs.metadata import picture_metadata
from heimdall_pipelines.defs.outages import retried_after_outage
from heimdall_pipelines.defs.partitions import stations
from heimdall_pipelines.defs.stations import websdr_stations
from heimdall_pipelines.model.checks import CheckOutcome
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import bounding_box
from heimdall_pipelines.stations.ground import look_at_ground
from heimdall_pipelines.store.stations import get_station, list_stations
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.terrain.choosing import choose_ground
from heimdall_pipelines.terrain.coverage import CoverageRequest, compute_coverage

ALTITUDES_FIT = "altitudes_fit_the_ground"
_LEVELS_DBM = (-110, -100, -90)
_DEG_PER_M = 1 / 70e3  # of longitude at 51 degrees of latitude, to find tiles


class CoverageConfig(dg.Config):
    """A transmitter at the station, or transmitters in the area that it hears: the loss is the same both ways."""

    frequency_hz: float = Field(default=145e6, description="Carrier frequency, Hz")
    power_dbm: float = Field(default=37.0, description="Power into an isotropic antenna, dBm")
    mast_m: float | None = Field(default=None, description="Antenna above ground, m; default: the station's")
    radius_km: float = Field(default=50.0, gt=0, le=300, description="Half the side of the square area, km")
    cell_m: float = Field(default=500.0, ge=100, le=10_000, description="Side of a cell, m")


@dg.asset_check(
    asset=websdr_stations,
    name=ALTITUDES_FIT,
    description="The altitude of every station is that of an antenna on the ground at its coordinates.",
)
def altitudes_fit_the_ground(
    context: dg.AssetCheckExecutionContext, stores: dg.ResourceParam[Stores]
) -> dg.AssetCheckResult:
    """Compare the altitudes of stations with the finest terrain; a station without terrain is not compared."""
    with retried_after_outage(context.op_execution_context):
        known = list_stations(stores.database)
        look = look_at_ground(stores, known)
    outcome = CheckOutcome(
        ALTITUDES_FIT, "WARN", numbers={"stations": len(known), "stations_compared": len(look.ground_m)}
    )
    for misfit in look.misfits:
        outcome.problem(str(misfit))
    outcome.repair = "correct altitude_m or the coordinates in heimdall.websdr_stations"
    return check_result(outcome, websdr_stations.key)


@dg.asset(
    key=["terrain", "coverage"],
    group_name="terrain",
    owners=OWNERS,
    kinds={"python"},
    partitions_def=stations,
    deps=[dg.AssetDep(websdr_stations, partition_mapping=dg.AllPartitionMapping())],
)
def terrain_coverage(
    context: dg.AssetExecutionContext, config: CoverageConfig, stores: dg.ResourceParam[Stores]
) -> dg.MaterializeResult[None]:
    """Level over the area around a station; the partition is its slug. Nothing is stored but the picture."""
    from heimdall_pipelines.terrain.pictures import coverage_figure, png_of  # matplotlib: 27 MB that other runs save

    with retried_after_outage(context.op_execution_context):
        station = get_station(stores.database, context.partition_key)
        site = ReceiverSite(station.rx_id, station.latitude, station.longitude, station.altitude_m)
        area = bounding_box([site], config.radius_km * 1e3 * _DEG_PER_M)
        chosen = choose_ground(stores, area, partly=True)
    if chosen.ground.terrain is None:
        raise dg.Failure(f"{station.rx_id}: {chosen.note}", allow_retries=False)
    request = CoverageRequest(
        station.latitude,
        station.longitude,
        config.frequency_hz,
        config.power_dbm,
        station.antenna_height_m if config.mast_m is None else config.mast_m,
        config.radius_km * 1e3,
        config.cell_m,
    )
    coverage = compute_coverage(chosen.ground.terrain, request, context.log.info)
    png = png_of(coverage_figure(coverage, chosen.ground.terrain, station.rx_id))
    metadata: dict[str, dg.MetadataValue] = {
        "coverage": picture_metadata("coverage", png),
        "terrain": dg.MetadataValue.text(chosen.note),
        "cells": dg.MetadataValue.int(request.num_cells),
        "line_of_sight": dg.MetadataValue.float(round(float(coverage.is_line_of_sight.mean()), 4)),
    }
    for level_dbm in _LEVELS_DBM:
        share = round(coverage.share_above(level_dbm), 4)
        metadata[f"share of {level_dbm} dBm or more"] = dg.MetadataValue.float(share)
    return dg.MaterializeResult(metadata=metadata)
