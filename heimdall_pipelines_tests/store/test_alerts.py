"""Incidents in the table: one row each, whatever is read twice, late, or by two processes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from heimdall_pipelines.store.alert_deliveries import list_pending, lock_sending, mark_failed, mark_sent
from heimdall_pipelines.store.alerts import (
    close_alerts_of_deleted,
    known_failed_runs,
    list_alerts,
    note_evaluations,
    note_failed_runs,
)
from heimdall_pipelines.store.database import Database
from heimdall_pipelines_tests.alerts.support import LOG, START, evaluation, failed_run


@pytest.fixture
def database(settings):
    with Database(settings) as opened:
        yield opened


def note(database, *evaluations, log=LOG):
    return [change.change for change in note_evaluations(database, log, evaluations)]


def pending_alerts(database, destination="a", since=START):
    return list_pending(database, destination, since, 100)


def rows(database):
    """(severity, problems, whether it is over), oldest first."""
    found = reversed(list_alerts(database, 1000))
    return [(o.alert.severity, o.alert.numbers["problems"], o.alert.recovered_at is not None) for o in found]


def test_a_check_that_fails_again_while_its_incident_is_open_makes_no_second_row(database):
    assert note(database, evaluation(1), evaluation(2)) == ["raised"]
    assert note(database, evaluation(3)) == []
    assert rows(database) == [("ERROR", 3, False)]
    (overview,) = list_alerts(database, 10)
    assert overview.alert.raised_at == evaluation(1).evaluated_at
    assert (overview.alert.run_id, overview.alert.body) == ("run-3", "problems 3")


def test_a_check_that_fails_again_after_it_passed_is_a_new_incident(database):
    assert note(database, evaluation(1), evaluation(2, passed=True), evaluation(3)) == ["raised", "recovered", "raised"]
    assert rows(database) == [("ERROR", 1, True), ("ERROR", 3, False)]


def test_a_pass_without_an_incident_changes_nothing(database):
    assert note(database, evaluation(1, passed=True)) == []
    assert rows(database) == []


def test_a_rise_from_warning_to_error_is_news_and_a_fall_is_not(database):
    assert note(database, evaluation(1, severity="WARN"), evaluation(2)) == ["raised", "worsened"]
    assert note(database, evaluation(3, severity="WARN")) == []
    assert rows(database) == [("WARN", 3, False)]


def test_incidents_of_other_checks_and_partitions_are_their_own(database):
    others = [evaluation(2, partition="p2"), evaluation(3, check="objects_agree"), evaluation(4, partition=None)]
    assert note(database, evaluation(1), *others) == ["raised"] * 4
    assert note(database, evaluation(5, passed=True, partition="p2")) == ["recovered"]
    assert [over for *_, over in rows(database)] == [False, True, False, False]


def test_events_that_are_read_again_from_anywhere_change_nothing(database):
    history = [
        evaluation(event_id, passed=passed)
        for event_id, passed in enumerate([True, False, False, True, True, False, True, False], 1)
    ]
    note(database, *history)
    before = list_alerts(database, 100)
    assert len(before) == 3
    for first in range(len(history)):
        for last in range(first, len(history) + 1):
            assert note(database, *history[first:last]) == []
    assert list_alerts(database, 100) == before


def test_however_events_are_cut_into_ticks_the_incidents_are_the_same(database):
    outcomes = [False, True, False, False, True, True, False, True]
    for cut in range(9):
        history = [evaluation(i, passed=passed, partition=f"cut-{cut}") for i, passed in enumerate(outcomes, 1)]
        note(database, *history[:cut])
        note(database, *history[max(0, cut - 2) :])  # with an overlap
    found = [(o.alert.partition, o.alert.numbers["problems"], o.alert.recovered_at) for o in list_alerts(database, 100)]
    ends = {1: evaluation(2).evaluated_at, 4: evaluation(5).evaluated_at, 7: evaluation(8).evaluated_at}
    assert sorted(found) == [(f"cut-{cut}", problems, end) for cut in range(9) for problems, end in ends.items()]


def test_a_late_event_is_ignored_for_its_subject_only(database):
    note(database, evaluation(5), evaluation(7, passed=True))
    assert note(database, evaluation(6), evaluation(6, partition="p2")) == ["raised"]
    assert [o.alert.partition for o in list_alerts(database, 10) if o.alert.recovered_at is None] == ["p2"]


def test_events_of_another_dagster_instance_count_anew(database):
    note(database, evaluation(1000))
    assert note(database, evaluation(1, passed=True), log="another") == ["recovered"]
    assert note(database, evaluation(2), log="another") == ["raised"]


def test_two_processes_that_note_the_same_events_make_one_row_each(database):
    events = [evaluation(event_id, partition=f"p{event_id}") for event_id in range(1, 51)]
    with ThreadPoolExecutor(2) as both:
        changes = list(both.map(lambda _: note(database, *events), range(2)))
    assert sorted(map(len, changes)) == [0, 50]
    assert len(rows(database)) == 50


def test_the_database_itself_refuses_a_second_row_of_an_incident(database):
    note(database, evaluation(1))
    note_failed_runs(database, LOG, [failed_run(2)])
    for kind in ("failed_check", "failed_run"):
        with pytest.raises(IntegrityError, match="duplicate key"), database.transaction() as connection:
            connection.execute(
                text(
                    "INSERT INTO heimdall.alerts (kind, subject, severity, asset, check_name, run_id, title, body,"
                    " event_log, event_id, raised_at) SELECT kind, subject, severity, asset, check_name, run_id, title,"
                    " body, event_log, event_id, raised_at FROM heimdall.alerts WHERE kind = :kind"
                ),
                {"kind": kind},
            )


def test_a_failed_run_is_noted_once(database):
    assert len(note_failed_runs(database, LOG, [failed_run(1), failed_run(2, "run-b")])) == 2
    assert note_failed_runs(database, LOG, [failed_run(1)]) == []
    assert known_failed_runs(database, ["run-a", "run-b", "run-c"]) == {"run-a", "run-b"}


def test_each_destination_is_independent(database):
    note(database, evaluation(1))
    mark_sent(database, "a", pending_alerts(database, "a"), START)
    mark_failed(database, "b", pending_alerts(database, "b"), "down")
    mark_failed(database, "b", pending_alerts(database, "b"), "still down")
    assert pending_alerts(database, "a") == []
    assert len(pending_alerts(database, "b")) == 1
    (overview,) = list_alerts(database, 10)
    assert [(d.destination, d.attempts, d.last_error, d.delivered_at) for d in overview.deliveries] == [
        ("a", 1, None, START),
        ("b", 2, "still down", None),
    ]


def test_a_recovery_is_sent_once_with_a_failure_never_sent(database):
    note(database, evaluation(1))
    mark_sent(database, "a", pending_alerts(database, "a"), START)
    note(database, evaluation(2, passed=True))
    assert [one.messages for one in pending_alerts(database, "a")] == [("recovered",)]
    assert [one.messages for one in pending_alerts(database, "b")] == [("raised", "recovered")]
    for destination in ("a", "b"):
        mark_sent(database, destination, pending_alerts(database, destination), START)
        assert pending_alerts(database, destination) == []


def test_a_rise_in_severity_is_sent_again_once_after_a_failed_delivery(database):
    note(database, evaluation(1, severity="WARN"))
    mark_sent(database, "a", pending_alerts(database, "a"), START)
    note(database, evaluation(2))
    mark_failed(database, "a", pending_alerts(database, "a"), "down")
    assert [one.alert.severity for one in pending_alerts(database, "a")] == ["ERROR"]
    mark_sent(database, "a", pending_alerts(database, "a"), START)
    note(database, evaluation(3, severity="WARN"), evaluation(4))
    assert pending_alerts(database, "a") == []


def test_only_what_is_open_or_young_is_sent(database):
    note(database, evaluation(1), evaluation(2, partition="p2"), evaluation(3, partition="p2", passed=True))
    note_failed_runs(database, LOG, [failed_run(4)])
    assert len(pending_alerts(database)) == 3
    later = START + timedelta(days=8)
    assert [one.alert.partition for one in pending_alerts(database, since=later)] == ["p1"]
    mark_sent(database, "a", pending_alerts(database, since=later), later)
    note(database, evaluation(5, passed=True, after_s=9 * 86400))
    assert [one.messages for one in pending_alerts(database, since=later)] == [("recovered",)]  # its failure was sent


def test_an_alert_that_is_deleted_while_it_is_sent_leaves_nothing(database):
    note(database, evaluation(1))
    pending = pending_alerts(database)
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.alerts"))
    mark_sent(database, "a", pending, START)
    assert list_alerts(database, 10) == []


def test_deleting_an_alert_deletes_its_deliveries(database):
    note(database, evaluation(1))
    mark_sent(database, "a", pending_alerts(database), START)
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.alerts"))
        assert connection.execute(text("SELECT count(*) FROM heimdall.alert_deliveries")).scalar() == 0


def add_dataset_row(database, name):
    with database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO heimdall.synthetic_datasets"
                " (name, dataset_type, spec, receivers, seed, target_num_samples, generator_version)"
                " VALUES (:name, 'feature_based', '{}', '[]', 0, 1, 1)"
            ),
            {"name": name},
        )


def of_dataset(event_id, partition="night", asset="synthetic/dataset_summary", **more):
    return evaluation(event_id, asset=asset, partition=partition, **more)


def test_only_alerts_of_deleted_datasets_and_sessions_are_closed(database):
    add_dataset_row(database, "night-2")
    batches = "synthetic/measurement_features"
    gone = [of_dataset(1), of_dataset(2, "night__00000", batches), of_dataset(3, "night__12345", batches)]
    there = [of_dataset(4, "night-2"), of_dataset(5, "night-2__00007", batches), of_dataset(6, None)]
    session = evaluation(7, partition="00000000-0000-0000-0000-000000000001")
    note(database, *gone, *there, session, evaluation(8, asset="somebody/elses", partition="night"))
    note_failed_runs(database, LOG, [failed_run(9, partition="night")])
    assert close_alerts_of_deleted(database) == 5
    still_open = [o.alert.partition for o in list_alerts(database, 100, only_open=True)]
    assert still_open == ["night", "night-2__00007", "night-2"]
    assert close_alerts_of_deleted(database) == 0


def test_an_alert_of_a_renamed_check_is_closed(database):
    add_dataset_row(database, "night")
    note(database, of_dataset(1, check="samples_made_again_agree"), of_dataset(2, check="objects_agree"))
    assert close_alerts_of_deleted(database) == 1
    assert [one.alert.check_name for one in list_alerts(database, 100, only_open=True)] == ["objects_agree"]


def test_a_closed_alert_is_not_sent(database):
    note(database, of_dataset(1), of_dataset(2, check="objects_agree"))
    mark_sent(database, "a", pending_alerts(database, "a")[:1], START)
    close_alerts_of_deleted(database)
    assert (pending_alerts(database, "a"), pending_alerts(database, "b")) == ([], [])
    assert note(database, of_dataset(3, passed=True)) == [], "it was closed before"
    assert pending_alerts(database, "a") == []
    assert rows(database) == [("ERROR", 1, False), ("ERROR", 2, False)]


def test_a_dataset_of_the_same_name_has_its_own_incidents(database):
    note(database, of_dataset(1))
    close_alerts_of_deleted(database)
    add_dataset_row(database, "night")
    assert note(database, of_dataset(1), of_dataset(2)) == [], "both are of the one that was deleted"
    years_s = 100 * 365 * 86400
    assert note(database, of_dataset(3, after_s=years_s)) == ["raised"]
    close_alerts_of_deleted(database)
    assert len(list_alerts(database, 10, only_open=True)) == 1
    assert note(database, of_dataset(4, after_s=years_s + 1, passed=True)) == ["recovered"]


def test_one_process_sends_at_a_time(database):
    with lock_sending(database) as first, lock_sending(database) as second:
        assert (first, second) == (True, False)
    with lock_sending(database) as again:
        assert again


def test_only_open_lists_checks_that_have_not_passed_since(database):
    note(database, evaluation(1), evaluation(2, partition="p2"), evaluation(3, partition="p2", passed=True))
    note_failed_runs(database, LOG, [failed_run(4)])
    assert [o.alert.partition for o in list_alerts(database, 10, only_open=True)] == ["p1"]
    assert [o.alert.kind for o in list_alerts(database, 1)] == ["failed_run"]
