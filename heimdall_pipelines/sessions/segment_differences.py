"""Time differences between the stations of each segment of a session, while its features are extracted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.rf.segment_tdoa import largest_delays_s, segment_time_differences
from heimdall_pipelines.rf.tdoa import Modulation, TimeGrid, modulation, signal_on_grid
from heimdall_pipelines.store.features import ReceiverFeatures, mean_of

_EDGE_NS = 8_000_000  # samples that the channel's filter needs at either end of a segment
_MIN_DURATION_NS = 100_000_000
_NUM_PARTS = 5  # whose delays give the scatter
_MOST_OF_BAND = 0.8  # of a sample rate


@dataclass(frozen=True, eq=False)
class SegmentIq:
    """A station's samples of one segment.

    Attributes
    ----------
    iq : ndarray of complex64, shape (num_samples,)
    start_ns : float
        Time of ``iq[0]`` relative to the segment's start.
    sample_rate_hz : float
        True rate.
    usable_hz : float
        Width around the centre that the receiver's filter passes.
    """

    iq: NDArray[np.complex64]
    start_ns: float
    sample_rate_hz: float
    usable_hz: float


@dataclass(frozen=True)
class PairSummary:
    """Time difference of a pair of stations over the segments of a session.

    Attributes
    ----------
    rx_a, rx_b : str
    num, num_known : int
        Segments in which both detected, and those of them with a time difference.
    median_us, scatter_us : float or None
        Of these; None without any.
    reason : str or None
        Why the time difference is unknown, where it is in any: the most frequent reason.
    """

    rx_a: str
    rx_b: str
    num: int
    num_known: int
    median_us: float | None
    scatter_us: float | None
    reason: str | None


class PairColumns:
    """Collects the time differences of a session's pairs, segment by segment."""

    def __init__(self) -> None:
        self._known_us: dict[tuple[str, str], list[float]] = {}
        self._reasons: dict[tuple[str, str], Counter[str]] = {}

    def add(self, pairs: Sequence[PairTimeDifference]) -> None:
        """Add a segment."""
        for pair in pairs:
            key = pair.rx_a, pair.rx_b
            known_us, reasons = self._known_us.setdefault(key, []), self._reasons.setdefault(key, Counter())
            if pair.tdoa_us is None:
                reasons[pair.reason or "unknown"] += 1
            else:
                known_us.append(pair.tdoa_us)

    def summaries(self) -> tuple[PairSummary, ...]:
        """Of each pair that both detected in any segment."""
        return tuple(
            PairSummary(
                *key,
                len(known_us) + self._reasons[key].total(),
                len(known_us),
                float(np.median(known_us)) if known_us else None,
                float(np.std(known_us)) if known_us else None,
                next((reason for reason, _ in self._reasons[key].most_common(1)), None),
            )
            for key, known_us in self._known_us.items()
        )


def differences_of_segment(
    receivers: Sequence[ReceiverFeatures],
    samples: Mapping[str, SegmentIq],
    reasons: Mapping[str, str],
    *,
    segment_ns: int,
    bandwidth_hz: float,
) -> tuple[PairTimeDifference, ...]:
    """Measure the pairs of the stations that detected a segment's signal.

    Parameters
    ----------
    receivers : sequence of ReceiverFeatures
        Of the segment.
    samples : mapping of str to SegmentIq
        By rx_id.
    reasons : mapping of str to str
        By rx_id, why a station's times carry no time difference.
    segment_ns : int
        Duration of the segment.
    bandwidth_hz : float
        Of the session's channel.

    Returns
    -------
    tuple of PairTimeDifference
        Of every pair; those of a station with a reason have none, and name it.
    """
    detected = [receiver for receiver in receivers if receiver.signal_present]
    usable = [receiver for receiver in detected if receiver.rx_id in samples and receiver.rx_id not in reasons]
    measured: dict[tuple[str, str], PairTimeDifference] = {}
    if len(usable) >= 2:
        found = _measured(usable, [samples[receiver.rx_id] for receiver in usable], segment_ns, bandwidth_hz)
        measured = {(pair.rx_a, pair.rx_b): pair for pair in found}
    return tuple(
        measured.get((a.rx_id, b.rx_id)) or PairTimeDifference.unknown(a.rx_id, b.rx_id, _reason(a, b, reasons))
        for a, b in combinations(detected, 2)
    )


def _reason(a: ReceiverFeatures, b: ReceiverFeatures, reasons: Mapping[str, str]) -> str:
    for receiver in (a, b):
        if receiver.rx_id in reasons:
            return f"{receiver.rx_id}: {reasons[receiver.rx_id]}"
    return f"the segment is shorter than {(_MIN_DURATION_NS + 2 * _EDGE_NS) / 1e6:g} ms"


def _measured(
    receivers: Sequence[ReceiverFeatures], samples: Sequence[SegmentIq], segment_ns: int, bandwidth_hz: float
) -> list[PairTimeDifference]:
    duration_ns = segment_ns - 2 * _EDGE_NS
    if duration_ns < _MIN_DURATION_NS:
        return []
    narrowest_hz = min(min(one.usable_hz, _MOST_OF_BAND * one.sample_rate_hz) for one in samples)
    grid = TimeGrid.over(_EDGE_NS, duration_ns / 1e9, min(bandwidth_hz, narrowest_hz))
    signals = [signal_on_grid(one.iq, one.start_ns - _EDGE_NS, one.sample_rate_hz, grid) for one in samples]
    levels_db = [mean_of(receiver, "cn0_dbhz") or 0.0 for receiver in receivers]
    reference = levels_db.index(max(levels_db))
    # All alike: what one station has as a carrier's phase cannot be compared with another's amplitude.
    strongest = modulation(signals[reference], grid)
    alike: list[Modulation] = [modulation(signal, grid, has_carrier=strongest.is_real) for signal in signals]
    frequencies_hz = [mean_of(receiver, "frequency_offset_hz") for receiver in receivers]
    assumed_hz = frequencies_hz[reference] or 0.0
    size = grid.num_samples // _NUM_PARTS
    found = segment_time_differences(
        [one.samples[: _NUM_PARTS * size].reshape(_NUM_PARTS, size) for one in alike],
        rate_hz=grid.rate_hz,
        bandwidth_hz=grid.bandwidth_hz,
        max_delays_s=largest_delays_s(
            [receiver.rx_lat for receiver in receivers],
            [receiver.rx_lon for receiver in receivers],
            [receiver.rx_alt_m for receiver in receivers],
        ),
        reference=reference,
        frequencies_hz=None
        if strongest.is_real
        else [assumed_hz if frequency_hz is None else frequency_hz for frequency_hz in frequencies_hz],
        is_real=strongest.is_real,
    )
    rx_ids = [receiver.rx_id for receiver in receivers]
    return [PairTimeDifference.of(rx_ids, difference) for difference in found]
