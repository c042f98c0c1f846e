"""kill -9 of Redis, PostgreSQL and the S3 server in the middle of a dataset: it is complete in the end, by itself."""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from heimdall_pipelines_tests.deployment.night import (
    MONITORING,
    RESTARTED_AFTER_S,
    Damage,
    Night,
    assert_all_has_ended_well,
    assert_complete_without_a_hand,
    kill_service,
    night_in,
)

pytestmark = [pytest.mark.programs, pytest.mark.slow]
BEYOND_DAGSTERS_PATIENCE_S = 20.0  # it tries for about 12 s to write an event


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Iterator[Night]:
    with night_in(tmp_path_factory.mktemp("killed")) as made:
        yield made


def kill_server(night: Night, name: str, away_s: float = RESTARTED_AFTER_S) -> None:
    night.servers.kill(name)
    time.sleep(away_s)
    night.servers.start()


def kill_postgres(night: Night, away_s: float = RESTARTED_AFTER_S) -> None:
    kill_server(night, "postgres", away_s)
    night.wait_until(night.is_ui_back, "the webserver to answer")


DAMAGES = [
    Damage(
        "redis",
        partial(kill_service, name="redis"),
        range(3),
        "kill -9 of Redis, in the middle of 10 batches",
        "the launcher and the workers, which retry",
        "runs continue; those being launched return to the queue",
    ),
    Damage(
        "postgres",
        kill_postgres,
        range(5),
        "kill -9 of PostgreSQL, in the middle of 10 batches",
        "all services, which retry, or end and are restarted",
        "a run that could not write its events fails and is retried",
    ),
    Damage(
        "s3",
        partial(kill_server, name="s3"),
        range(1),
        "kill -9 of the S3 server, in the middle of 10 batches",
        "the runs: `ObjectsUnavailableError`",
        "no run fails, the steps are retried",
    ),
    Damage(
        "postgres_away",
        partial(kill_postgres, away_s=BEYOND_DAGSTERS_PATIENCE_S),
        range(5),
        "PostgreSQL is down for 20 s, in the middle of 10 batches",
        MONITORING,
        "runs in progress end, fail when it is up again, and are retried",
    ),
]


@pytest.mark.parametrize(
    "damage", [pytest.param(one, id=one.name, marks=pytest.mark.fault(one.title)) for one in DAMAGES]
)
def test_a_dataset_gets_complete_without_a_hand(night, damage, fault):
    assert_complete_without_a_hand(night, damage, fault)


def test_at_last_every_run_has_ended_and_every_dataset_is_healthy(night):
    assert_all_has_ended_well(night, DAMAGES)
