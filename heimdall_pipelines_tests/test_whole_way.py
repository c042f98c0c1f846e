"""The whole way with a real daemon: `heimdall dev`, an import by a second process, the sensor, the rows, the checks."""

import contextlib
import json
import os
import signal
import stat
import statistics
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import psycopg2.sql
import pytest

from heimdall_pipelines.sessions import example
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.sessions.position_checks import POSITION_CHECKS
from heimdall_pipelines_tests.dev_server import DevFolder, RunningDev, ask_graphql, command_line, runs, wait_for
from heimdall_pipelines_tests.waiting import TIMEOUT_S

pytestmark = [pytest.mark.programs, pytest.mark.slow]
SENSOR = "completed_recording_sessions"
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "heimdall"}
FEATURES_KEY = {"path": ["recorded", "measurement_features"]}
POSITIONS_KEY = {"path": ["recorded", "positions"]}
EXAMPLE_ROWS = int(example.DURATION_S)  # its whole seconds
# Five times the RMSE of a chunk that docs/science.md gives for the same carrier-to-noise ratio: its table is for
# 200 kHz, where the channel has 12 dB less noise than the whole; these recordings are one channel wide.
OFFSET_TOLERANCE_HZ = {"torino": 0.005, "genova": 0.02, "milano-baggio": 0.06}


@pytest.fixture(scope="module")
def whole_way(running_dev) -> RunningDev:
    address = running_dev.address
    wait_for("the run that the sensor starts", lambda: extractions(address))
    wait_for("the run to end", lambda: extractions(address)[0]["status"] in {"SUCCESS", "FAILURE", "CANCELED"})
    return running_dev


def extractions(address: str) -> list[dict[str, Any]]:
    """The runs of sessions; others may have made datasets on the same servers."""
    return [run for run in runs(address) if run["jobName"] == "extract_recorded_session"]


def test_the_sensor_starts_one_run_for_the_session_and_it_succeeds(whole_way):
    (run,) = extractions(whole_way.address)
    assert run["status"] == "SUCCESS"
    assert run["jobName"] == "extract_recorded_session"
    assert run["tags"]["dagster/partition"] == whole_way.session
    ((session_id,),) = whole_way.dev.rows(
        "SELECT id::text FROM heimdall.recording_sessions WHERE slug = %s", whole_way.session
    )
    assert run["tags"]["dagster/run_key"] == f"{session_id}:1"
    assert run["tags"]["dagster/sensor_name"] == SENSOR


def test_rows_hold_every_station_and_the_known_frequency_offsets(whole_way):
    rows = whole_way.dev.rows(
        "SELECT segment_idx, session_revision, num_receivers_in_sample, extraction_failed, receiver_features"
        " FROM heimdall.measurement_features WHERE recording_session_id ="
        " (SELECT id FROM heimdall.recording_sessions WHERE slug = %s) ORDER BY segment_idx",
        whole_way.session,
    )
    assert [row[:4] for row in rows] == [(index, 1, 3, False) for index in range(EXAMPLE_ROWS)]
    for station in example.STATIONS:
        heard = [entry for *_, entries in rows for entry in entries if entry["rx_id"] == station.rx_id]
        assert [entry["signal_present"] for entry in heard] == [True] * EXAMPLE_ROWS
        offsets_hz = [entry["frequency_offset_hz"]["mean"] for entry in heard]
        tolerance_hz = OFFSET_TOLERANCE_HZ[station.rx_id]
        assert offsets_hz == pytest.approx([station.frequency_offset_hz] * EXAMPLE_ROWS, abs=tolerance_hz)
        assert statistics.fmean(offsets_hz) == pytest.approx(station.frequency_offset_hz, abs=tolerance_hz / 2)


def test_every_check_passed_once_for_the_sessions_partition(whole_way):
    (run,) = extractions(whole_way.address)
    for name in SESSION_CHECKS:
        executions = ask_graphql(
            whole_way.address,
            "query ($key: AssetKeyInput!, $name: String!) {"
            " assetCheckExecutions(assetKey: $key, checkName: $name, limit: 10) {"
            " runId status partition evaluation { success } } }",
            key=POSITIONS_KEY if name in POSITION_CHECKS else FEATURES_KEY,
            name=name,
        )["assetCheckExecutions"]
        assert executions == [
            {
                "runId": run["runId"],
                "status": "SUCCEEDED",
                "partition": whole_way.session,
                "evaluation": {"success": True},
            }
        ], name


def test_a_taken_port_is_avoided(whole_way):
    port = int(whole_way.address.rpartition(":")[2])
    assert whole_way.taken_port < port < whole_way.taken_port + 100


def test_a_second_start_in_the_same_folder_is_refused(whole_way):
    before = services(whole_way.dev)
    assert len(before) == 2
    second = whole_way.dev.run("dev", "--port", whole_way.taken_port)
    assert second.returncode == 0, second.stderr
    expected = f"already running in this folder: {whole_way.address} (process {whole_way.dev.pid()})"
    assert " ".join(second.stdout.split()) == expected
    refused = whole_way.dev.run("stop")
    assert refused.returncode == 1
    assert whole_way.address in refused.stdout
    assert services(whole_way.dev) == before
    with urllib.request.urlopen(f"{whole_way.address}/server_info", timeout=TIMEOUT_S) as answer:
        assert answer.status == 200


def test_files_of_runs_are_for_their_owner_only(whole_way):
    home = whole_way.dev.home / "dagster"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    found = [path for path in home.rglob("*") if path.suffix in (".out", ".err", ".log")]
    assert found
    assert [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_page_of_another_site_cannot_write_by_the_ui(whole_way):
    for headers in ({}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        mutation = urllib.parse.quote('mutation { setConcurrencyLimit(concurrencyKey: "evil", limit: 1) }')
        request = urllib.request.Request(f"{whole_way.address}/graphql?query={mutation}", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=TIMEOUT_S)
        assert refused.value.code in (403, 405, 421)
    limits = ask_graphql(whole_way.address, "{ instance { concurrencyLimits { concurrencyKey } } }")
    assert "evil" not in str(limits)


def services(dev: DevFolder) -> set[int]:
    """Process ids of Dagster's webserver and daemon."""
    command_lines = {process.pid: command_line(process) for process in dev.dagster_processes()}
    return {
        pid
        for pid, words in command_lines.items()
        if {"heimdall_pipelines.cluster.guarded_webserver", "dagster._daemon"} & set(words)
    }


def test_no_secret_leaves_its_file(whole_way):
    dev = whole_way.dev
    environment = dev.environment()
    secrets = [
        environment[name] for name in ("HEIMDALL_PG_PASSWORD", "HEIMDALL_S3_ACCESS_KEY", "HEIMDALL_S3_SECRET_KEY")
    ]
    assert sorted(json.loads((dev.home / "credentials.json").read_text()).values()) == sorted(secrets)

    shown = {
        "the output": dev.output(),
        "the instance in the UI": ask_graphql(whole_way.address, "{ instance { info } }"),
        "the resources in the UI": ask_graphql(
            whole_way.address,
            "query ($location: RepositorySelector!) { allTopLevelResourceDetailsOrError(repositorySelector: $location)"
            " { ... on ResourceDetailsList { results { name description resourceType configuredValues { key value }"
            " configFields { name defaultValueAsJson } } } } }",
            location=LOCATION,
        ),
    }
    assert "Serving dagster-webserver" in shown["the output"]
    assert "PostgresRunStorage" in str(shown["the instance in the UI"])
    assert "stores" in str(shown["the resources in the UI"])
    for process in dev.processes():
        shown[f"the command line of process {process.pid}"] = command_line(process)
    private = (dev.home / "credentials.json", dev.home / "postgres" / "data", dev.home / "s3" / "data")
    for folder, _, names in os.walk(dev.home):
        for path in (Path(folder, name) for name in names):
            if path.is_file() and not any(path.is_relative_to(place) for place in private):
                with contextlib.suppress(FileNotFoundError):  # the servers and Dagster are at work
                    shown[str(path)] = path.read_text(errors="replace")
    assert any(name.endswith("server.log") for name in shown)
    assert any(name.endswith(".err") for name in shown), "what the run printed is kept"
    # The access key is a user's name, which SeaweedFS logs and every S3 request carries in the clear.
    log = str(dev.home / "s3" / "server.log")
    shown[log] = shown[log].replace(environment["HEIMDALL_S3_ACCESS_KEY"], "")
    found = [what for what, content in shown.items() for secret in secrets if secret in str(content)]
    assert found == []


@pytest.mark.parametrize("database", ["heimdall", "dagster"])
def test_no_secret_is_stored_in_a_table(whole_way, database):
    secrets = json.loads((whole_way.dev.home / "credentials.json").read_text()).values()
    searched = 0
    with whole_way.dev.database(database) as cursor:
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND table_schema IN ('public', 'heimdall')"
        )
        for table in cursor.fetchall():
            name = psycopg2.sql.Identifier(*table)
            for secret in secrets:
                statement = psycopg2.sql.SQL(
                    "SELECT count(*), count(*) FILTER (WHERE strpos(t::text, %s) > 0) FROM {} t"
                )
                cursor.execute(statement.format(name), (secret,))
                rows, rows_with_secret = cursor.fetchone()
                assert rows_with_secret == 0, table
                searched += rows
    assert searched > 0


def test_the_sensor_does_not_fire_again_on_later_ticks(whole_way):
    (run,) = extractions(whole_way.address)

    def finished_ticks() -> list[dict]:
        ticks = ask_graphql(
            whole_way.address,
            "query ($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) { ... on Sensor { sensorState"
            " { ticks(limit: 100) { status runIds timestamp } } } } }",
            sensor=LOCATION | {"sensorName": SENSOR},
        )["sensorOrError"]["sensorState"]["ticks"]
        return [tick for tick in ticks if tick["status"] != "STARTED"]

    wait_for("a tick after the run", lambda: any(tick["timestamp"] > run["endTime"] for tick in finished_ticks()))
    fired = [tick for tick in finished_ticks() if tick["status"] != "SKIPPED"]
    assert [(tick["status"], tick["runIds"]) for tick in fired] == [("SUCCESS", [run["runId"]])]
    assert extractions(whole_way.address) == [run]


# From here on the module's `heimdall dev` is ended.


def test_ctrl_c_ends_everything(whole_way):
    assert whole_way.dev.signal(signal.SIGINT) == 0
    assert whole_way.dev.processes() == []


def test_sigterm_while_it_starts_ends_everything(whole_way):
    whole_way.dev.launch_dev(first_port=whole_way.taken_port)
    wait_for("the first process of Dagster", whole_way.dev.dagster_processes)
    assert whole_way.dev.signal(signal.SIGTERM) == 0
    assert whole_way.dev.processes() == []
