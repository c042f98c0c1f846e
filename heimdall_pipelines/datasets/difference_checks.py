"""Checks that time differences are close to the truth, to find wrong labels and wrong estimators."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from heimdall_pipelines.datasets.estimate_checks import max_outliers
from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.model.truth import SampleTruth
from heimdall_pipelines.store.dataset_snapshot import SampleRow

TRIANGLE_TOLERANCE_US = 10.0
# Measured over kinds of datasets (docs/science.md): echoes delay by up to 32 us in 99 of 100 pairs, and but for one
# pair in 21,000 the worst is 47 us beyond five standard deviations; half are within 3.4 us, the mean is within 0.8 us.
# A label of another link is off by the time of light between receivers, tens to hundreds of microseconds.
MAX_ERROR_US = 60.0
_STDS = 6.0
MAX_BIAS_US = 5.0
MAX_MEDIAN_US = 10.0
_FEWEST = 300  # pairs from which mean and median are looked at


@dataclass
class DifferenceSums:
    """What is compared over all pairs together.

    Attributes
    ----------
    num, num_small : int
        Pairs, and those of them with a small error.
    total_us : float
        Sum of the errors.
    far_off : list of int
        sample_idx of each pair that is far off.
    far_off_words : list of str
        Of the first of them.
    """

    num: int = 0
    num_small: int = 0
    total_us: float = 0.0
    far_off: list[int] = field(default_factory=list)
    far_off_words: list[str] = field(default_factory=list)


class DifferenceChecks:
    """Compares pair by pair, and the mean and the median error over all of them."""

    def __init__(self, spec: DatasetSpec, found: Findings) -> None:
        # A constant that the hardware adds is the same at all receivers, and no part of the transmission.
        self._is_clean = spec.dc_offset_db is None and spec.adc_bits is None
        self._findings = found
        self._outcome = found.outcomes["estimates_agree_with_truth"]
        self.sums = DifferenceSums()

    def add(self, row: SampleRow) -> None:
        """Compare a sample's pairs."""
        if not self._is_clean or row.truth is None or row.time_differences is None:
            return
        for pair, truth_us in with_truth(row.time_differences, row.truth):
            assert pair.tdoa_us is not None
            error_us = pair.tdoa_us - truth_us
            self.sums.num += 1
            self.sums.num_small += abs(error_us) <= MAX_MEDIAN_US
            self.sums.total_us += error_us
            if abs(error_us) > MAX_ERROR_US + _STDS * (pair.std_us or 0.0):
                self.sums.far_off.append(row.sample_idx)
                if len(self.sums.far_off_words) < MAX_EXAMPLES:
                    off = f"tdoa_us is {error_us:+.1f} us off the truth {truth_us:.1f}"
                    self.sums.far_off_words.append(f"sample {row.sample_idx}: {pair.rx_a}-{pair.rx_b} {off}")

    def merge(self, other: DifferenceSums) -> None:
        """Add the sums over further pairs."""
        mine = self.sums
        mine.num += other.num
        mine.num_small += other.num_small
        mine.total_us += other.total_us
        mine.far_off += other.far_off
        mine.far_off_words += other.far_off_words[: MAX_EXAMPLES - len(mine.far_off_words)]

    def end(self) -> None:
        """Check the mean and the median error, and the number of pairs that are far off."""
        sums = self.sums
        self._outcome.numbers |= {"pairs_compared": sums.num, "pairs_far_off": len(sums.far_off)}
        if len(sums.far_off) > max_outliers(sums.num):
            self._outcome.problems(len(sums.far_off), sums.far_off_words)
            self._findings.affected.update(sums.far_off)
        if sums.num < _FEWEST:
            return
        mean_us = sums.total_us / sums.num
        if abs(mean_us) > MAX_BIAS_US:
            self._outcome.problem(
                f"tdoa_us is {mean_us:+.1f} us off on average over {sums.num} pairs, limit {MAX_BIAS_US:g} us"
            )
        if sums.num_small < sums.num / 2:
            self._outcome.problem(
                f"tdoa_us is within {MAX_MEDIAN_US:g} us of the truth in {sums.num_small} of {sums.num} pairs, fewer "
                "than half"
            )


def with_truth(pairs: tuple[PairTimeDifference, ...], truth: SampleTruth) -> Iterator[tuple[PairTimeDifference, float]]:
    """Each known time difference with the true one by the receivers' clocks, us; without pairs of unknown receivers."""
    delays_us = {link.rx_id: 1e6 * link.delay_s + 1e-3 * (link.clock_offset_ns or 0.0) for link in truth.receivers}
    for pair in pairs:
        if pair.tdoa_us is not None and pair.rx_a in delays_us and pair.rx_b in delays_us:
            yield pair, delays_us[pair.rx_b] - delays_us[pair.rx_a]
