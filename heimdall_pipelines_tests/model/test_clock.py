"""Classes of clocks: which carry time differences, and how a person states one."""

import pytest

from heimdall_pipelines.model.clock import Clock, ClockClass, ClockError, clock_of, stated_clock


@pytest.mark.parametrize(
    ("time_source", "uncertainty_ns", "kind", "carries"),
    [
        ("gnss", 40.0, ClockClass.GNSS, True),
        ("gnss", None, ClockClass.GNSS, True),
        ("gnss", 20_001.0, ClockClass.GNSS, False),
        ("ntp", 2e6, ClockClass.NTP, False),
        ("ntp", 5_000.0, ClockClass.NTP, True),
        ("arrival", 1.0, ClockClass.ARRIVAL, False),
        ("file", None, ClockClass.FILE, False),
        ("file", 5_000.0, ClockClass.FILE, True),
        ("given", None, ClockClass.FILE, False),
    ],
)
def test_each_source_of_time_has_its_class(time_source, uncertainty_ns, kind, carries):
    clock = clock_of(time_source, uncertainty_ns, is_recorded=True)
    assert (clock.kind, clock.carries_time_differences) == (kind, carries)


def test_a_station_that_recorded_nothing_has_no_clock():
    clock = clock_of("arrival", None, is_recorded=False)
    assert clock == Clock(ClockClass.NONE, None)
    assert not clock.carries_time_differences


@pytest.mark.parametrize(
    ("text", "kind", "uncertainty_us"),
    [("gnss:200ns", "gnss", 0.2), ("ntp:2.5ms", "ntp", 2500.0), ("file:1s", "file", 1e6)],
)
def test_a_stated_clock_is_read(text, kind, uncertainty_us):
    clock = stated_clock(text)
    assert (str(clock.kind), clock.uncertainty_us) == (kind, pytest.approx(uncertainty_us))


@pytest.mark.parametrize("text", ["gnss", "arrival:1us", "ntp:0ms", "ntp:-1ms", "ntp:1", "gps:1us"])
def test_a_clock_in_another_form_is_refused(text):
    with pytest.raises(ClockError, match="CLASS:UNCERTAINTY is expected"):
        stated_clock(text)
