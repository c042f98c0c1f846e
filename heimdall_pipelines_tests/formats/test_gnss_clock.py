"""Time from GNSS stamps."""

import numpy as np
import pytest

from heimdall_pipelines.formats.gnss_clock import (
    ClockError,
    GnssStamps,
    StampGatherer,
    fit_extrapolated_stamps,
    fit_gnss_clock,
    gps_minus_utc_s,
)
from heimdall_pipelines.formats.utc import unix_ns_from_iso

from .support import START_NS

TRUE_RATE_HZ = 12_001.13
WEEK_NS = 604_800 * 10**9
GPS_EPOCH_NS = unix_ns_from_iso("1980-01-06T00:00:00Z")


def receiver_stamps(
    *, seconds=30.0, start_ns=START_NS, fix_every_s=5.0, fix_errors_ns=(), rate_error=0.0, leap_s=18
) -> GnssStamps:
    """Stamps as a KiwiSDR makes them: extrapolated from the latest fix, which has an error, at a rate slightly off.

    The age falls one block before the stamps follow the new fix.
    """
    samples = np.arange(int(seconds * TRUE_RATE_HZ / 512), dtype=np.int64) * 512
    elapsed_s = samples / TRUE_RATE_HZ
    fix = np.floor(elapsed_s / fix_every_s).astype(int)
    followed_fix = np.concatenate([[0], fix[:-1]])
    errors_ns = np.zeros(fix[-1] + 1)
    errors_ns[: len(fix_errors_ns)] = fix_errors_ns
    drift_ns = rate_error * 1e9 * (elapsed_s - followed_fix * fix_every_s)
    late_ns = np.rint(elapsed_s * 1e9 + errors_ns[followed_fix] + drift_ns).astype(np.int64)
    gps_ns = (start_ns - GPS_EPOCH_NS + leap_s * 10**9) % WEEK_NS + late_ns
    age_s = np.floor(elapsed_s - fix * fix_every_s + 0.5).astype(np.uint8)
    return GnssStamps(samples, age_s, gps_ns // 10**9 % 604_800, gps_ns % 10**9)


def fit(stamps: GnssStamps, near_ns: int = START_NS):
    return fit_gnss_clock(stamps, near_unix_ns=near_ns, nominal_rate_hz=12_001.0)


def fit_all(stamps: GnssStamps):
    return fit_extrapolated_stamps(stamps, near_unix_ns=START_NS, nominal_rate_hz=12_001.0)


def test_scattered_fixes_give_time_and_rate_within_their_scatter():
    result = fit(receiver_stamps(fix_errors_ns=[0, 60, -70, 40, -30, 20]))
    assert abs(result.start_time_unix_ns - START_NS) < 100
    assert result.sample_rate_hz == pytest.approx(TRUE_RATE_HZ, abs=1e-4)
    assert 10 < result.residual_rms_ns < 80
    assert result.num_fixes == 5


def test_the_stamp_is_taken_from_the_block_after_the_age_falls():
    # 1e-6 wrong between fixes is 5 us at the end of 5 s: the last stamp of the old fix would be that far off
    result = fit(receiver_stamps(rate_error=1e-6))
    assert abs(result.start_time_unix_ns - START_NS) < 100


@pytest.mark.parametrize("wild", [1, 2, 3, 5])
def test_one_wild_fix_is_left_out(wild):
    errors_ns = np.zeros(6)
    errors_ns[wild] = 2e6
    result = fit(receiver_stamps(fix_errors_ns=errors_ns))
    assert result.num_fixes == 4
    assert abs(result.start_time_unix_ns - START_NS) < 100
    assert result.sample_rate_hz == pytest.approx(TRUE_RATE_HZ, abs=1e-4)


@pytest.mark.parametrize("before_rollover_s", [-20, 0, 3, 15, 29, 100])
def test_the_week_may_roll_over_inside_or_near_the_recording(before_rollover_s):
    rollover_ns = unix_ns_from_iso("2017-11-25T23:59:42Z")  # Sunday midnight of GPS time
    start_ns = rollover_ns - before_rollover_s * 10**9 + 123_456_789
    for error_s in (-60, 0, 60):
        result = fit(receiver_stamps(start_ns=start_ns), near_ns=start_ns + error_s * 10**9)
        assert abs(result.start_time_unix_ns - start_ns) < 2  # rounding of the stamps


@pytest.mark.parametrize("date", ["2012-03-01", "2014-03-01", "2016-03-01", "2017-03-01", "2025-03-01"])
def test_leap_seconds_are_those_of_the_date(date):
    start_ns = unix_ns_from_iso(f"{date}T12:00:00Z")
    leap_s = gps_minus_utc_s(start_ns // 10**9)
    assert leap_s == {"2012": 15, "2014": 16, "2016": 17, "2017": 18, "2025": 18}[date[:4]]
    result = fit(receiver_stamps(start_ns=start_ns, leap_s=leap_s), near_ns=start_ns)
    assert abs(result.start_time_unix_ns - start_ns) < 2


def test_a_leap_second_counts_from_the_first_second_of_its_month():
    new_year_s = unix_ns_from_iso("2017-01-01T00:00:00Z") // 10**9
    assert (gps_minus_utc_s(new_year_s - 1), gps_minus_utc_s(new_year_s)) == (17, 18)
    with pytest.raises(ValueError, match="2009"):
        gps_minus_utc_s(0)


def test_fewer_than_three_fixes_or_two_seconds_are_no_clock():
    assert fit(receiver_stamps(seconds=14.0)) is None
    assert fit(receiver_stamps(seconds=3.0, fix_every_s=0.5)) is None


def test_a_receiver_without_any_fix_gives_no_clock():
    stamps = receiver_stamps()
    assert fit(GnssStamps(stamps.samples, np.full_like(stamps.age_s, 255), stamps.second, stamps.nanosecond)) is None
    zeros = np.zeros_like(stamps.second)
    assert fit(GnssStamps(stamps.samples, np.zeros_like(stamps.age_s), zeros, zeros)) is None


def test_lost_samples_name_the_block_before_which_they_are_missing():
    whole = receiver_stamps()
    kept = np.delete(np.arange(whole.samples.size), [300, 301])
    stamps = GnssStamps(whole.samples[:-2], whole.age_s[kept], whole.second[kept], whole.nanosecond[kept])
    with pytest.raises(ClockError, match=r"0\.085 s of samples are missing") as caught:
        fit(stamps)
    assert caught.value.block == 300


def test_single_wild_stamps_are_no_gap():
    stamps = receiver_stamps()
    stamps.second[[200, 400]] += 7
    assert abs(fit(stamps).start_time_unix_ns - START_NS) < 2


def test_stamps_of_another_rate_than_the_headers_are_refused():
    with pytest.raises(ClockError, match="which is not 11980"):
        fit_gnss_clock(receiver_stamps(), near_unix_ns=START_NS, nominal_rate_hz=11_980.0)


def test_a_short_recording_has_its_time_from_the_stamps_between_fixes():
    stamps = receiver_stamps(seconds=10.0, fix_errors_ns=[60, -70], rate_error=1e-8)
    assert fit(stamps) is None
    result = fit_all(stamps)
    assert abs(result.start_time_unix_ns - START_NS) < 200
    assert result.sample_rate_hz == pytest.approx(TRUE_RATE_HZ, abs=5e-4)
    assert result.residual_rms_ns == 200.0
    assert result.num_fixes == 1


def test_fixes_that_contradict_each_other_and_old_ones_are_no_clock():
    assert fit_all(receiver_stamps(seconds=10.0, fix_errors_ns=[0, 10_000])) is None
    assert fit_all(receiver_stamps(seconds=0.9)) is None
    stamps = receiver_stamps(seconds=10.0)
    old = np.full_like(stamps.age_s, 31)
    assert fit_all(GnssStamps(stamps.samples, old, stamps.second, stamps.nanosecond)) is None


def test_a_short_recording_may_have_single_wild_stamps_but_no_gap():
    stamps = receiver_stamps(seconds=10.0)
    stamps.second[[20, 100]] += 7
    assert abs(fit_all(stamps).start_time_unix_ns - START_NS) < 2
    whole = receiver_stamps(seconds=10.0)
    kept = np.delete(np.arange(whole.samples.size), [100, 101])
    lost = GnssStamps(whole.samples[:-2], whole.age_s[kept], whole.second[kept], whole.nanosecond[kept])
    with pytest.raises(ClockError, match=r"0\.085 s of samples are missing"):
        fit_all(lost)
    with pytest.raises(ClockError, match=r"which is not 11980\.0 Hz"):
        fit_extrapolated_stamps(stamps, near_unix_ns=START_NS, nominal_rate_hz=11_980.0)


def gathered(stamps: GnssStamps) -> GnssStamps:
    gatherer = StampGatherer()
    for stamp in zip(stamps.samples, stamps.age_s, stamps.second, stamps.nanosecond, strict=True):
        gatherer.add(*map(int, stamp))
    return gatherer.stamps()


def test_selected_stamps_of_an_hour_give_the_same_clock():
    errors_ns = np.random.default_rng(1).normal(0.0, 40.0, 720)
    errors_ns[400] = 1e6  # one wild fix
    whole = receiver_stamps(seconds=3600.0, fix_errors_ns=errors_ns, rate_error=1e-7)
    kept = gathered(whole)
    assert kept.samples.size < 4096 + 3 * 720  # of 84,000
    assert fit(kept) == fit(whole)


def test_samples_lost_after_stamps_are_thinned_are_still_found():
    whole = receiver_stamps(seconds=900.0)
    kept = np.delete(np.arange(whole.samples.size), [15_000, 15_001])  # after 640 s
    lost = GnssStamps(whole.samples[:-2], whole.age_s[kept], whole.second[kept], whole.nanosecond[kept])
    with pytest.raises(ClockError, match=r"0\.085 s of samples are missing"):
        fit(gathered(lost))
