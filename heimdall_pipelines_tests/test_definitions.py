import json
import subprocess
import sys

import dagster as dg
import pytest

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES, FEATURE_VERSION

# In a process of its own: no import of the tests helps, and no HEIMDALL_ variable is needed to load.
LOAD = """
import json
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


@pytest.mark.programs
def test_everything_loads_in_a_fresh_process_without_any_setting():
    answer = subprocess.run([sys.executable, "-W", "error", "-c", LOAD], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {
        "assets": [
            "recorded/measurement_features",
            "recorded/raw_iq_objects",
            "recorded/station_uptime",
            "synthetic/batches",
            "synthetic/dataset_summary",
            "synthetic/datasets",
            "synthetic/measurement_features",
            "synthetic/raw_iq_objects",
            "websdr_stations",
        ],
        "checks": 19,
        "sensors": [
            "completed_recording_sessions",
            "requested_synthetic_batches",
            "failed_asset_check_alerts",
            "abandoned_recordings",
            "lost_runs",
        ],
        "schedules": ["weekly_validation", "hourly_station_check", "scheduled_recording", "daily_expiry"],
        "jobs": [
            "check_stations",
            "expire_sessions",
            "extract_recorded_session",
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


def test_every_job_is_run_again_when_its_process_died_but_the_one_that_records():
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
        assert set(columns) > set(FEATURE_NAMES)
        assert columns["cn0_dbhz"].description.startswith("mean over the chunks, dB-Hz: carrier-to-noise density")
        assert columns["cn0_dbhz"].tags == {"since_feature_version": "2"}
