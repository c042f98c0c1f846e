"""`heimdall status` and `heimdall metrics`, on real servers and by links that are cut."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager

import dagster as dg
import pytest
from celery import Celery
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat
from prometheus_client.parser import text_string_to_metric_families

from heimdall_pipelines.cli.status import look_around
from heimdall_pipelines.status import bounded, report, servers
from heimdall_pipelines.status import metrics as status_metrics
from heimdall_pipelines.status.command_process import CommandProcess, this_machine
from heimdall_pipelines.status.metrics import StatusCollector
from heimdall_pipelines.status.run_tags import PROCESS_TAG
from heimdall_pipelines.store.alerts import note_evaluations
from heimdall_pipelines_tests.alerts.support import LOG, evaluation
from heimdall_pipelines_tests.datasets.support import add, execute, make
from heimdall_pipelines_tests.dev_server import wait_for
from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.redis_server import RedisServer
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options
from heimdall_pipelines_tests.status.patient_clock import PatientClock

TIMEOUT_S = 120.0
# A busy machine may take longer to answer than a person should wait.
PATIENT_HEIMDALL = f"""
from heimdall_pipelines.cli import main
from heimdall_pipelines.status import collecting, servers

servers.ANSWER_TIMEOUT_S = collecting.READ_TIMEOUT_S = {TIMEOUT_S}
main()
"""


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    monkeypatch.setattr(bounded, "time", PatientClock())
    monkeypatch.setattr(servers, "_REDIS_TIMEOUT_S", TIMEOUT_S)


@pytest.fixture
def daemon(heimdall):
    """A Dagster daemon that gave a heartbeat just now."""
    beat()


def beat(age_s=0.0):
    with dg.DagsterInstance.get() as instance:
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - age_s, kind, "test", None))


@pytest.fixture
def night(stores):
    """A dataset of which one of two batches is made, and its IQ with it."""
    dataset = add(stores, "night", 4, batch_size=2)
    make(stores, "night", 0)
    return dataset


@pytest.fixture
def session(stores, tmp_path):
    """A session of two stations that no features are extracted from yet."""
    files = npy_files(tmp_path, {"torino": noise(50_000), "genova": noise(50_000)})
    return import_files(stores, files, **npy_options())


def failed_run():
    @dg.op
    def fail():
        raise ValueError("no")

    @dg.job
    def night_job():
        fail()

    with dg.DagsterInstance.get() as instance:
        return night_job.execute_in_process(instance=instance, raise_on_error=False).run_id


def section(output, title):
    """Lines of a section, with their words one space apart."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    begin = lines.index(title) + 1
    return lines[begin : lines.index("", begin)]


def server(output, name):
    """What the screen says of a server."""
    (line,) = [line for line in section(output, "Servers") if line.startswith(name)]
    return line.removeprefix(f"{name} ")


def line_of(output, words):
    (line,) = [" ".join(line.split()) for line in output.splitlines() if words in line]
    return line


def test_a_dataset_in_progress_and_a_session_are_no_problem(heimdall, settings, night, session, daemon):
    code, output, error = heimdall("status")
    assert (code, error) == (0, "")
    shown = section(output, "Servers")
    assert shown[0].startswith(f"PostgreSQL up 127.0.0.1:{settings.pg_port}, ")
    assert shown[1].startswith(f"S3 store up {settings.s3_endpoint}, ")
    assert shown[2].startswith("Dagster daemon up last heartbeat: ")
    assert re.search(r"sensor \d+ s", shown[2])
    assert section(output, "Runs") == [
        "now 0 queued, 0 starting, 0 started, 0 canceling",
        "last 24 h 0 success, 0 failure, 0 canceled",
    ]
    assert section(output, "Datasets") == ["night 2/4 50% unknown not validated"]
    assert section(output, "Sessions") == ["by status 1 completed", "completed 1 due for extraction; health: 1 unknown"]
    assert section(output, "Checks") == ["failing none"]
    assert section(output, "Storage")[0].startswith(f"{settings.s3_bucket_raw_iq} 0.")
    assert "of IQ in 4 objects" in section(output, "Storage")[0]
    # Two samples heard by three receivers, each an object of IQ and one that describes it.
    assert "of IQ in 12 objects" in section(output, "Storage")[1]
    assert output.rstrip().endswith("No problems.")


def test_bytes_and_objects_are_those_that_the_store_lists(heimdall, stores, daemon, night, session):
    storage = json.loads(heimdall("status", "--json")[1])["storage"]
    for bucket in storage["buckets"]:
        entries = list(stores.objects.entries(bucket["bucket"], ""))
        assert bucket["num_objects"] == len(entries)
        iq_bytes = sum(entry.size_bytes for entry in entries if entry.key.endswith(".sigmf-data"))
        assert bucket["iq_bytes"] == iq_bytes


def test_what_needs_attention_is_named_and_ends_with_1(heimdall, stores, night):
    note_evaluations(stores.database, LOG, [evaluation(1), evaluation(2, partition="p2", severity="WARN")])
    execute(stores, "UPDATE heimdall.synthetic_datasets SET health_status = 'critical', last_validated_at = now()")
    run_id = failed_run()
    code, output, _ = heimdall("status")
    assert code == 1
    assert line_of(output, run_id).startswith("failed night_job, ")
    assert line_of(output, "rows_agree, p1").startswith("ERROR recorded/measurement_features: rows_agree, p1, since ")
    assert section(output, "Datasets")[0].startswith("night 2/4 50% critical ")
    attention = [line.removeprefix("Attention: ") for line in output.splitlines() if line.startswith("Attention: ")]
    assert len(attention) == 4
    for line, words in zip(
        attention,
        ("no heartbeat of the Dagster daemon", "1 run failed", "night is critical", "2 checks failing"),
        strict=True,
    ):
        assert words in line
    assert "No problems" not in output


def test_what_blocks_the_queue_is_named(heimdall, monkeypatch, daemon):
    monkeypatch.setenv("HEIMDALL_MAX_CONCURRENT_RUNS", "2")

    @dg.job
    def night_job():
        pass

    dead = CommandProcess(this_machine(), 2**22 + 1, "1")  # above the highest pid of Linux
    with dg.DagsterInstance.get() as instance:
        tags = {PROCESS_TAG: str(dead), "dagster/partition": "night"}
        blocking = [
            instance.create_run_for_job(night_job, status=dg.DagsterRunStatus.STARTED, tags=tags).run_id
            for _ in range(2)
        ]
        origin = RemoteJobOrigin(
            RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("nowhere"), "nothing"), "night_job"
        )
        create_run_for_test(instance, "night_job", status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)
    monkeypatch.setattr(report, "MAX_QUEUED_AGE_S", -1.0)
    code, output, _ = heimdall("status")
    assert code == 1
    line = " ".join(output.split()).partition("Attention: ")[2]
    assert "the queue waits: 2 of 2 runs are in progress" in line
    for run_id in blocking:
        assert f"night_job night (run {run_id} of process {dead.pid} on " in line
    assert "which has ended" in line
    found = json.loads(heimdall("status", "--json")[1])
    assert [run["process_has_ended"] for run in found["runs"]["in_progress"]] == [True, True]
    assert found["max_concurrent_runs"] == 2


def test_json_has_stable_names(heimdall, stores, daemon, night, session):
    note_evaluations(stores.database, LOG, [evaluation(1)])
    failed_run()
    code, output, _ = heimdall("status", "--json")
    found = json.loads(output)
    assert code == found["exit_code"] == 1
    assert found.keys() == {
        "observed_at", "launcher", "servers", "daemons", "workers", "runs", "datasets", "sessions", "checks", "storage",
        "disk_free_bytes", "max_concurrent_runs", "not_read", "attention", "exit_code",
    }  # fmt: skip
    assert found["servers"][0].keys() == {"name", "address", "is_up", "response_s", "detail"}
    assert found["daemons"][0].keys() == {"name", "heartbeat_age_s", "is_alive", "error"}
    assert found["runs"].keys() == {"unfinished", "ended_last_24_h", "oldest_queued_age_s", "failed", "in_progress"}
    assert found["runs"]["ended_last_24_h"] == {"success": 0, "failure": 1, "canceled": 0}
    assert found["runs"]["failed"][0].keys() == {"run_id", "job", "partition", "age_s"}
    assert found["datasets"][0].keys() == {
        "name", "dataset_type", "num_samples", "target_num_samples", "health", "validation_age_s", "is_being_deleted",
    }  # fmt: skip
    assert found["sessions"] == {
        "by_status": {"completed": 1}, "by_health": {"unknown": 1}, "due_for_extraction": 1, "abandoned": [],
    }  # fmt: skip
    assert found["checks"]["by_severity"] == {"ERROR": 1}
    assert found["checks"]["newest"][0].keys() == {"severity", "asset", "check", "partition", "age_s"}
    assert found["storage"].keys() == {"buckets", "database_bytes"}
    assert found["storage"]["buckets"][0].keys() == {"bucket", "num_objects", "iq_bytes"}
    assert found["workers"] is None


def test_without_postgresql_the_rest_is_shown_and_it_ends_with_2(heimdall, link, daemon):
    with link("PostgreSQL") as way:
        way.cut()
        code, output, error = heimdall("status")
    assert (code, error) == (2, "")
    assert server(output, "PostgreSQL").startswith("DOWN 127.0.0.1:")
    assert server(output, "S3 store").startswith("up 127.0.0.1:")
    for part in ("runs", "datasets", "sessions", "checks", "storage"):
        assert line_of(output, f"Not read: {part}") == f"Not read: {part}: PostgreSQL does not answer"


def test_without_the_s3_store_all_else_is_shown_and_it_ends_with_1(heimdall, link, daemon, night):
    with link("S3 store") as way:
        way.cut()
        code, output, _ = heimdall("status")
    assert code == 1
    assert server(output, "S3 store").startswith("DOWN 127.0.0.1:")
    assert section(output, "Datasets") == ["night 2/4 50% unknown not validated"]
    assert "Not read" not in output


@pytest.mark.parametrize(("name", "expected_code"), [("PostgreSQL", 2), ("S3 store", 1)])
def test_a_server_that_hangs_is_given_up(heimdall, link, daemon, monkeypatch, name, expected_code):
    monkeypatch.setattr(bounded, "time", PatientClock(name))
    with link(name) as way:
        way.slow_down(TIMEOUT_S)
        code, output, _ = heimdall("status")
    assert code == expected_code
    assert server(output, name).startswith("DOWN 127.0.0.1:")
    assert server(output, name).endswith(", no answer within 5 s")


def test_a_part_that_cannot_be_read_costs_the_others_nothing(heimdall, stores, daemon, night):
    execute(stores, "DROP TABLE heimdall.alerts CASCADE")
    code, output, error = heimdall("status")
    assert (code, error) == (2, "")
    assert line_of(output, "Not read").startswith("Not read: checks: UndefinedTable: ")
    assert section(output, "Datasets") == ["night 2/4 50% unknown not validated"]


def test_an_old_schema_is_shown_with_its_repair(heimdall, stores, daemon):
    execute(stores, "UPDATE heimdall.schema_version SET version_num = '0004'")
    code, output, _ = heimdall("status")
    assert code == 1
    assert "the schema is at revision 0004, this version needs " in line_of(output, "Attention")
    assert line_of(output, "Attention").endswith("heimdall db migrate")


def test_a_malformed_variable_is_one_clear_error_and_ends_with_2(heimdall, monkeypatch):
    monkeypatch.setenv("HEIMDALL_PG_PORT", "many")
    code, output, error = heimdall("status")
    assert (code, output) == (2, "")
    assert "HEIMDALL_PG_PORT is malformed" in error


def test_embedded_servers_that_do_not_run_are_not_started(heimdall, monkeypatch, tmp_path):
    monkeypatch.delenv("HEIMDALL_PG_HOST")
    code, output, _ = heimdall("status")
    assert code == 2
    assert output.startswith(f"The servers of {tmp_path / 'home'} are not running; start them: heimdall dev\n")
    assert not (tmp_path / "home").exists()
    assert json.loads(heimdall("status", "--json")[1])["servers"][0]["is_up"] is False


@pytest.mark.slow
def test_redis_and_workers_are_shown_where_runs_go_to_workers(heimdall, daemon, monkeypatch, tmp_path):
    with RedisServer() as redis:
        monkeypatch.setenv("HEIMDALL_RUN_LAUNCHER", "celery")
        monkeypatch.setenv("HEIMDALL_REDIS_URL", redis.url)
        with Celery(broker=redis.url, set_as_current=False) as app:
            for _ in range(2):
                app.send_task("unknown_task", queue=servers.QUEUE)
        code, output, _ = heimdall("status")
        assert code == 1
        assert server(output, "Redis").startswith(f"up 127.0.0.1:{redis.port}, ")
        assert "no worker answers; 2 runs wait in Redis: heimdall worker" in line_of(output, "Attention")
        assert redis.password not in output + json.dumps(json.loads(heimdall("status", "--json")[1]))
        with worker(redis.url, tmp_path):
            idle = {"workers": [{"name": "celery@one", "num_runs": 0}], "queue": "dagster", "num_waiting": 0}

            def look_that_the_worker_answered():
                beat()
                found = json.loads(heimdall("status", "--json")[1])
                return found if found["workers"] == idle else None

            assert wait_for("the worker to answer", look_that_the_worker_answered, TIMEOUT_S)["exit_code"] == 0
        redis.kill()
        code, output, _ = heimdall("status")
        assert code == 2
        assert server(output, "Redis").startswith(f"DOWN 127.0.0.1:{redis.port}, ")
        assert line_of(output, "Not read") == "Not read: workers: Redis does not answer"


@contextmanager
def ended(process):
    """Let a process not outlive the context, however that ends."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def worker(url, folder):
    """A real Celery worker in a process of its own."""
    options = ("-Q", servers.QUEUE, "-n", "celery@one", "-P", "solo", "-l", "ERROR")
    command = [sys.executable, "-m", "celery", "-b", url, "worker", *options]
    return ended(subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL))


def metrics_in(text):
    """{name: {labels: value}}; every family is a gauge with words, and named as Prometheus wants it."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge", family.name
        assert family.documentation, family.name
        assert family.name.startswith("heimdall_"), family.name
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_info")), family.name
        found[family.name.removeprefix("heimdall_")] = {
            tuple(sample.labels.values()): sample.value for sample in family.samples
        }
    return found


def test_the_textfile_has_the_numbers_of_the_status(heimdall, settings, stores, daemon, night, session, tmp_path):
    note_evaluations(stores.database, LOG, [evaluation(1)])
    target = tmp_path / "collected" / "heimdall.prom"
    target.parent.mkdir()
    before_s = time.time()
    assert heimdall("metrics", "--textfile", target)[0] == 0
    assert list(target.parent.iterdir()) == [target]  # nothing half-written beside it
    found = metrics_in(target.read_text())
    assert found["up"] == {("PostgreSQL",): 1, ("S3 store",): 1}
    assert found["dataset_samples"] == {("night",): 2}
    assert found["dataset_target_samples"] == {("night",): 4}
    assert found["dataset_health"][("night", "unknown")] == 1
    assert sum(found["dataset_health"].values()) == 1
    assert found["sessions"] == {("completed",): 1}
    assert found["sessions_due"] == {(): 1}
    assert found["failing_checks"] == {("WARN",): 0, ("ERROR",): 1}
    assert found["oldest_failing_check_timestamp_seconds"][()] == pytest.approx(
        evaluation(1).evaluated_at.timestamp(), abs=0.01
    )  # an age was made of it and taken off again, both in binary seconds
    assert found["daemon_up"][("SENSOR",)] == 1
    assert before_s - TIMEOUT_S < found["daemon_heartbeat_timestamp_seconds"][("SENSOR",)] <= time.time()
    assert found["bucket_objects"][(settings.s3_bucket_synthetic_iq,)] == 12
    assert found["unread_parts"] == {(): 0}
    assert found["attention_reasons"] == {(): 1}


def test_an_outage_is_a_zero_and_what_could_not_be_read_is_missing(heimdall, link, daemon, tmp_path):
    with link("PostgreSQL") as way:
        way.cut()
        assert heimdall("metrics", "--textfile", tmp_path / "heimdall.prom")[0] == 0
    found = metrics_in((tmp_path / "heimdall.prom").read_text())
    assert found["up"] == {("PostgreSQL",): 0, ("S3 store",): 1}
    assert found["unread_parts"] == {(): 5}
    assert not {"runs", "dataset_samples", "sessions", "failing_checks", "database_bytes"} & found.keys()


def test_a_textfile_that_cannot_be_written_is_one_clear_error(heimdall, daemon, tmp_path):
    code, _, error = heimdall("metrics", "--textfile", tmp_path / "nowhere" / "heimdall.prom")
    assert code == 1
    assert "heimdall.prom could not be written" in error


@pytest.mark.parametrize(
    "options", [(), ("--textfile", "x", "--serve", "9464"), ("--serve", "here"), ("--serve", ":0")]
)
def test_anything_but_one_way_out_is_refused(heimdall, options):
    assert heimdall("metrics", *options)[0] == 2


@pytest.mark.slow
def test_metrics_are_served_until_the_process_is_stopped(heimdall, environment, daemon, night):
    port = held_port()
    process = subprocess.Popen(
        [sys.executable, "-c", PATIENT_HEIMDALL, "metrics", "--serve", str(port)], stdout=subprocess.PIPE, text=True
    )
    with closing(process.stdout), ended(process):
        assert process.stdout.readline() == f"metrics: http://127.0.0.1:{port}/metrics (Ctrl-C to stop)\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_S) as answer:
            assert metrics_in(answer.read().decode())["dataset_samples"] == {("night",): 2}
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0


def test_scrapes_that_come_together_share_a_look(heimdall, daemon, monkeypatch):
    looks = []
    collector = StatusCollector(lambda: looks.append(look_around()) or looks[-1])
    monkeypatch.setattr(status_metrics, "CACHE_S", 3600.0)
    assert list(collector.describe()) == []
    first, second = list(collector.collect()), list(collector.collect())
    assert len(looks) == 1
    assert first == second
    monkeypatch.setattr(status_metrics, "CACHE_S", 0.0)
    collector.collect()
    assert len(looks) == 2


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus is not on this machine")
def test_promtool_finds_no_problem(heimdall, daemon, night, session, tmp_path):
    target = tmp_path / "heimdall.prom"
    assert heimdall("metrics", "--textfile", target)[0] == 0
    with target.open() as file:
        checked = subprocess.run(
            ["promtool", "check", "metrics"], stdin=file, capture_output=True, text=True, check=False
        )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
