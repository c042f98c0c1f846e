"""Time differences between the stations of each segment of a session, while its features are extracted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.rf.segment_tdoa import differences_on_grid, largest_delays_s
from heimdall_pipelines.rf.tdoa import TimeGrid
from heimdall_pipelines.store.features import ReceiverFeatures, mean_of

EDGE_NS = 8_000_000  # samples that the channel's filter needs at either end of a segment
_MIN_DURATION_NS = 100_000_000


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


def segment_grid(segment_ns: int, bandwidth_hz: float, passbands_hz: Sequence[float]) -> TimeGrid | None:
    """Instants at which the stations' channels are compared, within a segment.

    Parameters
    ----------
    segment_ns : int
        Duration of the segment.
    bandwidth_hz : float
        Of the session's channel.
    passbands_hz : sequence of float
        Width around the centre that each station's recording has.

    Returns
    -------
    TimeGrid or None
        ``start_ns`` counts from the segment's start. None where there are fewer than two stations, or the segment is
        too short for the channel's filter.
    """
    duration_ns = segment_ns - 2 * EDGE_NS
    if len(passbands_hz) < 2 or duration_ns < _MIN_DURATION_NS:
        return None
    return TimeGrid.over(EDGE_NS, duration_ns / 1e9, min(bandwidth_hz, *passbands_hz))


def differences_of_segment(
    receivers: Sequence[ReceiverFeatures],
    signals: Mapping[str, NDArray[np.complex64]],
    reasons: Mapping[str, str],
    grid: TimeGrid | None,
) -> tuple[PairTimeDifference, ...]:
    """Measure the pairs of the stations that detected a segment's signal.

    Parameters
    ----------
    receivers : sequence of ReceiverFeatures
        Of the segment.
    signals : mapping of str to ndarray of complex64, shape (grid.num_samples,)
        By rx_id, each station's channel at the instants of the grid.
    reasons : mapping of str to str
        By rx_id, why a station's times carry no time difference.
    grid : TimeGrid, optional
        From `segment_grid`.

    Returns
    -------
    tuple of PairTimeDifference
        Of every pair; those of a station with a reason have none, and name it.
    """
    detected = [receiver for receiver in receivers if receiver.signal_present]
    usable = [receiver for receiver in detected if receiver.rx_id in signals and receiver.rx_id not in reasons]
    measured: dict[tuple[str, str], PairTimeDifference] = {}
    if grid is not None and len(usable) >= 2:
        found = _measured(usable, [signals[receiver.rx_id] for receiver in usable], grid)
        measured = {(pair.rx_a, pair.rx_b): pair for pair in found}
    return tuple(
        measured.get((a.rx_id, b.rx_id)) or PairTimeDifference.unknown(a.rx_id, b.rx_id, _reason(a, b, reasons))
        for a, b in combinations(detected, 2)
    )


def _reason(a: ReceiverFeatures, b: ReceiverFeatures, reasons: Mapping[str, str]) -> str:
    for receiver in (a, b):
        if receiver.rx_id in reasons:
            return f"{receiver.rx_id}: {reasons[receiver.rx_id]}"
    return f"the segment is shorter than {(_MIN_DURATION_NS + 2 * EDGE_NS) / 1e6:g} ms"


def _measured(
    receivers: Sequence[ReceiverFeatures], signals: Sequence[NDArray[np.complex64]], grid: TimeGrid
) -> list[PairTimeDifference]:
    levels_db = [mean_of(receiver, "cn0_dbhz") or 0.0 for receiver in receivers]
    reference = levels_db.index(max(levels_db))
    frequencies_hz = [mean_of(receiver, "frequency_offset_hz") for receiver in receivers]
    assumed_hz = frequencies_hz[reference] or 0.0
    found = differences_on_grid(
        signals,
        grid,
        max_delays_s=largest_delays_s(
            [receiver.rx_lat for receiver in receivers],
            [receiver.rx_lon for receiver in receivers],
            [receiver.rx_alt_m for receiver in receivers],
        ),
        reference=reference,
        frequencies_hz=[assumed_hz if frequency_hz is None else frequency_hz for frequency_hz in frequencies_hz],
    )
    rx_ids = [receiver.rx_id for receiver in receivers]
    return [PairTimeDifference.of(rx_ids, difference) for difference in found]
