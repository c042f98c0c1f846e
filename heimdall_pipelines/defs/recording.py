"""Recording from live receivers: the job that records, its schedule, checks of stations, and the watchdog."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import dagster as dg
from pydantic import BeforeValidator, Field

from heimdall_pipelines.defs.asset_metadata import OWNERS, stored_in_table
from heimdall_pipelines.defs.metadata import drawn_or_reason, table_metadata
from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage
from heimdall_pipelines.defs.partitions import recording_sessions
from heimdall_pipelines.defs.recorded import raw_iq_materialization
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.formats.frequencies import frequency_hz_of
from heimdall_pipelines.sessions.abandoned import close_abandoned_sessions
from heimdall_pipelines.sessions.limits import MAX_STATIONS
from heimdall_pipelines.sessions.record_request import RecordRequest
from heimdall_pipelines.sessions.recording import record_session as record
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.stations.checking import check_stations as check_all_stations
from heimdall_pipelines.store.session_revisions import SessionRevision
from heimdall_pipelines.store.station_checks import PastCheck, past_checks, station_uptimes
from heimdall_pipelines.store.stores import Stores

UPTIME_DAYS = 7.0

# Dagster has no union of number and text.
_FrequencyHz = Annotated[Any, BeforeValidator(frequency_hz_of)]
_OptionalFrequencyHz = Annotated[Any, BeforeValidator(lambda value: None if value is None else frequency_hz_of(value))]


class RecordConfig(dg.Config):
    """What to record."""

    frequency_hz: _FrequencyHz = Field(
        description="Centre: a number of Hz, or with its unit as in 145.5MHz", examples=[77500.0, "77.5kHz"]
    )
    duration_s: float = Field(default=10.0, description="Length of the recording, s; at most 3600")
    stations: list[str] = Field(default=[], description="Slugs of the stations; empty: every active one with a client")
    known_source: str | None = Field(default=None, description="Name of the transmitter, for example DCF77")
    bandwidth_hz: _OptionalFrequencyHz = Field(
        default=None, description="Width of the channel, Hz or with its unit as in 5kHz; default 12500"
    )
    name: str | None = Field(default=None, description="Name of the session; default: frequency and time")
    slug: str | None = Field(
        default=None,
        description="Slug of the session, followed by a number if it is taken; default: start, frequency, name",
    )
    manual_gain_db: float | None = Field(
        default=None,
        description="Fixed gain of KiwiSDRs, 0 to 120; default: automatic, and levels are uncalibrated",
    )
    max_stations: int = Field(
        default=MAX_STATIONS, description="Highest number of stations; a request for more is refused"
    )


@dg.op(name="record")
def _record(context: dg.OpExecutionContext, config: RecordConfig, stores: dg.ResourceParam[Stores]) -> None:
    """Record, and report the session's IQ to Dagster; the sensor requests the extraction."""
    request = RecordRequest(
        frequency_hz=config.frequency_hz,
        duration_s=config.duration_s,
        rx_ids=tuple(config.stations) or None,
        known_source=config.known_source,
        bandwidth_hz=config.bandwidth_hz,
        name=config.name,
        slug=config.slug,
        manual_gain_db=config.manual_gain_db,
        max_stations=config.max_stations,
    )
    report = record(stores, request, context.log.info)
    if report.status != "completed":
        raise dg.Failure(f"session {report.slug}: {report.error_message}", allow_retries=False)
    if report.error_message is not None:
        context.log.warning(report.error_message)
    assert recording_sessions.name is not None
    context.instance.add_dynamic_partitions(recording_sessions.name, [report.slug])
    context.log_event(raw_iq_materialization(stores, SessionRevision(report.session_id, report.slug, report.revision)))


@dg.job(
    description="Records the same frequency at several stations at once, as one session; see the op's config.",
    tags={"dagster/max_retries": "0"},  # the transmission is over when the process of the run has died
)
def record_session() -> None:
    """Record a session."""
    _record()


@dg.schedule(
    job=record_session,
    cron_schedule="0 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Records every full hour, configured by HEIMDALL_SCHEDULED_RECORDING; stopped until you start it.",
)
def scheduled_recording(settings: dg.ResourceParam[Settings]) -> dg.RunRequest | dg.SkipReason:
    """Request a recording with the config of the environment."""
    if settings.scheduled_recording is None:
        return dg.SkipReason(
            "HEIMDALL_SCHEDULED_RECORDING is not set; it takes the config of the op record as JSON, for example "
            '{"frequency_hz": 77500, "duration_s": 60, "known_source": "DCF77"}'
        )
    return dg.RunRequest(run_config={"ops": {"record": {"config": json.loads(settings.scheduled_recording)}}})


@dg.asset(
    key=["recorded", "station_uptime"],
    group_name="recorded",
    owners=OWNERS,
    kinds={"postgres"},
    deps=["websdr_stations"],
    metadata=stored_in_table("station_checks"),
    # hourly_station_check materializes it every hour; the warning comes when two checks in a row are missing.
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1), warn_window=timedelta(hours=3)),
)
def station_uptime(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]) -> dg.MaterializeResult[None]:
    """Whether every active station with a client answers; the history is in the table `station_checks`.

    A picture shows the last week. The UI plots the numbers of each station (up: 1 or 0, latency) over time: choose
    "Plots" instead of "Table".
    """
    with retried_after_outage(context.op_execution_context):
        checks = check_all_stations(stores)
        uptimes = {uptime.rx_id: uptime for uptime in station_uptimes(stores.database, UPTIME_DAYS)}
        history = past_checks(stores.database, UPTIME_DAYS)
    metadata: dict[str, dg.MetadataValue] = {}
    title = f"stations in the last {UPTIME_DAYS:g} days"
    picture = drawn_or_reason(title, partial(_draw_uptime, history), context.log.warning)
    if picture is not None:
        metadata["history"] = picture
    columns = ("station", "up", "latency, ms", "GNSS fix, s ago", "users", f"up in {UPTIME_DAYS:g} days", "remarks")
    metadata["answers"] = table_metadata(
        columns,
        [
            (
                check.rx_id,
                "yes" if check.is_up else "no",
                "" if check.latency_ms is None else f"{check.latency_ms:.1f}",
                "" if check.gnss_fix_age_s is None else f"{check.gnss_fix_age_s:.0f}",
                "" if check.num_users is None else check.num_users,
                f"{uptimes[check.rx_id].num_up} of {uptimes[check.rx_id].num_checks}" if check.rx_id in uptimes else "",
                (check.reason or "").replace("|", "/"),
            )
            for check in checks
        ],
    )
    metadata |= {
        "stations_asked": dg.MetadataValue.int(len(checks)),
        "stations_up": dg.MetadataValue.int(sum(check.is_up for check in checks)),
    }
    for check in checks:
        metadata[f"{check.rx_id}_up"] = dg.MetadataValue.int(int(check.is_up))
        if check.latency_ms is not None:
            metadata[f"{check.rx_id}_latency_ms"] = dg.MetadataValue.float(round(check.latency_ms, 3))
    return dg.MaterializeResult(metadata=metadata)


def _draw_uptime(history: Sequence[PastCheck]) -> bytes | None:
    from heimdall_pipelines.stations.pictures import uptime_png  # matplotlib: 27 MB that other runs save

    return uptime_png(history, datetime.now(UTC))


check_stations = dg.define_asset_job(
    "check_stations",
    selection=dg.AssetSelection.assets(station_uptime),
    description="Checks every active station that has a client, and stores the results.",
    tags=RUN_AGAIN_WHOLE,
)

hourly_station_check = dg.ScheduleDefinition(
    name="hourly_station_check",
    job=check_stations,
    cron_schedule="0 * * * *",
    execution_timezone="UTC",
    # Off until an operator turns it on: stations are other people's receivers.
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Checks the stations every full hour; off by default.",
)


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Marks recordings whose process was killed as failed, and deletes their objects; starts no run.",
)
def abandoned_recordings(context: dg.SensorEvaluationContext, stores: dg.ResourceParam[Stores]) -> dg.SkipReason:
    """Level-triggered: recordings that are late or send no heartbeat are closed."""
    try:
        closed = close_abandoned_sessions(stores)
    except UnavailableError as error:
        return dg.SkipReason(f"could not look for abandoned recordings: {error}")
    for session in closed:
        context.log.warning(f"session {session.slug} ({session.name}): {session.error_message}")
    return dg.SkipReason(f"{len(closed)} abandoned recordings were closed" if closed else "no recording is abandoned")
