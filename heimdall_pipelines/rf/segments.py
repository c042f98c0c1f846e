"""Cuts recordings of several receivers into segments that cover the same time at all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEGMENT_NS = 1_000_000_000
CHUNK_NS = 200_000_000
CHUNKS_PER_SEGMENT = SEGMENT_NS // CHUNK_NS
# A station that covers less of the common time than this is not allowed to shorten it for the others.
MIN_COVERAGE = 0.8


class NoSegmentError(ValueError):
    """The common time of the recordings is shorter than one chunk."""


@dataclass(frozen=True)
class Interval:
    """Time span of one receiver's samples.

    Attributes
    ----------
    start_ns : int
        Time of sample 0, ns since any epoch common to all.
    num_samples : int
        Complex samples.
    sample_rate_hz : float
        True sample rate.
    """

    start_ns: int
    num_samples: int
    sample_rate_hz: float

    @property
    def end_ns(self) -> int:
        """End of the span; each sample covers half a sample period before and after it."""
        return self.start_ns + int((self.num_samples + 0.5) / self.sample_rate_hz * 1e9)


@dataclass(frozen=True)
class SegmentGrid:
    """Contiguous segments from ``start_ns``.

    All have ``chunks_per_segment`` chunks of 200 ms: five, or fewer in the one segment of a
    recording that is shorter than a segment.
    """

    start_ns: int
    num_segments: int
    chunks_per_segment: int

    def segment_start_ns(self, segment_idx: int) -> int:
        """Time at which a segment begins."""
        return self.start_ns + segment_idx * SEGMENT_NS


def plan_segments(intervals: Sequence[Interval]) -> SegmentGrid:
    """Plan 1000 ms segments over the common time of the receivers.

    The common time is that of all receivers, except those that cover less than 80 % of the time between
    the median start and the median end: a receiver that dropped out early does not shorten the segments
    of the others.

    Parameters
    ----------
    intervals : sequence of Interval
        One per receiver, at least one.

    Returns
    -------
    SegmentGrid

    Raises
    ------
    NoSegmentError
        The common time is shorter than one 200 ms chunk.

    Examples
    --------
    Ten seconds of one receiver; another begins 0.3 s later:

    >>> plan_segments([Interval(0, 125_000, 12_500.0), Interval(300_000_000, 120_000, 12_500.0)])
    SegmentGrid(start_ns=300000000, num_segments=9, chunks_per_segment=5)
    """
    middle_start = int(np.sort([interval.start_ns for interval in intervals])[len(intervals) // 2])
    middle_end = int(np.sort([interval.end_ns for interval in intervals])[(len(intervals) - 1) // 2])
    usual_ns = max(middle_end - middle_start, 0)
    covering = [
        interval
        for interval in intervals
        if min(interval.end_ns, middle_end) - max(interval.start_ns, middle_start) >= MIN_COVERAGE * usual_ns
    ] or list(intervals)
    start_ns = max(interval.start_ns for interval in covering)
    common_ns = min(interval.end_ns for interval in covering) - start_ns
    if common_ns >= SEGMENT_NS:
        return SegmentGrid(start_ns, common_ns // SEGMENT_NS, CHUNKS_PER_SEGMENT)
    if common_ns >= CHUNK_NS:
        return SegmentGrid(start_ns, 1, common_ns // CHUNK_NS)
    raise NoSegmentError(f"the recordings have {max(common_ns, 0) / 1e6:.1f} ms in common, one chunk needs 200 ms")


@dataclass(frozen=True)
class SegmentCut:
    """Position of the chunks of one segment in one receiver's samples."""

    first_sample: int
    num_samples: int
    chunk_offsets: tuple[int, ...]
    samples_per_chunk: int

    def chunks(self, iq: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Stack the chunks of the segment's samples: (num_samples,) to (num_chunks, samples_per_chunk)."""
        return np.stack([iq[offset : offset + self.samples_per_chunk] for offset in self.chunk_offsets])


def cut_segment(interval: Interval, grid: SegmentGrid, segment_idx: int) -> SegmentCut | None:
    """Find a segment in one receiver's samples.

    Each chunk begins with the sample nearest to its nominal time, so that errors do not accumulate at any
    true sample rate.

    Parameters
    ----------
    interval : Interval
        Of the receiver's samples.
    grid : SegmentGrid
        From `plan_segments`.
    segment_idx : int
        From 0.

    Returns
    -------
    SegmentCut or None
        None if the receiver's recording does not cover the whole segment.

    Examples
    --------
    >>> grid = SegmentGrid(start_ns=300_000_000, num_segments=9, chunks_per_segment=5)
    >>> cut = cut_segment(Interval(0, 125_000, 12_500.0), grid, segment_idx=2)
    >>> cut.first_sample, cut.chunk_offsets
    (28750, (0, 2500, 5000, 7500, 10000))
    """
    into_ns = grid.segment_start_ns(segment_idx) - interval.start_ns
    starts = [
        round((into_ns + chunk * CHUNK_NS) * 1e-9 * interval.sample_rate_hz) for chunk in range(grid.chunks_per_segment)
    ]
    samples_per_chunk = round(CHUNK_NS * 1e-9 * interval.sample_rate_hz)
    end = starts[-1] + samples_per_chunk
    # The grid ends within the common time; rounding may still need half a sample more.
    if end == interval.num_samples + 1:
        starts[-1] -= 1
        end -= 1
    if starts[0] < 0 or end > interval.num_samples:
        return None
    return SegmentCut(starts[0], end - starts[0], tuple(start - starts[0] for start in starts), samples_per_chunk)
