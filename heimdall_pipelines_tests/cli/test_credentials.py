"""Wrong credentials: one error that names the variables, without a traceback and without the secret."""

import dagster as dg
import pytest

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.sessions.support import import_files

WRONG = {
    "HEIMDALL_PG_PASSWORD": ("wrong-one", "see HEIMDALL_PG_USER and HEIMDALL_PG_PASSWORD"),
    "HEIMDALL_PG_USER": ("stranger", "see HEIMDALL_PG_USER and HEIMDALL_PG_PASSWORD"),
    "HEIMDALL_PG_DATABASE": ("nowhere", "see HEIMDALL_PG_DATABASE"),
    "HEIMDALL_S3_ACCESS_KEY": ("stranger", "see HEIMDALL_S3_ACCESS_KEY and HEIMDALL_S3_SECRET_KEY"),
    "HEIMDALL_S3_SECRET_KEY": ("wrong-one", "see HEIMDALL_S3_ACCESS_KEY and HEIMDALL_S3_SECRET_KEY"),
}


# Lists read the database alone and work while the object store does not.
@pytest.mark.parametrize(
    ("command", "variable"),
    [("backfill", variable) for variable in WRONG] + [("list", variable) for variable in WRONG if "_PG_" in variable],
)
def test_the_command_line_names_the_variable(heimdall, monkeypatch, command, variable):
    value, words = WRONG[variable]
    monkeypatch.setenv(variable, value)
    code, out, err = heimdall("session", command)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert words in err
    assert "Traceback" not in err
    assert "wrong-one" not in err


@pytest.mark.parametrize("variable", ["HEIMDALL_PG_PASSWORD", "HEIMDALL_PG_DATABASE", "HEIMDALL_S3_SECRET_KEY"])
def test_a_run_fails_at_once_and_names_the_variable(environment, example_session, monkeypatch, variable):
    session_id = str(example_session(extracted=False).session_id)
    value, words = WRONG[variable]
    monkeypatch.setenv(variable, value)
    job = build_definitions().resolve_job_def("extract_recorded_session")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("recording_sessions", [session_id])
        result = job.execute_in_process(instance=instance, partition_key=session_id, raise_on_error=False)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    said = str(failure.step_failure_data.error)
    assert words in said
    assert "wrong-one" not in said


@pytest.mark.slow
def test_a_database_of_dagster_that_is_not_there_is_named(heimdall, example_recordings, stores, monkeypatch, tmp_path):
    session_id = str(import_files(stores, example_recordings).session_id)
    (tmp_path / "dagster" / "dagster.yaml").symlink_to(PROJECT_FOLDER / "dagster.yaml")
    monkeypatch.setenv("HEIMDALL_PG_DAGSTER_DATABASE", "nowhere")
    code, _, err = heimdall("session", "extract", session_id)
    assert code == 1
    assert "HEIMDALL_PG_DAGSTER_DATABASE" in err
    assert "Traceback" not in err
