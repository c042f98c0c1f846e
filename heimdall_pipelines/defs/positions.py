"""Positions of recorded sessions: where the transmitter is, by its time differences of arrival."""

from collections.abc import Callable, Iterable
from functools import partial

import dagster as dg

from heimdall_pipelines.defs.asset_metadata import OWNERS, stored_in_table
from heimdall_pipelines.defs.metadata import drawn_or_reason, table_metadata
from heimdall_pipelines.defs.outages import retried_after_outage
from heimdall_pipelines.defs.partitions import recording_sessions
from heimdall_pipelines.model.position import METHOD
from heimdall_pipelines.sessions.positions import StoredLocation, locate_and_store
from heimdall_pipelines.sessions.session_position import SessionPosition
from heimdall_pipelines.store.stores import Stores


@dg.asset(
    key=["recorded", "positions"],
    group_name="recorded",
    owners=OWNERS,
    kinds={"postgres"},
    partitions_def=recording_sessions,
    deps=[dg.AssetKey(["recorded", "raw_iq_objects"]), dg.AssetKey(["recorded", "measurement_features"])],
    pool="extraction",
    code_version=METHOD,
    metadata=stored_in_table("positions"),
)
def recorded_positions(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]
) -> dg.MaterializeResult[None]:
    """Position of a session's transmitter, as a whole and of each second; where there is none, the reason."""
    with retried_after_outage(context.op_execution_context):
        location = locate_and_store(stores, context.partition_key, progress=context.log.info)
    if location.reason is not None:
        context.log.info(f"{location.session.slug}: not located: {location.reason}")
    return dg.MaterializeResult(metadata=_metadata(stores, location, context.log.warning))


def _metadata(stores: Stores, location: StoredLocation, warn: Callable[[str], object]) -> dict[str, dg.MetadataValue]:
    session, position = location.session, location.position
    metadata: dict[str, dg.MetadataValue] = {
        "session": dg.MetadataValue.text(session.slug),
        "rows": dg.MetadataValue.int(len(location.rows)),
        "report": dg.MetadataValue.text(f"heimdall session report {session.slug} -o FOLDER"),
    }
    if location.measured is not None:
        metadata["time_differences"] = table_metadata(
            ("stations", "difference, us", "std, us", "peak", "known source, us", "note"),
            (
                (
                    f"{pair.rx_a} - {pair.rx_b}",
                    _number(pair.tdoa_us),
                    _number(pair.std_us),
                    _number(pair.peak),
                    _number(pair.expected_us),
                    pair.reason or "",
                )
                for pair in location.measured.pairs
            ),
        )
    if position is None:
        metadata["not_located"] = dg.MetadataValue.text(location.reason or "")
        return metadata
    fix = position.fix
    metadata |= {
        "latitude": dg.MetadataValue.float(round(fix.latitude, 6)),
        "longitude": dg.MetadataValue.float(round(fix.longitude, 6)),
        "ellipse_semi_major_m": dg.MetadataValue.float(round(fix.ellipse.semi_major_m, 1)),
        "ellipse_semi_minor_m": dg.MetadataValue.float(round(fix.ellipse.semi_minor_m, 1)),
        "ellipse_azimuth_deg": dg.MetadataValue.float(round(fix.ellipse.azimuth_deg, 1)),
        "segments_located": dg.MetadataValue.int(sum(block.fix is not None for block in position.blocks)),
        "stations": table_metadata(("station", "residual, us", "delay subtracted, us", "note"), _stations(position)),
    }
    if position.closure_us is not None:
        metadata["closure_us"] = dg.MetadataValue.float(round(position.closure_us, 3))
    if position.block_scatter_m is not None:
        metadata["scatter_of_seconds_m"] = dg.MetadataValue.float(round(position.block_scatter_m, 1))
    if position.distance_to_source_km is not None:
        metadata["distance_to_known_source_km"] = dg.MetadataValue.float(round(position.distance_to_source_km, 3))
    if position.delays:
        metadata["delays_from"] = dg.MetadataValue.text(position.delays[0].session_slug)
    picture = drawn_or_reason("position", partial(_draw, stores, position), warn)
    if picture is not None:
        metadata["map"] = picture
    return metadata


def _stations(position: SessionPosition) -> Iterable[tuple[str, ...]]:
    delays_us = position.delays_us
    for rx_id in sorted({*position.fix.residuals_us, *position.left_out}):
        yield (
            rx_id,
            _number(position.fix.residuals_us.get(rx_id)),
            _number(delays_us.get(rx_id)),
            f"left out: {position.left_out[rx_id]}" if rx_id in position.left_out else "",
        )


def _draw(stores: Stores, position: SessionPosition) -> bytes | None:
    from heimdall_pipelines.sessions.map_ground import terrain_of
    from heimdall_pipelines.sessions.position_picture import map_area, position_png  # matplotlib: 27 MB

    return position_png(position, terrain_of(stores, map_area(position)))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
