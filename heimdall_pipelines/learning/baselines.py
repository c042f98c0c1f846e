"""Simple methods that locate transmitters, and their errors on every split: what a model must beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.learning.arrays import SampleArrays, load_arrays
from heimdall_pipelines.learning.folder import ExportFolder
from heimdall_pipelines.learning.time_differences import PairArrays, load_pairs, tdoa_of_pairs
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.rf.positioning import ECHO_US, PositionError, Receiver, locate
from heimdall_pipelines.rf.tdoa import TimeDifference

NEIGHBOURS = 10
ITERATIONS = 300  # of the trees
BOUND = "Cramer-Rao bound"
NEAREST_NEIGHBOURS, TREES = "nearest neighbours, levels", "trees, levels"
ROBUST_TDOA, TREES_TDOA = "robust TDoA", "trees, levels and TDoA"
LEARNED = (NEAREST_NEIGHBOURS, TREES)
LEVEL, _SNR, DELAY_SPREAD = "rssi_dbm", "snr_db", "multipath_delay_spread_us"
_FEATURES = (LEVEL, _SNR, "frequency_offset_hz", DELAY_SPREAD)
_ABSENT_DBM = -150.0  # a level below any that is detected
_DRMS = float(np.sqrt(-2 * np.log(0.05)))  # of an ellipse of 95 %, over its standard deviation
TDOA_SYSTEMATIC_US = 0.07  # clocks with GNSS, 50 ns by default, and as much by echoes in line of sight
_FEW = 20  # samples with which a model is trained at least


class MissingLearnerError(HeimdallError):
    """scikit-learn is not installed."""


@dataclass(frozen=True)
class BaselineRow:
    """Errors of a baseline on a split's test samples.

    Attributes
    ----------
    split, baseline : str
    num : int
        Test samples that were located; 0 where there is a reason.
    median_m, p90_m, mean_m : float
    within_1km : float
        Share.
    reason : str
    """

    split: str
    baseline: str
    num: int = 0
    median_m: float = 0.0
    p90_m: float = 0.0
    mean_m: float = 0.0
    within_1km: float = 0.0
    reason: str = ""

    @classmethod
    def of(cls, split: str, baseline: str, errors_m: NDArray[np.float64], reason: str) -> BaselineRow:
        """Statistics of the errors that are finite; with the reason where none is."""
        errors_m = errors_m[np.isfinite(errors_m)]
        if not len(errors_m):
            return cls(split, baseline, reason=reason)
        return cls(
            split,
            baseline,
            len(errors_m),
            round(float(np.median(errors_m)), 1),
            round(float(np.percentile(errors_m, 90)), 1),
            round(float(errors_m.mean()), 1),
            round(float(np.mean(errors_m <= 1000)), 4),
        )


@dataclass(frozen=True)
class BaselineReport:
    """Errors of all baselines.

    Attributes
    ----------
    seed : int
    rows : tuple of BaselineRow
    """

    seed: int
    rows: tuple[BaselineRow, ...]

    def to_json(self) -> dict[str, Any]:
        """As releases and cards hold it."""
        return {"seed": self.seed, "learned": list(LEARNED), "rows": [asdict(row) for row in self.rows]}


@dataclass(frozen=True)
class _Task:
    """Samples of a split."""

    train: SampleArrays
    test: SampleArrays
    train_pairs: PairArrays | None
    test_pairs: PairArrays | None
    seed: int
    max_tdoa: int


Located = NDArray[np.float64]  # east and north, m; NaN where a sample is not located


def evaluate_baselines(
    export: ExportFolder,
    *,
    seed: int = 0,
    max_train: int = 100_000,
    max_tdoa: int = 2000,
    splits: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> BaselineReport:
    """Locate the test samples of every split by every baseline.

    Parameters
    ----------
    export : ExportFolder
        With positions of its transmitters.
    seed : int, optional
        Of the models and of the choice of samples.
    max_train : int, optional
        Most training samples of a model.
    max_tdoa : int, optional
        Most test samples that are located by time differences, which take some 10 ms each.
    splits, names : sequence of str, optional
        Only these, of `BASELINES` and `BOUND`; rows do not depend on which others are evaluated.
    progress : callable, optional
        Called with a line before each baseline.

    Raises
    ------
    MissingLearnerError
        scikit-learn is not installed.
    """
    rows: list[BaselineRow] = []
    bounds = _bounds_m(export)
    for split in export.description.splits if splits is None else splits:
        task = _task(export, split, seed=seed, max_train=max_train, max_tdoa=max_tdoa)
        for name, method in BASELINES.items():
            if names is not None and name not in names:
                continue
            progress(f"{split}: {name}")
            reason = _reason_against(task, name)
            if reason is not None:
                rows.append(BaselineRow(split, name, reason=reason))
                continue
            errors_m = _errors_m(task.test, method(task))
            rows.append(BaselineRow.of(split, name, errors_m, "no sample could be located"))
        if names is None or BOUND in names:
            of_test = bounds[np.isin(bounds[:, 0], task.test.sample_idx), 1]
            rows.append(BaselineRow.of(split, BOUND, of_test, "no bound"))
    return BaselineReport(seed, tuple(rows))


def baseline_errors_m(
    name: str, train: SampleArrays, test: SampleArrays, test_pairs: PairArrays | None
) -> NDArray[np.float64]:
    """Errors of a baseline that needs no time differences of its training samples.

    Parameters
    ----------
    name : str
        Of `BASELINES`.
    train, test : SampleArrays
        With the feature `LEVEL`.
    test_pairs : PairArrays or None
        Of the test samples.

    Returns
    -------
    ndarray of float64, shape (num_test_samples,)
        NaN where a sample was not located.
    """
    task = _Task(train, test, None, test_pairs, seed=0, max_tdoa=len(test))
    if _reason_against(task, name) is not None:
        return np.full(len(test), np.nan)
    return _errors_m(test, BASELINES[name](task))


def _task(export: ExportFolder, split: str, *, seed: int, max_train: int, max_tdoa: int) -> _Task:
    train = load_arrays(export, _FEATURES, split=split, part="train")
    test = load_arrays(export, _FEATURES, split=split, part="test")
    if len(train) > max_train:
        train = train.take(np.sort(np.random.default_rng(seed).choice(len(train), max_train, replace=False)))
    has_pairs = export.description.has_time_differences
    return _Task(
        train,
        test,
        load_pairs(export, train) if has_pairs else None,
        load_pairs(export, test) if has_pairs else None,
        seed,
        max_tdoa,
    )


def _reason_against(task: _Task, name: str) -> str | None:
    if not len(task.test):
        return "no test samples"
    if not np.isfinite(task.test.targets_m).all():
        return "unknown positions"
    if name in _NEED_PAIRS and not task.test_pairs:
        return "no time differences"
    if name in _TRAINED and len(task.train) < _FEW:
        return f"fewer than {_FEW} training samples"
    return None


def _errors_m(samples: SampleArrays, located_m: Located) -> NDArray[np.float64]:
    errors = np.full(len(samples), np.nan)
    known = np.isfinite(located_m).all(axis=1)
    lats, lons = samples.frame.to_degrees(located_m[known])
    errors[known] = distance_m(lats, lons, samples.tx_lats_deg[known], samples.tx_lons_deg[known])
    return errors


def _bounds_m(export: ExportFolder) -> NDArray[np.float64]:
    """Index and root mean square error of the bound, from the ellipse of 95 %."""
    table = export.table("samples", ["sample_idx", "bound_semi_major_m", "bound_semi_minor_m"])
    major, minor = (table[name].to_numpy().astype(float) for name in table.column_names[1:])
    return np.stack([table["sample_idx"].to_numpy().astype(float), rms_of_bound(major, minor)], axis=-1)


def rms_of_bound(semi_major_m: ArrayLike, semi_minor_m: ArrayLike) -> NDArray[np.float64]:
    """Root mean square error of a position, m, from the semi-axes of its ellipse of 95 %; arrays of one shape."""
    return np.asarray(np.hypot(semi_major_m, semi_minor_m) / _DRMS)


def weighted_centroid(task: _Task) -> Located:
    """Mean position of the receivers that detected, weighted by the square root of the power, as 1 / distance."""
    level_dbm = task.test.feature(LEVEL).astype(np.float64)
    used = task.test.detected & np.isfinite(level_dbm)
    relative_db = level_dbm - np.max(np.where(used, level_dbm, -np.inf), axis=1, keepdims=True, initial=-1e9)
    weights = np.where(used, 10 ** (np.where(used, relative_db, 0.0) / 20), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    places = np.where(used[..., None], task.test.rx_m, 0.0)
    centroid = (weights[..., None] * places).sum(axis=1) / np.where(total > 0, total, np.nan)
    return np.asarray(centroid, float)


def strongest_receiver(task: _Task) -> Located:
    """Position of the receiver with the highest level."""
    level_dbm = task.test.feature(LEVEL)
    used = task.test.detected & np.isfinite(level_dbm)
    best = np.where(used, level_dbm, -np.inf).argmax(axis=1)
    places: Located = task.test.rx_m[np.arange(len(best)), best].copy()
    places[~used.any(axis=1)] = np.nan
    return places


def nearest_neighbours(task: _Task) -> Located:
    """Mean of the nearest training samples by levels, weighted by 1 / distance."""
    train, test = _levels(task)
    scale = np.maximum(train.std(axis=0), 1e-6)
    found = cKDTree(train / scale).query(test / scale, k=np.arange(1, min(NEIGHBOURS, len(train)) + 1))
    apart, nearest = np.asarray(found[0]), np.asarray(found[1])
    # Samples of the same levels count alone.
    weights = np.where(apart.min(axis=1, keepdims=True) > 0, 1 / np.where(apart > 0, apart, 1.0), apart == 0)
    targets_m = task.train.targets_m[nearest]
    return np.asarray((weights[..., None] * targets_m).sum(axis=1) / weights.sum(axis=1, keepdims=True))


def level_trees(task: _Task) -> Located:
    """Gradient-boosted trees on levels."""
    train, test = _levels(task)
    return _trees(task, train, test)


def tdoa_and_level_trees(task: _Task) -> Located:
    """Gradient-boosted trees on levels and time differences."""
    assert task.train_pairs is not None
    assert task.test_pairs is not None
    train, test = _levels(task)
    orders = [_order(samples) for samples in (task.train, task.test)]
    pairs = [
        tdoa_of_pairs(samples, of, order)
        for samples, of, order in zip((task.train, task.test), (task.train_pairs, task.test_pairs), orders, strict=True)
    ]
    width = max(one.shape[1] for one in pairs)
    wide = [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=np.nan) for one in pairs]
    return _trees(task, np.hstack([train, wide[0]]), np.hstack([test, wide[1]]))


def robust_tdoa(task: _Task) -> Located:
    """Robust least squares from time differences, as `heimdall session locate` does; of some samples."""
    assert task.test_pairs is not None
    located = np.full((len(task.test), 2), np.nan)
    chosen = np.arange(len(task.test))
    if len(chosen) > task.max_tdoa:
        chosen = np.sort(np.random.default_rng(task.seed).choice(chosen, task.max_tdoa, replace=False))
    for at in chosen:
        place = _located_by_tdoa(task.test, task.test_pairs, int(at))
        if place is not None:
            located[at] = task.test.frame.to_metres(*place)
    return located


def _located_by_tdoa(samples: SampleArrays, pairs: PairArrays, at: int) -> tuple[float, float] | None:
    receivers = [
        Receiver(
            str(samples.rx_ids[at, index]),
            float(samples.rx_lats_deg[at, index]),
            float(samples.rx_lons_deg[at, index]),
            float(samples.rx_alts_m[at, index]),
        )
        for index in range(samples.mask.shape[1])
        if samples.mask[at, index]
    ]
    numbers = {receiver.rx_id: number for number, receiver in enumerate(receivers)}
    differences = [
        TimeDifference(numbers[a], numbers[b], tdoa_us, std_us, peak, None)
        for a, b, tdoa_us, std_us, peak in pairs.of_sample(int(samples.sample_idx[at]))
        if a in numbers and b in numbers
    ]
    spreads_us = samples.feature(DELAY_SPREAD)[at]
    known_us = {
        str(rx_id): float(spread_us)
        for rx_id, spread_us in zip(samples.rx_ids[at], spreads_us, strict=True)
        if np.isfinite(spread_us)
    }
    try:
        fix = locate(
            receivers, differences, systematic_us=TDOA_SYSTEMATIC_US, echo_us=ECHO_US, delay_spreads_us=known_us
        )
    except PositionError:
        return None
    return fix.latitude, fix.longitude


BASELINES: Mapping[str, Callable[[_Task], Located]] = {
    "weighted centroid": weighted_centroid,
    "strongest receiver": strongest_receiver,
    NEAREST_NEIGHBOURS: nearest_neighbours,
    TREES: level_trees,
    ROBUST_TDOA: robust_tdoa,
    TREES_TDOA: tdoa_and_level_trees,
}
_NEED_PAIRS = frozenset({ROBUST_TDOA, TREES_TDOA})
_TRAINED = frozenset({*LEARNED, TREES_TDOA})


def _levels(task: _Task) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inputs of a model: by receiver in a fixed network, else with position and by descending level."""
    if _is_fixed(task.train) and _is_fixed(task.test):
        return _fixed_levels(task.train), _fixed_levels(task.test)
    width = max(task.train.mask.shape[1], task.test.mask.shape[1])
    return _sorted_levels(task.train, width), _sorted_levels(task.test, width)


def _is_fixed(samples: SampleArrays) -> bool:
    """Whether the receivers are the same in every sample."""
    if not len(samples):
        return False
    same_names = (samples.rx_ids == samples.rx_ids[0]).all()
    return bool(same_names and np.array_equal(samples.rx_lats_deg.max(axis=0), samples.rx_lats_deg.min(axis=0)))


def _fixed_levels(samples: SampleArrays) -> NDArray[np.float64]:
    level_dbm = samples.feature(LEVEL).astype(np.float64)
    levels: NDArray[np.float64] = np.where(samples.detected & np.isfinite(level_dbm), level_dbm, _ABSENT_DBM)
    return levels


def _order(samples: SampleArrays) -> NDArray[np.int64]:
    """Receivers of each sample by descending level."""
    if _is_fixed(samples):
        return np.broadcast_to(np.arange(samples.mask.shape[1]), samples.mask.shape)
    return np.argsort(-_fixed_levels(samples), axis=1, kind="stable")


def _sorted_levels(samples: SampleArrays, width: int) -> NDArray[np.float64]:
    order = _order(samples)
    level_dbm = np.take_along_axis(_fixed_levels(samples), order, axis=1)
    used = np.take_along_axis(samples.detected, order, axis=1)
    # Positions in km, so that a neighbour's distance weighs them like decibels.
    places_km = np.take_along_axis(samples.rx_m, order[..., None], axis=1) / 1e3
    values = np.concatenate([level_dbm[..., None], np.where(used[..., None], places_km, 0.0)], axis=-1)
    missing = width - values.shape[1]
    values = np.pad(values, ((0, 0), (0, missing), (0, 0)))
    values[:, values.shape[1] - missing :, 0] = _ABSENT_DBM
    return values.reshape(len(samples), -1)


def _trees(task: _Task, train: NDArray[np.float64], test: NDArray[np.float64]) -> Located:
    """East and north by models of their own, at the same time."""
    kind = _learner_module("sklearn.ensemble").HistGradientBoostingRegressor
    limits = _learner_module("threadpoolctl")

    def predicted(axis: int) -> NDArray[np.float64]:
        # One thread each: OpenMP's threads wait for each other, on a busy machine longer than they compute, and sums
        # in one thread are the same on every machine.
        with limits.threadpool_limits(1, user_api="openmp"):
            model = kind(max_iter=ITERATIONS, learning_rate=0.1, early_stopping=False, random_state=task.seed)
            outputs: NDArray[np.float64] = model.fit(train, task.train.targets_m[:, axis]).predict(test)
            return outputs

    with ThreadPoolExecutor(2, thread_name_prefix="trees") as executor:
        return np.stack(list(executor.map(predicted, (0, 1))), axis=-1)


def _learner_module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingLearnerError(
            "the baselines that learn need scikit-learn: pip install 'heimdall-pipelines[learning]'"
        ) from error
