"""Sessions that are older than the settings allow, deleted whole by the schedule's job and by the command."""

import dagster as dg
import pytest
from sqlalchemy import text

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.retention import daily_expiry
from heimdall_pipelines.store.sessions import list_sessions
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options


@pytest.fixture
def sessions(stores, tmp_path):
    """Two sessions, completed 91 days ago and just now, of recordings that are much older."""
    made = []
    for days_ago in (91, 0):
        folder = tmp_path / str(days_ago)
        folder.mkdir()
        files = npy_files(folder, {"torino": noise(50_000, key=days_ago)})
        made.append(import_files(stores, files, **npy_options()))
    with stores.database.transaction() as connection:
        connection.execute(
            text("UPDATE heimdall.recording_sessions SET completed_at = now() - interval '91 days' WHERE id = :id"),
            {"id": made[0].session_id},
        )
    return made


def kept(stores):
    return {session.id for session in list_sessions(stores.database)}


@pytest.mark.parametrize(("days", "num_deleted"), [(None, 0), (92, 0), (90, 1)])
def test_the_job_deletes_sessions_of_that_age_with_objects_and_partition(
    environment, monkeypatch, stores, sessions, days, num_deleted
):
    if days is not None:
        monkeypatch.setenv("HEIMDALL_SESSION_RETENTION_DAYS", str(days))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(RECORDING_SESSIONS, [session.slug for session in sessions])
        assert build_definitions().resolve_job_def("expire_sessions").execute_in_process(instance=instance).success
        left = sessions[num_deleted:]
        assert kept(stores) == {session.session_id for session in left}
        assert set(instance.get_dynamic_partitions(RECORDING_SESSIONS)) == {session.slug for session in left}
    objects = [entry.key for entry in stores.objects.entries(stores.objects.raw_iq_bucket, "")]
    assert {key.split("/")[1] for key in objects} == {str(session.session_id) for session in left}


def test_the_schedule_starts_a_run_only_where_a_retention_is_set(settings):
    def tick(days):
        changed = settings.model_copy(update={"session_retention_days": days})
        return daily_expiry(dg.build_schedule_context(resources={"settings": changed}))

    assert "HEIMDALL_SESSION_RETENTION_DAYS is not set" in tick(None).skip_message
    assert isinstance(tick(90), dg.RunRequest)
