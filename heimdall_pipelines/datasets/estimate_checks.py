"""Checks that estimates are close to the truth, to find wrong labels and wrong estimators."""

import math
from dataclasses import dataclass, field
from typing import Any

from scipy.special import pdtrc

from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.rf.spectrum import USABLE_BAND
from heimdall_pipelines.store.dataset_snapshot import SampleRow
from heimdall_pipelines.store.features import ReceiverFeatures, mean_of

# Measured over kinds of datasets (docs/science.md): levels within 0.8 dB of all links, bias below 0.11 dB. The bounds
# leave three times as much, and are far below what a label of another link would give. Frequency is within 50 Hz of all
# but 1 in 1000 links; a null of the channel within the signal pulls the others without bound, of default links 1 in
# 100,000 beyond 250 Hz, of a 25 kHz channel in a city 19.
MAX_LEVEL_ERROR_DB = 3.0
MAX_FREQUENCY_ERROR_HZ = 250.0
FAR_OFF_SHARE = 0.001  # of the links, that may be further off in frequency; five times the worst measured
MAX_BIAS_DB = 0.5
HEARD_DB = 0.0  # least true SNR at which levels are compared
STRONG_DB = 10.0  # and at which frequencies are
_FEWEST_FOR_BIAS = 100
_FALSE_ALARM = 0.001  # share of datasets with exactly FAR_OFF_SHARE that fail
_NOISE_UNSURE = "noise_floor_dbm"  # a flag that begins with it: too little free band to measure the noise in


@dataclass
class EstimateSums:
    """What is compared over all links together.

    Attributes
    ----------
    far_off : list of int
        sample_idx of each link whose frequency is far off.
    far_off_words : list of str
        Of the first of them.
    errors_db : dict of str to (int, float)
        Number and sum of the errors by feature.
    """

    far_off: list[int] = field(default_factory=list)
    far_off_words: list[str] = field(default_factory=list)
    errors_db: dict[str, tuple[int, float]] = field(default_factory=lambda: {"snr_db": (0, 0.0), "rssi_dbm": (0, 0.0)})


class EstimateChecks:
    """Compares link by link, and the mean error over all of them."""

    def __init__(self, spec: DatasetSpec, found: Findings) -> None:
        self._findings = found
        self._outcome = found.outcomes["estimates_agree_with_truth"]
        # What the hardware adds is measured with the signal, but is not part of the truth.
        self._is_clean = spec.dc_offset_db is None and spec.adc_bits is None
        # A strong signal's skirts fill a narrow band: the noise estimate is too high there.
        self._has_free_band = USABLE_BAND * spec.sample_rate_hz >= 2 * spec.bandwidth_hz
        self.sums = EstimateSums()

    def add(self, row: SampleRow) -> None:
        """Compare a sample's links."""
        links = row.truth.receivers if row.truth is not None else ()
        if len(links) != len(row.receivers):
            return  # another check reports it
        for link, receiver in zip(links, row.receivers, strict=True):
            snr_db = link.snr_db
            if not self._is_clean or not receiver.signal_present or snr_db is None or snr_db < HEARD_DB:
                self._outcome.count("links_not_compared")
                continue
            self._outcome.count("links_compared")
            self._level(row.sample_idx, receiver, "rssi_dbm", link.signal_power_dbm)
            if self._has_free_band and not any(flag.startswith(_NOISE_UNSURE) for flag in receiver.flags):
                self._level(row.sample_idx, receiver, "snr_db", snr_db)
            if snr_db >= STRONG_DB:
                self._frequency(row.sample_idx, receiver, link.frequency_offset_hz)

    def merge(self, other: EstimateSums) -> None:
        """Add the sums over further links."""
        mine = self.sums
        mine.far_off += other.far_off
        mine.far_off_words += other.far_off_words[: MAX_EXAMPLES - len(mine.far_off_words)]
        for feature, (num, total) in other.errors_db.items():
            mine.errors_db[feature] = (mine.errors_db[feature][0] + num, mine.errors_db[feature][1] + total)

    def end(self) -> None:
        """Check the mean errors, and the number of frequencies that are far off."""
        if len(self.sums.far_off) > max_outliers(self._outcome.numbers.get("frequencies_compared", 0)):
            self._outcome.problems(len(self.sums.far_off), self.sums.far_off_words)
            self._findings.affected.update(self.sums.far_off)
        for feature, (num, total) in self.sums.errors_db.items():
            if num >= _FEWEST_FOR_BIAS and abs(total / num) > MAX_BIAS_DB:
                self._outcome.problem(
                    f"{feature} is {total / num:+.2f} dB off on average over {num} links, limit {MAX_BIAS_DB} dB"
                )

    def _level(self, sample_idx: int, receiver: ReceiverFeatures, feature: str, truth: float | None) -> None:
        error_db = _error(mean_of(receiver, feature), truth)
        if abs(error_db) > MAX_LEVEL_ERROR_DB:
            self._wrong(sample_idx, f"{receiver.rx_id} {feature} is {error_db:+.1f} dB off the truth {truth:.1f}")
        if math.isfinite(error_db):
            num, total = self.sums.errors_db[feature]
            self.sums.errors_db[feature] = (num + 1, total + error_db)

    def _frequency(self, sample_idx: int, receiver: ReceiverFeatures, truth_hz: float) -> None:
        error_hz = _error(mean_of(receiver, "frequency_offset_hz"), truth_hz)
        if not math.isfinite(error_hz):
            return
        self._outcome.count("frequencies_compared")
        if abs(error_hz) <= MAX_FREQUENCY_ERROR_HZ:
            return
        self._outcome.count("frequencies_far_off")
        self.sums.far_off.append(sample_idx)
        if len(self.sums.far_off_words) < MAX_EXAMPLES:
            off = f"frequency_offset_hz is {error_hz:+.0f} Hz off the truth {truth_hz:.0f}"
            self.sums.far_off_words.append(f"sample {sample_idx}: {receiver.rx_id} {off}")

    def _wrong(self, sample_idx: int, what: str) -> None:
        self._findings.add("estimates_agree_with_truth", sample_idx, what, repaired_by_regeneration=False)


def max_outliers(num_links: int) -> int:
    """How many of so many links may be off in frequency by more than `MAX_FREQUENCY_ERROR_HZ`.

    The least number that is exceeded by chance, at a share of `FAR_OFF_SHARE`, once in a thousand (Poisson).
    """
    most = 0
    while pdtrc(most, FAR_OFF_SHARE * num_links) > _FALSE_ALARM:
        most += 1
    return most


def _error(estimate: Any, truth: float | None) -> float:
    """Estimate less truth; NaN where one of them is not a number, which other checks report."""
    if isinstance(estimate, int | float) and truth is not None:
        return estimate - truth
    return math.nan
