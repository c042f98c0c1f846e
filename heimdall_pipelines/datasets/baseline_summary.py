"""Errors of simple methods of location on a dataset's samples, for its summary."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.position_bounds import with_bound
from heimdall_pipelines.learning.arrays import SampleArrays
from heimdall_pipelines.learning.baselines import (
    BOUND,
    DELAY_SPREAD,
    LEVEL,
    NEAREST_NEIGHBOURS,
    ROBUST_TDOA,
    baseline_errors_m,
    rms_of_bound,
)
from heimdall_pipelines.learning.frames import LocalFrame
from heimdall_pipelines.learning.time_differences import PairArrays
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.model.truth import SampleTruth
from heimdall_pipelines.store.dataset_samples import StoredSample
from heimdall_pipelines.store.features import ReceiverFeatures, mean_of

MAX_SAMPLES = 1000  # that are located: by time differences each takes some milliseconds
METHODS = (BOUND, ROBUST_TDOA, NEAREST_NEIGHBOURS)
ALL, IN_SIGHT, OTHERS = "all", "in line of sight", "others"
_PARTS = 5
_FEWEST = 20  # samples of which some are located by the others' levels


@dataclass(frozen=True)
class BaselineErrors:
    """Errors of a method on some of the samples.

    Attributes
    ----------
    method, samples : str
        ``samples`` is "all", "in line of sight" (of every receiver that detects) or "others".
    num, num_located : int
        Samples, and those of them that the method located.
    median_m, p90_m : float or None
        Of these; None without any.
    """

    method: str
    samples: str
    num: int
    num_located: int
    median_m: float | None
    p90_m: float | None


@dataclass(frozen=True, eq=False)
class BaselineSummary:
    """Errors of all methods.

    Attributes
    ----------
    num_samples, num_of : int
        Samples that were located, chosen with a fixed seed, and samples of the dataset.
    errors_m : dict of str to ndarray of float64, shape (num_samples,)
        By method; NaN where a sample was not located. Of the bound its root mean square.
    distance_m : ndarray of float64, shape (num_samples,)
        From the middle of the receivers that detect to the transmitter; NaN where none does.
    in_sight : ndarray of bool, shape (num_samples,)
        Whether all receivers that detect are in line of sight of the transmitter.
    """

    num_samples: int
    num_of: int
    errors_m: dict[str, NDArray[np.float64]]
    distance_m: NDArray[np.float64]
    in_sight: NDArray[np.bool_]

    def rows(self) -> Iterator[BaselineErrors]:
        """Statistics of each method: all samples, and with and without line of sight."""
        groups = {ALL: np.ones(self.num_samples, np.bool_), IN_SIGHT: self.in_sight, OTHERS: ~self.in_sight}
        for method, errors_m in self.errors_m.items():
            for name, chosen in groups.items():
                located = errors_m[chosen & np.isfinite(errors_m)]
                half_m, most_m = np.percentile(located, [50, 90]) if located.size else (None, None)
                yield BaselineErrors(
                    method,
                    name,
                    int(chosen.sum()),
                    located.size,
                    None if half_m is None else round(float(half_m), 1),
                    None if most_m is None else round(float(most_m), 1),
                )

    def cells(self) -> Iterator[tuple[str, str, str, str, str]]:
        """The rows as texts: method, samples, located, median and 90 %, both in m."""
        for row in self.rows():
            values = ("" if value is None else f"{value:.4g}" for value in (row.median_m, row.p90_m))
            yield row.method, row.samples, f"{row.num_located} of {row.num}", *values  # type: ignore[misc]

    def note(self) -> str:
        """How the samples were chosen, and what the methods are."""
        chosen = (
            f"all {self.num_samples} samples"
            if self.num_samples == self.num_of
            else f"{self.num_samples} of {self.num_of} samples, chosen at random with a fixed seed"
        )
        return (
            f"{chosen}. In line of sight: every receiver that detects is. The bound is the root mean square of the "
            "least error from arrival times, without echoes; robust TDoA is the estimator that locates sessions; "
            "nearest neighbours locate each fifth of these samples by the levels of the other four"
        )


HEADINGS = ("method", "samples", "located", "median, m", "90 %, m")


@dataclass(frozen=True, slots=True)
class _Receiver:
    rx_id: str
    latitude: float
    longitude: float
    altitude_m: float
    level_dbm: float
    delay_spread_us: float
    is_detected: bool


@dataclass(frozen=True, slots=True)
class _Sample:
    """What is kept of a sample: its features would take ten times the memory."""

    sample_idx: int
    truth: SampleTruth
    receivers: tuple[_Receiver, ...]
    pairs: tuple[PairTimeDifference, ...]

    @classmethod
    def of(cls, sample: StoredSample) -> "_Sample":
        return cls(
            sample.sample_idx,
            sample.truth,
            tuple(
                _Receiver(
                    receiver.rx_id,
                    receiver.rx_lat,
                    receiver.rx_lon,
                    receiver.rx_alt_m,
                    _mean_or_nan(receiver, LEVEL),
                    _mean_or_nan(receiver, DELAY_SPREAD),
                    receiver.signal_present,
                )
                for receiver in sample.receivers
            ),
            sample.time_differences or (),
        )


def _mean_or_nan(receiver: ReceiverFeatures, feature: str) -> float:
    mean = mean_of(receiver, feature)
    return np.nan if mean is None else mean


class BaselineColumns:
    """Collects the samples of which the errors are computed: of more than `MAX_SAMPLES` a random choice.

    The same rows give the same choice.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self._spec = spec
        self._num_of = 0
        self._rng = np.random.default_rng(0)
        self._samples: list[_Sample] = []

    def add(self, sample: StoredSample) -> None:
        """Add one sample, which may take the place of another (reservoir sampling)."""
        self._num_of += 1
        if len(self._samples) < MAX_SAMPLES:
            self._samples.append(_Sample.of(sample))
            return
        at = int(self._rng.integers(self._num_of))
        if at < MAX_SAMPLES:
            self._samples[at] = _Sample.of(sample)

    def summary(self) -> BaselineSummary | None:
        """Locate the chosen samples; None if none has receivers."""
        samples = sorted((one for one in self._samples if one.receivers), key=lambda sample: sample.sample_idx)
        if not samples:
            return None
        arrays = _arrays(samples)
        pairs = _pairs(samples)
        return BaselineSummary(
            num_samples=len(samples),
            num_of=self._num_of,
            errors_m={
                BOUND: np.array([_bound_m(sample, self._spec) for sample in samples]),
                ROBUST_TDOA: baseline_errors_m(ROBUST_TDOA, arrays, arrays, pairs),
                NEAREST_NEIGHBOURS: _by_neighbours(arrays),
            },
            distance_m=_distance_m(arrays),
            in_sight=np.array([_is_in_sight(sample) for sample in samples]),
        )


def _bound_m(sample: _Sample, spec: DatasetSpec) -> float:
    """Root mean square error of the bound; NaN without one."""
    bound = sample.truth.position_bound
    if bound is None:  # of before
        places = [(receiver.latitude, receiver.longitude) for receiver in sample.receivers]
        bound = with_bound(sample.truth, places, spec).position_bound
    if bound is None or bound.semi_major_m is None or bound.semi_minor_m is None:
        return np.nan
    return float(rms_of_bound(bound.semi_major_m, bound.semi_minor_m))


def _is_in_sight(sample: _Sample) -> bool:
    return all(link.line_of_sight for link in sample.truth.receivers if link.detected)


def _by_neighbours(arrays: SampleArrays) -> NDArray[np.float64]:
    """Errors of each part's samples, located by the levels of the others."""
    errors_m = np.full(len(arrays), np.nan)
    if len(arrays) < _FEWEST:
        return errors_m
    part = np.random.default_rng(0).permutation(len(arrays)) % _PARTS
    for number in range(_PARTS):
        own = part == number
        errors_m[own] = baseline_errors_m(NEAREST_NEIGHBOURS, arrays.take(~own), arrays.take(own), None)
    return errors_m


def _distance_m(arrays: SampleArrays) -> NDArray[np.float64]:
    num = arrays.detected.sum(axis=1)
    places = np.where(arrays.detected[..., None], arrays.rx_m, 0.0).sum(axis=1)
    middle = places / np.where(num > 0, num, np.nan)[:, None]
    return np.asarray(np.linalg.norm(arrays.targets_m - middle, axis=1))


def _arrays(samples: Sequence[_Sample]) -> SampleArrays:
    shape = (len(samples), max(len(sample.receivers) for sample in samples))
    levels, spreads, lats, lons, alts = (np.full(shape, np.nan) for _ in range(5))
    mask, detected = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    longest = max(len(receiver.rx_id) for sample in samples for receiver in sample.receivers)
    rx_ids = np.full(shape, "", f"<U{longest}")
    for row, sample in enumerate(samples):
        for column, receiver in enumerate(sample.receivers):
            at = row, column
            levels[at], spreads[at], rx_ids[at] = receiver.level_dbm, receiver.delay_spread_us, receiver.rx_id
            lats[at], lons[at], alts[at] = receiver.latitude, receiver.longitude, receiver.altitude_m
            mask[at], detected[at] = True, receiver.is_detected
    frame = LocalFrame.around(lats[mask], lons[mask])
    tx_lats = np.array([sample.truth.tx_latitude for sample in samples], float)
    tx_lons = np.array([sample.truth.tx_longitude for sample in samples], float)
    return SampleArrays(
        sample_idx=np.array([sample.sample_idx for sample in samples], np.int64),
        feature_names=(LEVEL, DELAY_SPREAD),
        features=np.stack([levels, spreads], axis=-1).astype(np.float32),
        mask=mask,
        detected=detected,
        rx_lats_deg=lats,
        rx_lons_deg=lons,
        rx_alts_m=alts,
        rx_m=frame.to_metres(lats, lons),
        rx_ids=rx_ids,
        tx_lats_deg=tx_lats,
        tx_lons_deg=tx_lons,
        targets_m=frame.to_metres(tx_lats, tx_lons),
        frame=frame,
    )


def _pairs(samples: Sequence[_Sample]) -> PairArrays:
    known = [
        (sample.sample_idx, pair.rx_a, pair.rx_b, pair.tdoa_us, pair.std_us, pair.peak)
        for sample in samples
        for pair in sample.pairs
        if pair.tdoa_us is not None
    ]
    columns: list[list[object]] = [list(column) for column in zip(*known, strict=True)] or [[] for _ in range(6)]
    return PairArrays(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.str_),
        np.array(columns[2], np.str_),
        *(np.array(column, np.float64) for column in columns[3:]),
    )
