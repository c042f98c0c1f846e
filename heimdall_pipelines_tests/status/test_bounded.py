"""Looks side by side, some of which hang or fail."""

import threading

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.status import bounded
from heimdall_pipelines.status.bounded import Unavailable, collect_with_timeout
from heimdall_pipelines_tests.status.patient_clock import PatientClock


def test_what_hangs_or_fails_costs_the_others_nothing(monkeypatch):
    monkeypatch.setattr(bounded, "time", PatientClock("hangs"))
    released = threading.Event()

    def refuse():
        raise HeimdallError("no bucket")

    def break_down():
        raise ValueError("first line\nsecond line")

    try:
        found = collect_with_timeout(
            0.2, {"hangs": released.wait, "answers": lambda: 7, "refuses": refuse, "breaks": break_down}
        )
    finally:
        released.set()
    assert found == {
        "hangs": Unavailable("no answer within 0.2 s"),
        "answers": 7,
        "refuses": Unavailable("no bucket"),
        "breaks": Unavailable("ValueError: first line"),
    }
    assert list(found) == ["hangs", "answers", "refuses", "breaks"]


def test_what_hangs_is_given_up_when_its_time_is_over():
    released = threading.Event()
    try:
        assert collect_with_timeout(0.1, {"hangs": released.wait}) == {"hangs": Unavailable("no answer within 0.1 s")}
    finally:
        released.set()


def test_no_queries_give_no_results():
    assert collect_with_timeout(1.0, {}) == {}
