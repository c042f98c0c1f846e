"""Recorded sessions: their IQ, the extraction of features, the checks, and the sensor that starts both assets."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import chain, islice
from typing import TypeVar

import dagster as dg

from heimdall_pipelines.defs.asset_metadata import OWNERS, stored_in_bucket, stored_in_table
from heimdall_pipelines.defs.check_results import check_evaluation, check_result
from heimdall_pipelines.defs.metadata import drawn_or_reason, table_metadata
from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage
from heimdall_pipelines.defs.partitions import recording_sessions
from heimdall_pipelines.defs.positions import recorded_positions
from heimdall_pipelines.defs.requested_runs import UNFINISHED, unrequested
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.sessions.extraction import ExtractionReport, StationSummary, extract_session
from heimdall_pipelines.sessions.notes import station_notes
from heimdall_pipelines.sessions.position_checks import POSITION_CHECKS
from heimdall_pipelines.sessions.validation import SessionValidation, validate_session
from heimdall_pipelines.settings import load_bucket_settings
from heimdall_pipelines.status.run_tags import PARTITION_TAG
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.iq_objects import SESSIONS_PREFIX
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.session_inputs import StaleSession, stale_sessions
from heimdall_pipelines.store.session_revisions import SessionRevision, due_for_extraction
from heimdall_pipelines.store.stale_positions import StalePosition, stale_positions
from heimdall_pipelines.store.stores import Stores

EXTRACTION = "extraction"  # the pool of runs that extract features
MAX_REQUESTS_PER_TICK = 100
_PAGE = 200

_Session = TypeVar("_Session", bound=SessionRevision)

raw_iq_objects = dg.AssetSpec(
    key=["recorded", "raw_iq_objects"],
    group_name="recorded",
    owners=OWNERS,
    kinds={"s3", "postgres"},
    partitions_def=recording_sessions,
    deps=["websdr_stations"],
    metadata=stored_in_bucket(load_bucket_settings().s3_bucket_raw_iq, SESSIONS_PREFIX)
    | stored_in_table("measurements"),
    description="IQ of each station of a session in the S3 store, described by SigMF, with a row for each station in "
    "the table measurements. An import or a recording stores it.",
)


@dg.asset(
    key=["recorded", "measurement_features"],
    group_name="recorded",
    owners=OWNERS,
    kinds={"postgres"},
    partitions_def=recording_sessions,
    deps=[raw_iq_objects],
    pool=EXTRACTION,
    code_version=str(FEATURE_VERSION),
    metadata=stored_in_table("measurement_features"),
    # Of the asset as a whole: the last session that was extracted, whichever it was.
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=30), warn_window=timedelta(days=7)),
)
def recorded_measurement_features(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]
) -> dg.MaterializeResult[None]:
    """Features of a session: one row per second, with every station that recorded it."""
    with retried_after_outage(context.op_execution_context):
        report = extract_session(stores, context.partition_key, progress=context.log.info)
    for station in report.stations:
        if station.error_message is not None:
            context.log.warning(f"{station.rx_id}: {station.error_message}")
    context.log.info(
        f"{report.session.slug}: {report.num_rows} rows written, "
        f"{len(report.stations) - len(report.failed_stations)} of {len(report.stations)} stations extracted"
    )
    return dg.MaterializeResult(metadata=_extraction_metadata(report, context.log.warning))


def checked_asset(check_name: str) -> dg.AssetKey:
    """The asset that a check of a session belongs to."""
    return recorded_positions.key if check_name in POSITION_CHECKS else recorded_measurement_features.key


@dg.multi_asset_check(
    name="recorded_measurement_features_checks",
    specs=[
        dg.AssetCheckSpec(name, asset=checked_asset(name), description=description, partitions_def=recording_sessions)
        for name, (_, description) in SESSION_CHECKS.items()
    ],
    can_subset=True,  # a run of one of both assets has its checks
)
def recorded_measurement_features_checks(
    context: dg.AssetCheckExecutionContext, stores: dg.ResourceParam[Stores]
) -> Iterator[dg.AssetCheckResult]:
    """Compare a session's rows, measurements and objects, and store its health; an outage raises and fails no check."""
    with retried_after_outage(context.op_execution_context):
        outcomes = validate_session(stores, context.partition_key).outcomes
    selected = {key.name for key in context.selected_asset_check_keys}
    for outcome in outcomes:
        if outcome.name in selected:
            yield check_result(outcome, checked_asset(outcome.name))


def session_evaluations(validation: SessionValidation) -> Iterator[dg.AssetCheckEvaluation]:
    """Report the findings of a validation made outside of these checks."""
    for outcome in validation.outcomes:
        yield check_evaluation(outcome, checked_asset(outcome.name), validation.session.slug)


extract_recorded_session = dg.define_asset_job(
    "extract_recorded_session",
    selection=dg.AssetSelection.assets(recorded_measurement_features, recorded_positions),  # with their checks
    description="Extracts the features of one recording session, locates its transmitter, and checks both.",
    tags=RUN_AGAIN_WHOLE,
)

locate_recorded_session = dg.define_asset_job(
    "locate_recorded_session",
    selection=dg.AssetSelection.assets(recorded_positions),  # with its checks
    description="Locates the transmitter of one recording session from its IQ, and checks the position.",
    tags=RUN_AGAIN_WHOLE,
)

validate_recorded_session = dg.define_asset_job(
    "validate_recorded_session",
    selection=dg.AssetSelection.checks_for_assets(recorded_measurement_features, recorded_positions),
    # A job takes its partitions from the assets that it materializes, and this one has none.
    config=dg.PartitionedConfig(recording_sessions, run_config_for_partition_key_fn=lambda _key: {}),
    description="Checks one recording session as it is and stores its health; extracts nothing.",
    tags=RUN_AGAIN_WHOLE,
)


@dg.sensor(
    jobs=[extract_recorded_session, locate_recorded_session],
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Starts the extraction of completed sessions whose current revision has no features, oldest first, "
    "then of those whose measurements, clocks, stations' positions or known source have changed since their "
    "extraction; locates extracted sessions without a position, or with one of other delays than those that hold now.",
)
def completed_recording_sessions(
    context: dg.SensorEvaluationContext, stores: dg.ResourceParam[Stores]
) -> dg.SensorResult | dg.SkipReason:
    """Level-triggered: sessions without features or position, or with those of other inputs; there is no cursor."""
    pages = chain(_pages(stores.database, due_for_extraction), _trusted(_pages(stores.database, stale_sessions)))
    open_sessions = chain.from_iterable(unrequested(context.instance, page) for page in pages)
    due = list(islice(open_sessions, MAX_REQUESTS_PER_TICK))
    unlocated = list(islice(_unlocated(context.instance, stores.database, but=due), MAX_REQUESTS_PER_TICK - len(due)))
    if not due and not unlocated:
        return dg.SkipReason(
            "features and positions of every completed session are current, or their extraction was requested"
        )
    return dg.SensorResult(
        dynamic_partitions_requests=[
            recording_sessions.build_add_request([session.slug for session in (*due, *unlocated)])
        ],
        run_requests=[
            dg.RunRequest(run_key=session.run_key, partition_key=session.slug, job_name=job.name)
            for job, sessions in ((extract_recorded_session, due), (locate_recorded_session, unlocated))
            for session in sessions
        ],
        asset_events=[raw_iq_materialization(stores, session) for session in due],
    )


def _unlocated(
    instance: dg.DagsterInstance, database: Database, but: Sequence[SessionRevision]
) -> Iterator[StalePosition]:
    """Extracted sessions to be located, of which no run is under way: an extraction locates its session, too."""
    extracted = {session.session_id for session in but}
    for page in _pages(database, stale_positions):
        for session in unrequested(instance, page):
            is_open = session.session_id not in extracted and not session.edited
            if is_open and not _is_under_way(instance, session.slug):
                yield session


def _is_under_way(instance: dg.DagsterInstance, slug: str) -> bool:
    """Whether a run of a session is queued or has not ended."""
    unfinished = dg.RunsFilter(tags={PARTITION_TAG: slug}, statuses=UNFINISHED)
    return bool(instance.get_run_records(unfinished, limit=1))


def _pages(database: Database, read: Callable[..., Sequence[_Session]]) -> Iterator[Sequence[_Session]]:
    """Pages of due sessions, read when they are needed."""
    page = read(database, limit=_PAGE)
    while page:
        yield page
        page = read(database, limit=_PAGE, after=page[-1])


def _trusted(pages: Iterable[Sequence[StaleSession]]) -> Iterator[Sequence[SessionRevision]]:
    """Leave out sessions whose inputs were edited by hand: new features would hide the edit."""
    for page in pages:
        trusted = [session for session in page if not session.edited]
        if trusted:
            yield trusted


def raw_iq_materialization(stores: Stores, session: SessionRevision) -> dg.AssetMaterialization:
    """Report a session's IQ, which an import stored outside of Dagster."""
    recordings = list_recordings(stores.database, session.session_id)
    return dg.AssetMaterialization(
        raw_iq_objects.key,
        partition=session.slug,
        metadata={
            "session_id": str(session.session_id),
            "stations": [recording.station.rx_id for recording in recordings],
            "samples": sum(recording.samples_count for recording in recordings),
            "objects": [str(recording.location) for recording in recordings if recording.location],
            "revision": session.revision,
        },
    )


def _draw_spectrograms(report: ExtractionReport) -> bytes | None:
    from heimdall_pipelines.sessions.pictures import spectrogram_png  # matplotlib: 27 MB that other runs save

    return spectrogram_png(report)


def _extraction_metadata(report: ExtractionReport, warn: Callable[[str], object]) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "session": dg.MetadataValue.text(report.session.slug),
        "session_id": dg.MetadataValue.text(str(report.session.id)),
        "name": dg.MetadataValue.text(report.session.name),
        "rows": dg.MetadataValue.int(report.num_rows),
        "stations": dg.MetadataValue.int(len(report.stations)),
        "failed_stations": dg.MetadataValue.text(", ".join(report.failed_stations) or "none"),
        "duration_s": dg.MetadataValue.float(report.duration_s),
        "heard": _station_table(report.stations),
        "time_differences": table_metadata(
            ("stations", "median, us", "scatter, us", "known in segments", "why not in others"),
            (
                (
                    f"{pair.rx_a} - {pair.rx_b}",
                    _number(pair.median_us, 2),
                    _number(pair.scatter_us, 2),
                    f"{pair.num_known} of {pair.num}",
                    pair.reason or "",
                )
                for pair in report.pairs
            ),
        ),
    }
    notes = [*report.notes, *station_notes(report.stations)]
    if notes:
        metadata["notes"] = dg.MetadataValue.md("\n".join(f"- {note}" for note in notes))
    if report.error_message is not None:
        metadata["error_message"] = dg.MetadataValue.text(report.error_message)
    picture = drawn_or_reason("spectrogram per station", partial(_draw_spectrograms, report), warn)
    if picture is not None:
        metadata["spectrogram"] = picture
    return metadata


def _station_table(stations: Sequence[StationSummary]) -> dg.MetadataValue:
    return table_metadata(
        ("station", "SNR, dB", "C/N0, dB-Hz", "signal strength, dBm", "frequency offset, Hz", "signal present"),
        (
            (
                station.rx_id,
                _number(metrics.snr_db, 1),
                _number(station.mean_cn0_dbhz, 1),
                _number(metrics.signal_strength_dbm, 1),
                _number(metrics.frequency_offset_hz, 3),
                f"{station.segments_present} of {station.segments} segments",
            )
            for station in stations
            for metrics in (station.metrics(),)
        ),
    )


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
