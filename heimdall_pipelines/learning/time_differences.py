"""Time differences of samples: pairs of receivers, as the export has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.learning.arrays import SampleArrays
from heimdall_pipelines.learning.folder import ExportFolder


@dataclass(frozen=True, eq=False)
class PairArrays:
    """Pairs of receivers with a known time difference, sorted by sample.

    Attributes
    ----------
    sample_idx : ndarray of int64, shape (num_pairs,)
    rx_a, rx_b : ndarray of str, shape (num_pairs,)
    tdoa_us : ndarray of float64, shape (num_pairs,)
        Time of arrival at b less that at a.
    std_us, peak : ndarray of float64, shape (num_pairs,)
    """

    sample_idx: NDArray[np.int64]
    rx_a: NDArray[np.str_]
    rx_b: NDArray[np.str_]
    tdoa_us: NDArray[np.float64]
    std_us: NDArray[np.float64]
    peak: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.tdoa_us)

    def of_sample(self, sample_idx: int) -> Iterator[tuple[str, str, float, float, float]]:
        """Receivers, difference, standard deviation and peak of a sample's pairs."""
        first, end = np.searchsorted(self.sample_idx, [sample_idx, sample_idx + 1])
        for at in range(first, end):
            yield (
                str(self.rx_a[at]),
                str(self.rx_b[at]),
                float(self.tdoa_us[at]),
                float(self.std_us[at]),
                float(self.peak[at]),
            )


def load_pairs(export: ExportFolder, samples: SampleArrays | None = None) -> PairArrays:
    """Read the known time differences of an export, or of some of its samples.

    Parameters
    ----------
    export : ExportFolder
    samples : SampleArrays, optional
        Only pairs of these samples.

    Raises
    ------
    NotAnExportError
        The table cannot be read.
    """
    table = export.table("time_differences", ["sample_idx", "rx_a", "rx_b", "tdoa_us", "std_us", "peak"])
    indices = table["sample_idx"].to_numpy().astype(np.int64)
    tdoa_us = table["tdoa_us"].to_numpy().astype(np.float64)
    kept = np.isfinite(tdoa_us)
    if samples is not None:
        kept &= np.isin(indices, samples.sample_idx)
    at = np.flatnonzero(kept)
    texts = {name: np.asarray(table[name].to_pylist(), dtype=np.str_)[at] for name in ("rx_a", "rx_b")}
    numbers = {name: table[name].to_numpy().astype(np.float64)[at] for name in ("std_us", "peak")}
    return PairArrays(indices[at], texts["rx_a"], texts["rx_b"], tdoa_us[at], numbers["std_us"], numbers["peak"])


def tdoa_of_pairs(samples: SampleArrays, pairs: PairArrays, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Time differences as columns: those of every two receivers in a given order.

    Parameters
    ----------
    samples : SampleArrays
    pairs : PairArrays
        Of these samples.
    order : ndarray of int, shape (num_samples, max_receivers)
        Position of each receiver in the arrays.

    Returns
    -------
    ndarray of float64, shape (num_samples, max_receivers * (max_receivers - 1) / 2)
        Microseconds; NaN where a difference is not known.
    """
    num_receivers = samples.mask.shape[1]
    first, second = np.triu_indices(num_receivers, 1)
    column = np.full((num_receivers, num_receivers), -1)
    column[first, second] = np.arange(len(first))
    values = np.full((len(samples), len(first)), np.nan)
    for at in range(len(samples)):
        rank = {str(samples.rx_ids[at, one]): place for place, one in enumerate(order[at]) if samples.mask[at, one]}
        for rx_a, rx_b, tdoa_us, _, _ in pairs.of_sample(int(samples.sample_idx[at])):
            if rx_a in rank and rx_b in rank and rx_a != rx_b:
                a, b = rank[rx_a], rank[rx_b]
                values[at, column[min(a, b), max(a, b)]] = tdoa_us if a < b else -tdoa_us
    return values
