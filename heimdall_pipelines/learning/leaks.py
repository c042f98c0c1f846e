"""Finds what a split lets through from training to test: close positions, receivers on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from heimdall_pipelines.learning.splits import SplitDefinition, earth_centred_m

NEAR_M = 1000.0  # of the share of test samples with a training sample beside them
_FEW = 5


@dataclass(frozen=True)
class Leaks:
    """What a split lets through.

    Attributes
    ----------
    kind : str
    sizes : dict of str to int
        Samples of each part.
    nearest_m : float or None
        Least distance between a train and a test sample; None without both.
    share_near : float or None
        Share of test samples with a train sample within 1 km.
    too_close : tuple of (int, int)
        Some pairs of a train and a test sample that are closer than the margin.
    num_too_close : int
        Test samples that are in such a pair.
    receivers_on_both_sides : tuple of str
        Of the split receivers.
    """

    kind: str
    sizes: dict[str, int]
    nearest_m: float | None
    share_near: float | None
    too_close: tuple[tuple[int, int], ...] = ()
    num_too_close: int = 0
    receivers_on_both_sides: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing leaks that the split's definition rules out."""
        return not self.num_too_close and not self.receivers_on_both_sides

    def to_json(self) -> dict[str, Any]:
        """As the card holds it."""
        return {
            "sizes": self.sizes,
            "nearest_m": None if self.nearest_m is None else round(self.nearest_m, 1),
            "share_near": None if self.share_near is None else round(self.share_near, 4),
            "num_too_close": self.num_too_close,
            "receivers_on_both_sides": list(self.receivers_on_both_sides),
        }


def find_leaks(
    definition: SplitDefinition,
    labels: NDArray[np.str_],
    sample_idx: ArrayLike,
    lats_deg: ArrayLike,
    lons_deg: ArrayLike,
) -> Leaks:
    """Measure the distances between training and test samples of a split.

    Parameters
    ----------
    definition : SplitDefinition
        Its margin counts for splits by region and terrain.
    labels : ndarray of str, shape (num_samples,)
        Part of each sample.
    sample_idx : array_like of int, shape (num_samples,)
    lats_deg, lons_deg : array_like of float, shape (num_samples,)
        Positions of the transmitters.

    Returns
    -------
    Leaks
    """
    indices, places = np.asarray(sample_idx), earth_centred_m(lats_deg, lons_deg)
    sizes = sizes_of(labels)
    train, test = np.flatnonzero(labels == "train"), np.flatnonzero(labels == "test")
    if not len(train) or not len(test):
        return Leaks(definition.kind, sizes, None, None)
    found_m, found_at = cKDTree(places[train]).query(places[test])
    distance_m, nearest = np.asarray(found_m), np.asarray(found_at)
    margin_m = definition.margin_m if definition.kind in ("region", "terrain") else 0.0
    close = np.flatnonzero(distance_m < margin_m)
    pairs = tuple((int(indices[train[nearest[at]]]), int(indices[test[at]])) for at in close[:_FEW])
    return Leaks(
        definition.kind, sizes, float(distance_m.min()), float(np.mean(distance_m < NEAR_M)), pairs, len(close)
    )


def sizes_of(labels: NDArray[np.str_]) -> dict[str, int]:
    """Number of samples of each part that has any."""
    return {str(name): int(num) for name, num in zip(*np.unique(labels, return_counts=True), strict=True)}


def receivers_on_both_sides(
    definition: SplitDefinition,
    rx_ids: ArrayLike,
    lats_deg: ArrayLike,
    lons_deg: ArrayLike,
    parts: NDArray[np.str_],
) -> tuple[str, ...]:
    """Receivers that are used in training and closer than the margin to one that is used in test.

    Parameters
    ----------
    definition : SplitDefinition
        Of the split receivers.
    rx_ids : array_like of str, shape (num_links,)
    lats_deg, lons_deg : array_like of float, shape (num_links,)
        Positions of the receivers.
    parts : ndarray of str, shape (num_links,)
        Part of the sample where the link is used in it, else none.

    Returns
    -------
    tuple of str
        Some, with their positions.
    """
    names, lats, lons = np.asarray(rx_ids), np.asarray(lats_deg, float), np.asarray(lons_deg, float)
    train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
    if not len(train) or not len(test):
        return ()
    places = earth_centred_m(lats, lons)
    distance_m, _ = cKDTree(places[train]).query(places[test])
    # Blocks are cut on a sphere: the margin between them is right to the Earth's flattening.
    close = test[distance_m < max(0.98 * definition.margin_m, 1.0)]
    return tuple(f"{names[at]} at {lats[at]:.5f}, {lons[at]:.5f}" for at in close[:_FEW])
