"""Time stamps that are no clock are told apart; real ones pass."""

from dataclasses import replace

import numpy as np
import pytest

from heimdall_pipelines.formats.gnss_clock import WEEK_S, GnssStamps
from heimdall_pipelines.formats.stamp_diagnosis import stamp_problem

RATE_HZ = 12_000.0
BLOCK = 512


def stamps(num_blocks=400, first_s=100.0, rate_hz=12_001.3):
    samples = np.arange(num_blocks, dtype=np.int64) * BLOCK
    time_ns = np.round((first_s + samples / rate_hz) * 1e9).astype(np.int64) % (WEEK_S * 10**9)
    age = (np.arange(num_blocks) // 23 % 5).astype(np.uint8)
    return GnssStamps(samples, age, (time_ns // 10**9).astype(np.uint32), (time_ns % 10**9).astype(np.uint32))


def with_seconds(given, change):
    second = given.second.astype(np.int64)
    change(second)
    return replace(given, second=second.astype(np.uint32))


def test_stamps_of_a_working_receiver_have_no_problem():
    assert stamp_problem(stamps(), RATE_HZ) is None


def test_the_end_of_the_gps_week_is_no_jump():
    assert stamp_problem(stamps(first_s=WEEK_S - 5.0), RATE_HZ) is None


def test_one_wrong_stamp_is_no_jump():
    def spoil(second):
        second[200] += 3

    assert stamp_problem(with_seconds(stamps(), spoil), RATE_HZ) is None


@pytest.mark.parametrize("jump_s", [1, -2, 18, -300_000])
def test_seconds_that_jump_for_good_are_found(jump_s):
    def jump(second):
        second[200:] = (second[200:] + jump_s) % WEEK_S

    problem = stamp_problem(with_seconds(stamps(), jump), RATE_HZ)
    assert problem == f"its GNSS seconds jump by {jump_s:+d} s in the recording"


def test_missing_samples_are_no_jump_of_the_seconds():
    given = stamps()
    kept = np.r_[0:200, 210:400]  # 0.43 s are missing, though the samples count on
    cut = GnssStamps(given.samples[:390], given.age_s[kept], given.second[kept], given.nanosecond[kept])
    assert stamp_problem(cut, RATE_HZ) is None


@pytest.mark.parametrize(
    ("age_s", "problem"),
    [
        (255, "its GNSS has had no fix since it started"),
        (254, "its latest GNSS fix was 254 s ago or more"),
        (253, None),
    ],
)
def test_an_old_fix_or_none_is_said(age_s, problem):
    given = stamps()
    assert stamp_problem(replace(given, age_s=np.full(given.age_s.size, age_s, np.uint8)), RATE_HZ) == problem


def test_no_stamps_and_stamps_that_never_change_are_told_apart():
    given = stamps(40)
    nothing = GnssStamps(*(values[:0] for values in vars(given).values()))
    assert stamp_problem(nothing, RATE_HZ) == "it sends no time stamps"
    zero = np.zeros(40, np.uint32)
    never = GnssStamps(given.samples, zero.astype(np.uint8), zero, zero)
    assert stamp_problem(never, RATE_HZ) == "its time stamps never change: its owner has switched them off"
