"""The throttle of progress reports."""

from heimdall_pipelines.throttle import Throttle


def test_is_due_once_per_interval():
    times_s = iter([100.0, 100.0, 101.9, 102.0, 102.1, 103.9, 104.1, 110.0, 110.0])
    throttle = Throttle(2.0, clock=lambda: next(times_s))
    due = [throttle.is_due() for _ in range(8)]
    assert due == [False, False, True, False, False, True, True, False]


def test_is_always_due_without_interval():
    throttle = Throttle(0.0, clock=lambda: 5.0)
    assert [throttle.is_due(), throttle.is_due()] == [True, True]
