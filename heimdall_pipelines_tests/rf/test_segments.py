import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_pipelines.rf.segments import (
    CHUNK_NS,
    SEGMENT_NS,
    Interval,
    NoSegmentError,
    cut_segment,
    plan_segments,
)

RATE_HZ = 12_001.135


def interval(start_s, duration_s, rate_hz=RATE_HZ):
    return Interval(round(start_s * 1e9), round(duration_s * rate_hz), rate_hz)


def test_segments_cover_the_common_time_of_all_receivers():
    grid = plan_segments([interval(0.0, 29.9), interval(0.3, 28.9), interval(0.1, 30.0)])
    assert grid.start_ns == 300_000_000
    assert (grid.num_segments, grid.chunks_per_segment) == (28, 5)  # 0.3 s to 29.2 s


def test_a_receiver_that_dropped_out_does_not_shorten_the_others():
    whole = [interval(0.0, 30.0), interval(0.0, 30.0)]
    dropped = interval(0.0, 5.0)
    grid = plan_segments([*whole, dropped])
    assert grid.num_segments in (29, 30)
    assert cut_segment(dropped, grid, 3) is not None
    assert cut_segment(dropped, grid, 7) is None


def test_one_receiver_alone_has_segments_too():
    assert plan_segments([interval(5.0, 3.5)]).num_segments == 3


def test_a_recording_shorter_than_a_segment_uses_its_whole_chunks():
    grid = plan_segments([interval(0.0, 0.75)])
    assert (grid.num_segments, grid.chunks_per_segment) == (1, 3)


def test_a_recording_of_a_second_has_a_whole_segment_though_its_rate_is_odd():
    grid = plan_segments([interval(0.0, 1.0)])  # 12001 samples last 0.99999 s
    assert (grid.num_segments, grid.chunks_per_segment) == (1, 5)


@pytest.mark.parametrize("intervals", [[interval(0.0, 0.19)], [interval(0.0, 10.0), interval(20.0, 10.0)]])
def test_less_than_a_chunk_in_common_is_an_error_with_the_length(intervals):
    with pytest.raises(NoSegmentError, match=r"ms in common, one chunk needs 200 ms"):
        plan_segments(intervals)


def test_chunks_begin_within_half_a_sample_of_their_time_through_an_hour():
    hour = interval(0.0, 3601.0, 12_000.954)
    grid = plan_segments([hour])
    for segment_idx in (0, 1, 1799, 3599):
        cut = cut_segment(hour, grid, segment_idx)
        for chunk, offset in enumerate(cut.chunk_offsets):
            time_s = (cut.first_sample + offset) / hour.sample_rate_hz
            assert abs(time_s - (segment_idx + 0.2 * chunk)) <= 0.5001 / hour.sample_rate_hz


def test_the_same_instant_is_cut_at_every_receiver():
    first, second = interval(0.0, 10.0, 8_000.0), interval(0.4137, 10.0, 2.4e6)
    grid = plan_segments([first, second])
    for receiver in (first, second):
        cut = cut_segment(receiver, grid, 4)
        begins_ns = receiver.start_ns + cut.first_sample / receiver.sample_rate_hz * 1e9
        assert abs(begins_ns - grid.segment_start_ns(4)) <= 0.5e9 / receiver.sample_rate_hz + 1


def test_chunks_are_stacked_from_the_segments_samples():
    receiver = Interval(0, 10_000, 10_000.0)
    cut = cut_segment(receiver, plan_segments([receiver]), 0)
    chunks = cut.chunks(np.arange(cut.num_samples).astype(np.complex64))
    assert chunks.shape == (5, 2000)
    np.testing.assert_array_equal(chunks[:, 0].real, [0, 2000, 4000, 6000, 8000])


@given(
    st.lists(
        st.tuples(st.integers(-(10**10), 10**10), st.integers(1, 200_000), st.floats(8e3, 2.4e6, allow_nan=False)).map(
            lambda x: Interval(*x)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_segment_of_the_grid_lies_inside_the_receivers_that_span_it(intervals):
    try:
        grid = plan_segments(intervals)
    except NoSegmentError:
        return
    end_ns = grid.segment_start_ns(grid.num_segments - 1) + grid.chunks_per_segment * CHUNK_NS
    assert end_ns - grid.start_ns <= grid.num_segments * SEGMENT_NS
    spanning = [x for x in intervals if x.start_ns <= grid.start_ns and x.end_ns >= end_ns]
    assert spanning, "no recording spans the grid"
    for receiver in spanning:
        for segment_idx in (0, grid.num_segments - 1):
            cut = cut_segment(receiver, grid, segment_idx)
            assert cut is not None
            assert 0 <= cut.first_sample <= cut.first_sample + cut.num_samples <= receiver.num_samples
