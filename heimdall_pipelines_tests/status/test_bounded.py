"""Looks side by side, some of which hang or fail."""

import threading

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.status.bounded import NotSeen, look_within


def test_what_hangs_or_fails_costs_the_others_nothing():
    released = threading.Event()

    def refuse():
        raise HeimdallError("no bucket")

    def break_down():
        raise ValueError("first line\nsecond line")

    try:
        found = look_within(
            0.2, {"hangs": released.wait, "answers": lambda: 7, "refuses": refuse, "breaks": break_down}
        )
    finally:
        released.set()
    assert found == {
        "hangs": NotSeen("no answer within 0.2 s"),
        "answers": 7,
        "refuses": NotSeen("no bucket"),
        "breaks": NotSeen("ValueError: first line"),
    }
    assert list(found) == ["hangs", "answers", "refuses", "breaks"]


def test_no_look_gives_nothing():
    assert look_within(1.0, {}) == {}
