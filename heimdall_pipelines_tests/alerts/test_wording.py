from dataclasses import replace

import pytest

from heimdall_pipelines.alerts.wording import (
    MAX_BODY_CHARACTERS,
    FailedCheck,
    failed_check_text,
    failed_run_text,
    message_of,
    summary_of,
)
from heimdall_pipelines.store.alert_deliveries import PendingAlert
from heimdall_pipelines.store.alerts import Alert
from heimdall_pipelines_tests.alerts.support import START, evaluation

UI = "https://dagster.example"
CHECK = FailedCheck(
    asset="recorded/measurement_features",
    check_name="objects_agree",
    partition="night one",
    severity="ERROR",
    description="a.npy is missing",
    numbers={"objects": 7, "problems": 2},
    examples="- a.npy is missing\n- b.npy is missing",
    to_repair="heimdall session repair",
    run_id="5f0a",
)


def incident(**changes):
    event = evaluation(1)
    values = vars(event) | {
        "id": 1,
        "kind": "failed_check",
        "raised_at": START,
        "recovered_at": None,
        "closed_at": None,
    }
    return Alert(**{name: (values | changes)[name] for name in Alert.__dataclass_fields__})


def test_a_failed_check_has_numbers_examples_repair_and_a_link():
    title, body = failed_check_text(CHECK, UI)
    assert title == "ERROR: check objects_agree of recorded/measurement_features for night one failed"
    assert body.splitlines() == [
        "objects 7, problems 2",
        "- a.npy is missing",
        "- b.npy is missing",
        "To repair it: heimdall session repair",
        "https://dagster.example/runs/5f0a",
    ]


def test_a_check_that_was_made_without_a_run_links_to_its_asset():
    body = failed_check_text(replace(CHECK, run_id=None), UI)[1]
    assert body.endswith(f"{UI}/assets/recorded/measurement_features?view=checks&checkDetail=objects_agree")


def test_where_the_address_of_the_ui_is_unknown_the_run_is_named():
    assert failed_check_text(CHECK, None)[1].endswith("run 5f0a")
    assert "http" not in failed_check_text(replace(CHECK, run_id=None), None)[1]


def test_a_check_with_only_a_description_is_sent_too():
    bare = FailedCheck("rows", "any", None, "WARN", description="none at all")
    assert failed_check_text(bare, None) == ("WARN: check any of rows failed", "none at all")


def test_a_failed_run_says_why():
    title, body = failed_run_text("make_synthetic_batches", "night__00001", "5f0a", "disk full", UI)
    assert title == "ERROR: run of make_synthetic_batches failed for night__00001"
    assert body == "disk full\nhttps://dagster.example/runs/5f0a"


def test_a_very_long_error_is_cut_and_the_link_stays():
    body = failed_run_text("job", None, "5f0a", "x" * 100_000, UI)[1]
    assert len(body) < MAX_BODY_CHARACTERS + 100
    assert body.endswith("/runs/5f0a")


def test_what_began_what_is_over_and_what_was_over_before_it_was_sent():
    over = incident(recovered_at=evaluation(90).evaluated_at)
    began, ended, both = (
        message_of(PendingAlert(a, known), UI) for a, known in ((incident(), 0), (over, 1), (over, 0))
    )
    assert began.title.startswith("ERROR: check rows_agree")
    assert began.body.endswith("Since 2026-01-31 12:00:00 UTC")
    assert ended.title == "Passes again: check rows_agree of recorded/measurement_features for p1"
    assert "failed at 2026-01-31 12:00:00 UTC and passes since 2026-01-31 12:01:30 UTC" in ended.body
    assert both.title.startswith("Failed and passes again: check rows_agree")
    assert "failed at 2026-01-31 12:00:00 UTC and passes again since 2026-01-31 12:01:30 UTC" in both.body
    assert "problems 1" in both.body
    assert [message.tone for message in (began, ended, both)] == ["failure", "success", "info"]


def test_a_summary_counts_and_names_the_first_twenty_the_worst_first():
    many = [PendingAlert(incident(id=number, severity="WARN", title=f"WARN: {number}"), False) for number in range(30)]
    over = PendingAlert(incident(recovered_at=START), True)
    error = PendingAlert(incident(severity="ERROR", title="ERROR: worst"), False)
    message = summary_of([over, *many, error], UI)
    assert message.title == "Heimdall: 31 failed checks, 1 recovered check"
    lines = message.body.splitlines()
    assert lines[0] == "- ERROR: worst (problems 1)"
    assert [line[:2] for line in lines[:20]] == ["- "] * 20
    assert lines[20:] == ["and 12 more", "All of them: heimdall alerts list, or the table heimdall.alerts", UI]
    assert message.tone == "failure"


@pytest.mark.parametrize(
    ("changes", "tone"), [({"severity": "WARN"}, "warning"), ({}, "failure"), ({"recovered_at": START}, "success")]
)
def test_the_tone_of_a_summary_is_that_of_its_worst(changes, tone):
    assert summary_of([PendingAlert(incident(**changes), True)] * 6, None).tone == tone
