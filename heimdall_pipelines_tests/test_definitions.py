import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS, DATASET_CHECKS
from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.asset_metadata import stored_in_bucket
from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES, FEATURE_VERSION
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.settings import load_bucket_settings
from heimdall_pipelines.store.table_columns import table_columns

# In a process of its own: no import of the tests helps, and no HEIMDALL_ variable is needed to load.
LOAD = """
import json
from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS, DATASET_CHECKS
from heimdall_pipelines.definitions import definitions
repository = definitions.get_repository_def()
print(json.dumps({
    "assets": sorted(key.to_user_string() for key in definitions.resolve_all_asset_keys()),
    "checks": len(definitions.resolve_asset_graph().asset_check_keys),
    "sensors": [sensor.name for sensor in definitions.sensors],
    "schedules": [schedule.name for schedule in definitions.schedules],
    "jobs": sorted(name for name in repository.job_names if not name.startswith("__")),
}))
"""


@pytest.mark.slow
@pytest.mark.programs
def test_everything_loads_in_a_fresh_process_without_any_setting():
    answer = subprocess.run([sys.executable, "-W", "error", "-c", LOAD], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {
        "assets": [
            "recorded/measurement_features",
            "recorded/positions",
            "recorded/raw_iq_objects",
            "recorded/station_uptime",
            "synthetic/batches",
            "synthetic/dataset_export",
            "synthetic/dataset_summary",
            "synthetic/datasets",
            "synthetic/measurement_features",
            "synthetic/raw_iq_objects",
            "terrain/coverage",
            "websdr_stations",
        ],
        "checks": 1 + sum(map(len, (SESSION_CHECKS, DATASET_CHECKS, BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS))),
        "sensors": [
            "completed_recording_sessions",
            "requested_synthetic_batches",
            "failed_asset_check_alerts",
            "abandoned_recordings",
            "lost_runs",
        ],
        "schedules": [
            "weekly_validation",
            "hourly_station_check",
            "scheduled_recording",
            "daily_expiry",
            "daily_run_expiry",
        ],
        "jobs": [
            "check_stations",
            "expire_runs",
            "expire_sessions",
            "export_synthetic_dataset",
            "extract_recorded_session",
            "locate_recorded_session",
            "make_synthetic_batches",
            "record_session",
            "repair_synthetic_dataset",
            "summarise_synthetic_dataset",
            "validate_everything",
            "validate_recorded_session",
            "validate_synthetic_dataset",
        ],
    }


def test_definitions_are_valid_and_resources_can_be_replaced():
    stores = dg.ResourceDefinition.hardcoded_resource("stores of a test")
    definitions = build_definitions({"stores": stores})
    dg.Definitions.validate_loadable(definitions)
    assert definitions.resources["stores"] is stores


def test_every_job_except_recording_is_retried_after_a_crash():
    again = {
        job.name: job.tags.get("dagster/retry_strategy") == "ALL_STEPS"
        for job in build_definitions().get_repository_def().get_all_jobs()
        if not job.name.startswith("__")
    }
    assert [name for name, is_run_again in again.items() if not is_run_again] == ["record_session"]


def test_assets_of_features_carry_their_version_and_columns():
    graph = build_definitions().resolve_asset_graph()
    for room in ("recorded", "synthetic"):
        asset = graph.get(dg.AssetKey([room, "measurement_features"]))
        columns = {column.name: column for column in asset.metadata["dagster/column_schema"].columns}
        assert asset.code_version == str(FEATURE_VERSION)
        assert set(columns) > {f"receiver_features[].{name}" for name in FEATURE_NAMES}
        cn0 = columns["receiver_features[].cn0_dbhz"]
        assert cn0.description.startswith("mean over the chunks, dB-Hz: carrier-to-noise density")
        assert cn0.tags == {"since_feature_version": "2"}


ASSETS = [
    pytest.param(node, id=node.key.to_user_string())
    for node in sorted(build_definitions().resolve_asset_graph().asset_nodes, key=lambda node: node.key)
]
ONLY_IN_METADATA = {  # their numbers are in their materializations
    dg.AssetKey(["synthetic", "dataset_export"]),
    dg.AssetKey(["synthetic", "dataset_summary"]),
    dg.AssetKey(["terrain", "coverage"]),
}


@pytest.mark.parametrize("asset", ASSETS)
def test_every_asset_has_owner_columns_and_location(asset):
    assert asset.owners == ["team:heimdall"]
    assert asset.description
    assert asset.kinds
    references = asset.metadata["dagster/code_references"].code_references
    assert all(Path(reference.file_path).is_file() for reference in references)
    assert references
    if asset.key in ONLY_IN_METADATA:
        return
    table = asset.metadata["dagster/table_name"]
    columns = asset.metadata["dagster/column_schema"].columns
    assert table.startswith("heimdall.")
    assert [column.name for column in columns][: len(table_columns(table.removeprefix("heimdall.")))] == [
        column.name for column in table_columns(table.removeprefix("heimdall."))
    ]
    assert all(column.description for column in columns)
    if "s3" in asset.kinds:
        assert asset.metadata["dagster/uri"].startswith("s3://heimdall-")


def test_station_uptime_and_recorded_features_have_a_freshness_policy():
    policies = {asset.values[0].key.to_user_string(): asset.values[0].freshness_policy for asset in ASSETS}
    assert {name for name, policy in policies.items() if policy is not None} == {
        "recorded/station_uptime",
        "recorded/measurement_features",
    }


def test_addresses_of_objects_follow_the_names_of_the_buckets(monkeypatch):
    monkeypatch.setenv("HEIMDALL_S3_BUCKET_RAW_IQ", "mine")
    assert stored_in_bucket(load_bucket_settings().s3_bucket_raw_iq, "sessions/") == {
        "dagster/uri": "s3://mine/sessions/"
    }
