"""Assembles everything that Dagster loads."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from heimdall_pipelines.cluster import lost_runs
from heimdall_pipelines.defs import (
    alerts,
    dataset_export,
    positions,
    recorded,
    recording,
    retention,
    stations,
    synthetic,
    synthetic_checks,
    synthetic_sensor,
    terrain,
    validation,
)
from heimdall_pipelines.defs.asset_metadata import code_reference
from heimdall_pipelines.defs.outages import started_again_after_outage
from heimdall_pipelines.defs.resources import settings_resource, stores_resource


def build_definitions(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Assemble assets, checks, jobs, sensors and resources.

    Parameters
    ----------
    resources : mapping, optional
        Resources that replace the default ones, by name (``stores``, ``settings``).
    """
    return dg.Definitions(
        assets=_assets(),
        asset_checks=[_with_hooks(check) for check in _CHECKS],
        jobs=[
            recorded.extract_recorded_session,
            recorded.locate_recorded_session,
            recorded.validate_recorded_session,
            recording.record_session,
            recording.check_stations,
            synthetic.make_synthetic_batches,
            synthetic.summarise_synthetic_dataset,
            dataset_export.export_synthetic_dataset,
            synthetic_checks.validate_synthetic_dataset,
            synthetic_checks.repair_synthetic_dataset,
            validation.validate_everything,
            retention.expire_sessions,
            retention.expire_runs,
        ],
        schedules=[
            validation.weekly_validation,
            recording.hourly_station_check,
            recording.scheduled_recording,
            retention.daily_expiry,
            retention.daily_run_expiry,
        ],
        sensors=[
            recorded.completed_recording_sessions,
            synthetic_sensor.requested_synthetic_batches,
            alerts.failed_asset_check_alerts,
            recording.abandoned_recordings,
            lost_runs.lost_runs,
        ],
        resources={"stores": stores_resource, "settings": settings_resource} | dict(resources or {}),
        executor=dg.in_process_executor,
    )


_ASSETS = (
    stations.websdr_stations,
    recorded.recorded_measurement_features,
    positions.recorded_positions,
    recording.station_uptime,
    synthetic.synthetic_dataset,
    synthetic.synthetic_batch,
    synthetic.synthetic_dataset_summary,
    dataset_export.synthetic_dataset_export,
    terrain.terrain_coverage,
)
_CHECKS = (
    terrain.altitudes_fit_the_ground,
    recorded.recorded_measurement_features_checks,
    synthetic_checks.synthetic_batch_checks,
    synthetic_checks.synthetic_dataset_checks,
)
_HOOKS = {started_again_after_outage}  # of assets, not of their jobs: the UI materializes in another job


def _assets() -> Sequence[Any]:
    """Assets with their hooks and the place of their code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # code references are beta in Dagster 1.13, which the lock pins
        return [
            recorded.raw_iq_objects.merge_attributes(metadata=code_reference(recorded.raw_iq_materialization)),
            *dg.with_source_code_references([asset.with_hooks(_HOOKS) for asset in _ASSETS]),
        ]


def _with_hooks(check: dg.AssetChecksDefinition) -> dg.AssetChecksDefinition:
    """Add the hooks to a check: ``check.with_hooks`` of Dagster 1.13 returns an asset, which loads with a warning."""
    attributes = check.get_attributes_dict() | {"hook_defs": _HOOKS}
    del attributes["execution_type"]  # beta, and the default
    return dg.AssetChecksDefinition(**attributes)


definitions = build_definitions()
