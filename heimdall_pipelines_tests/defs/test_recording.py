"""The job that records, checks of stations and the watchdog, on a real instance and real stores."""

import dagster as dg
import pytest
from sqlalchemy import text

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import completed_recording_sessions
from heimdall_pipelines.defs.recording import RecordConfig, abandoned_recordings, scheduled_recording
from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.receivers.stream import WaitLimits
from heimdall_pipelines.store.recordings import RecordedSession, open_recording_session
from heimdall_pipelines.store.sessions import get_session, list_sessions
from heimdall_pipelines_tests.receivers.support import FREQUENCY_HZ, synthetic
from heimdall_pipelines_tests.sessions.live import add_receivers

TIMEOUT_S = 1200.0  # for a simulated receiver whose machine may stall


@pytest.fixture(autouse=True)
def _patient_clients(monkeypatch):
    limits = WaitLimits(TIMEOUT_S, TIMEOUT_S, TIMEOUT_S, TIMEOUT_S)
    monkeypatch.setattr(WaitLimits, "capped_at", lambda _timeout_s: limits)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def receiver(stores):
    with run_simulated(SimulatedKiwiSdr(synthetic(), speed=10.0)) as (url,):
        add_receivers(stores, "a", url=url, timeout_seconds=TIMEOUT_S)
        yield


def run(instance, job, **config):
    job = build_definitions().resolve_job_def(job)
    ops = {"ops": {"record": {"config": config}}} if config else None
    return job.execute_in_process(run_config=ops, instance=instance, raise_on_error=False)


def test_the_job_records_a_session_and_the_sensor_asks_for_its_extraction(environment, stores, instance, receiver):
    result = run(instance, "record_session", frequency_hz=f"{FREQUENCY_HZ / 1e3}kHz", duration_s=1.0, name="by the job")
    assert result.success
    (session,) = list_sessions(stores.database)
    assert get_session(stores.database, session.slug).frequency_hz == FREQUENCY_HZ
    assert (session.name, session.status) == ("by the job", "completed")
    assert instance.get_dynamic_partitions(RECORDING_SESSIONS) == [session.slug]
    (event,) = result.get_asset_materialization_events()
    assert event.partition == session.slug
    assert event.materialization.metadata["session_id"].value == str(session.id)
    assert event.materialization.metadata["stations"].value == ["a"]
    context = dg.build_sensor_context(instance=instance, definitions=build_definitions())
    (request,) = completed_recording_sessions(context, stores=stores).run_requests
    assert request.partition_key == session.slug


def test_a_run_that_recorded_nothing_fails_with_the_reasons(environment, stores, instance):
    add_receivers(stores, "gone", url="http://127.0.0.1:1", retry_count=0)
    result = run(instance, "record_session", frequency_hz=FREQUENCY_HZ, stations=["gone"])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "gone: cannot be reached" in failure.step_failure_data.user_failure_data.description
    assert [session.status for session in list_sessions(stores.database)] == ["failed"]


@pytest.mark.parametrize("frequency", [77_500, 77_500.0, "77500", "77.5kHz", "0.0775 MHz"])
def test_frequencies_are_written_in_the_ui_as_on_the_command_line(frequency):
    config = RecordConfig(frequency_hz=frequency, bandwidth_hz="5kHz")
    assert (config.frequency_hz, config.bandwidth_hz) == (77_500.0, 5_000.0)
    assert RecordConfig(frequency_hz=frequency).bandwidth_hz is None


@pytest.mark.parametrize("wrong", ["77,5kHz", "-5MHz", "", "145 m", True, None, [1]])
def test_a_frequency_that_cannot_be_read_says_what_is_expected(wrong):
    with pytest.raises(ValueError, match=r"such as 77\.5kHz or 145\.5MHz, or a number of Hz"):
        RecordConfig(frequency_hz=wrong)


def test_the_schedule_records_what_the_environment_says_and_nothing_without_it(settings):
    def tick(**values):
        resources = {"settings": settings.model_copy(update=values)}
        return scheduled_recording(dg.build_schedule_context(resources=resources))

    assert "HEIMDALL_SCHEDULED_RECORDING is not set" in tick().skip_message
    request = tick(scheduled_recording='{"frequency_hz": 77500, "known_source": "DCF77"}')
    job = build_definitions().resolve_job_def("record_session")
    assert dg.validate_run_config(job, request.run_config)


def test_a_check_of_stations_gives_numbers_that_the_ui_plots(environment, stores, instance, receiver):
    add_receivers(stores, "gone", url="http://127.0.0.1:1")
    result = run(instance, "check_stations")
    assert result.success
    (materialization,) = result.asset_materializations_for_node("recorded__station_uptime")
    metadata = materialization.metadata
    assert (metadata["stations_asked"].value, metadata["stations_up"].value) == (2, 1)
    assert (metadata["a_up"].value, metadata["gone_up"].value) == (1, 0)
    assert metadata["a_latency_ms"].value > 0
    assert "| gone | no |" in metadata["answers"].value
    assert "(data:image/png;base64," in metadata["history"].value


def test_the_watchdog_closes_what_is_late_and_starts_no_run(environment, stores, instance):
    late = RecordedSession("late", "late", FREQUENCY_HZ, 12_500.0, None, deadline_in_s=0.0)
    opened = open_recording_session(stores.database, late)
    context = dg.build_sensor_context(instance=instance)
    assert abandoned_recordings(context, stores=stores).skip_message == "1 abandoned recordings were closed"
    assert get_session(stores.database, opened.slug).status == "failed"
    assert abandoned_recordings(context, stores=stores).skip_message == "no recording is abandoned"


def test_a_station_row_that_cannot_be_is_named(environment, stores, instance, receiver):
    with stores.database.transaction() as connection:
        connection.execute(text("UPDATE heimdall.websdr_stations SET url = 'file:///etc/passwd'"))
    result = run(instance, "record_session", frequency_hz=FREQUENCY_HZ)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "station a: url begins with 'file'" in str(failure.step_failure_data.error)
