"""When progress is reported."""

from heimdall_pipelines.throttle import Throttle


def due_at(seconds: list[float], interval_s: float = 1.0) -> list[float]:
    """At which of these times a throttle is due."""
    times = iter(seconds)
    throttle = Throttle(interval_s, clock=lambda: next(times))
    return [second for second in seconds if throttle.is_due()]


def test_it_is_due_once_per_interval():
    assert due_at([5.0, 5.5, 6.0, 6.9, 7.1]) == [6.0, 7.1]


def test_a_long_pause_is_due_once():
    assert due_at([0.0, 10.0, 10.1, 11.0]) == [10.0, 11.0]


def test_without_an_interval_every_call_is_due():
    assert due_at([3.0, 3.0, 4.0], interval_s=0.0) == [3.0, 3.0, 4.0]
