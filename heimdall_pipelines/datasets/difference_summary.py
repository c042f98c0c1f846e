"""Errors of a dataset's time differences: of all pairs, and of each receiver's delay."""

from array import array
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.difference_checks import with_truth
from heimdall_pipelines.store.dataset_samples import StoredSample

_FEWEST_PAIRS = 2  # of a receiver in a sample, for an error of its own


@dataclass(frozen=True)
class ReceiverDelay:
    """Error of a receiver's delay relative to the others': the median over its pairs in each sample.

    Attributes
    ----------
    rx_id : str
    num : int
        Samples.
    bias_us, median_us, percentile_90_us : float
        Mean error, and percentiles of its magnitude.
    """

    rx_id: str
    num: int
    bias_us: float
    median_us: float
    percentile_90_us: float


@dataclass(frozen=True, eq=False)
class DifferenceErrors:
    """Errors of the time differences: estimate minus truth.

    Attributes
    ----------
    error_us : ndarray of float32, shape (num_pairs,)
        Of every pair with a time difference.
    in_sight : ndarray of bool, shape (num_pairs,)
        Whether both receivers are in line of sight of the transmitter.
    num_unknown : int
        Pairs without one.
    receivers : tuple of ReceiverDelay
        Of the dataset's receivers; none where they are random.
    """

    error_us: NDArray[np.float32]
    in_sight: NDArray[np.bool_]
    num_unknown: int
    receivers: tuple[ReceiverDelay, ...]

    def note(self) -> str:
        """How far off pairs with and without line of sight are."""
        parts = [f"pairs that both detected; {self.num_unknown} have no time difference, with a reason"]
        for name, chosen in (("in line of sight", self.in_sight), ("others", ~self.in_sight)):
            if chosen.any():
                half_us, most_us = np.percentile(np.abs(self.error_us[chosen]), [50, 90])
                parts.append(f"{name}: half within {half_us:.2g} us, 90 % within {most_us:.2g} us")
        return "; ".join(parts) + ". Echoes delay: the truth is the direct path, with the receivers' clocks"


class DifferenceColumns:
    """Collects the errors sample by sample."""

    def __init__(self, rx_ids: tuple[str, ...]) -> None:
        self._error_us = array("f")
        self._in_sight = array("b")
        self._num_unknown = 0
        self._of_receiver = {rx_id: array("f") for rx_id in rx_ids}

    def add(self, sample: StoredSample) -> None:
        """Add one sample."""
        pairs = sample.time_differences or ()
        in_sight = {link.rx_id: link.line_of_sight for link in sample.truth.receivers}
        of_receiver: dict[str, list[float]] = defaultdict(list)
        num_known = 0
        for pair, truth_us in with_truth(pairs, sample.truth):
            assert pair.tdoa_us is not None
            error_us = pair.tdoa_us - truth_us
            self._error_us.append(error_us)
            self._in_sight.append(in_sight[pair.rx_a] and in_sight[pair.rx_b])
            of_receiver[pair.rx_a].append(-error_us)
            of_receiver[pair.rx_b].append(error_us)
            num_known += 1
        self._num_unknown += len(pairs) - num_known
        for rx_id, errors_us in of_receiver.items():
            if rx_id in self._of_receiver and len(errors_us) >= _FEWEST_PAIRS:
                self._of_receiver[rx_id].append(median(errors_us))

    def errors(self) -> DifferenceErrors:
        """What was collected."""
        return DifferenceErrors(
            error_us=np.array(self._error_us, np.float32),
            in_sight=np.array(self._in_sight, np.bool_),
            num_unknown=self._num_unknown,
            receivers=tuple(_delay(rx_id, errors) for rx_id, errors in self._of_receiver.items() if errors),
        )


def _delay(rx_id: str, errors: "array[float]") -> ReceiverDelay:
    error_us = np.array(errors, np.float64)
    half_us, most_us = np.percentile(np.abs(error_us), [50, 90])
    return ReceiverDelay(rx_id, error_us.size, float(error_us.mean()), float(half_us), float(most_us))
