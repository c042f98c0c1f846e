"""What of a status needs attention, and how the process ends."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from heimdall_pipelines.status.report import (
    ChecksStatus,
    Daemon,
    DatasetStatus,
    RecentFailedRun,
    RunInProgress,
    Runs,
    Server,
    SessionsStatus,
    Status,
    Worker,
    Workers,
    as_json,
)

WELL = Status(
    observed_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
    launcher="local",
    servers=(Server("PostgreSQL", "db:5432", is_up=True, response_s=0.01),),
    daemons=(Daemon("SENSOR", 12.0),),
    runs=Runs({"queued": 3}, {"success": 5, "failure": 0}),
    datasets=(DatasetStatus("night", "feature_based", 10, 20, "healthy", 60.0, is_being_deleted=False),),
    sessions=SessionsStatus({"completed": 2}, {"healthy": 2}, due_for_extraction=1, abandoned=()),
    checks=ChecksStatus({}, None, ()),
    disk_free_bytes=10**10,
)

BLOCKING = (
    RunInProgress("r1", "job", "night", 300.0),
    RunInProgress("r2", "job", None, 300.0, "process 7 on here", process_has_ended=False),
)


def test_a_queue_that_moves_is_no_reason_to_worry():
    for queued_age_s, max_concurrent_runs in ((59.0, 2), (None, 2), (61.0, 3), (61.0, None)):
        runs = Runs({}, {}, queued_age_s, in_progress=BLOCKING)
        assert replace(WELL, runs=runs, max_concurrent_runs=max_concurrent_runs).attention == ()


def test_work_that_waits_is_no_reason_to_worry():
    assert WELL.attention == ()
    assert WELL.exit_code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"servers": (Server("S3 store", "s3:9000", is_up=False, detail="refused"),)},
            "S3 store does not answer",
        ),
        (
            {"daemons": (Daemon("SENSOR", 91.0), Daemon("BACKFILL", 5.0))},
            "no heartbeat of the Dagster daemon (SENSOR)",
        ),
        ({"daemons": (Daemon("SENSOR", None),)}, "no heartbeat of the Dagster daemon (SENSOR)"),
        ({"daemons": (Daemon("SENSOR", 5.0, "code server lost"),)}, "Dagster daemon SENSOR: code server lost"),
        ({"workers": Workers((), "dagster", 4)}, "no worker answers; 4 runs wait in Redis"),
        ({"runs": Runs({}, {"failure": 1}, failed=(RecentFailedRun("r1", "job", None, 60.0),))}, "1 run failed"),
        (
            {"runs": Runs({}, {}, 61.0, in_progress=BLOCKING), "max_concurrent_runs": 2},
            "the queue waits: 2 of 2 runs are in progress (HEIMDALL_MAX_CONCURRENT_RUNS): job night (run r1); job (run",
        ),
        (
            {"runs": Runs({}, {}, in_progress=(replace(BLOCKING[1], process_has_ended=True),))},
            "the command of a run has ended: job (run r2 of process 7 on here, which has ended)",
        ),
        ({"datasets": (replace(WELL.datasets[0], health="critical"),)}, "dataset night is critical"),
        ({"datasets": (replace(WELL.datasets[0], is_being_deleted=True),)}, "the deletion of dataset night is not"),
        ({"sessions": SessionsStatus({}, {"warning": 1, "critical": 1}, 0, ())}, "2 sessions not healthy"),
        ({"sessions": SessionsStatus({}, {}, 0, ("night",))}, "1 recording abandoned"),
        ({"checks": ChecksStatus({"WARN": 1, "ERROR": 2}, 60.0, ())}, "3 checks failing"),
        ({"disk_free_bytes": 1_900_000_000}, "only 1.9 GB of the disk are free"),
        ({"remarks": ("the schema is behind",)}, "the schema is behind"),
    ],
)
def test_what_needs_attention_is_said_and_ends_with_1(change, words):
    status = replace(WELL, **change)
    (line,) = status.attention
    assert line.startswith(words)
    assert status.exit_code == 1


def test_what_could_not_be_read_counts_for_more_than_what_needs_attention():
    assert replace(WELL, not_read=("runs: no answer",), remarks=("also",)).exit_code == 2


def test_a_daemon_counts_as_alive_for_three_missed_signs_of_life():
    assert [Daemon("SENSOR", age_s).is_alive for age_s in (0.0, 90.0, 90.1, None)] == [True, True, False, False]


def test_workers_that_answer_need_no_attention():
    assert replace(WELL, workers=Workers((Worker("celery@a", 1),), "dagster", 9)).exit_code == 0


def test_json_has_the_values_of_the_report():
    made = as_json(replace(WELL, remarks=("the schema is behind",)))
    assert made["observed_at"] == "2026-01-31T12:00:00+00:00"
    assert made["attention"] == ["the schema is behind"]
    assert made["exit_code"] == 1
    assert list(made["daemons"]) == [{"name": "SENSOR", "heartbeat_age_s": 12.0, "error": None, "is_alive": True}]
    assert "remarks" not in made
