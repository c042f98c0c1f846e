"""Splits of a dataset's samples: which kinds it can have, their labels, and what leaks."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.learning.description import SplitDescription
from heimdall_pipelines.learning.leaks import find_leaks, receivers_on_both_sides, sizes_of
from heimdall_pipelines.learning.splits import (
    DAY,
    NONE,
    NONE_CODE,
    PARTS,
    RANDOM,
    RECEIVERS,
    REGION,
    TERRAIN,
    SplitDefinition,
    key_split,
    labels_of,
    random_split,
    receiver_sides,
    receivers_split,
    region_split,
)
from heimdall_pipelines.releases.valleys import valley_keys
from heimdall_pipelines.rf.terrain import Terrain

_NS_PER_DAY = 86_400_000_000_000


@dataclass
class Places:
    """Positions that splits are made from, gathered while samples are read.

    Attributes
    ----------
    sample_idx, tx_lats_deg, tx_lons_deg : list of ndarray
    counts : list of ndarray
        Receivers of each sample.
    rx_lats_deg, rx_lons_deg, detected : list of ndarray
        Of each receiver of each sample; only needed for the split receivers.
    days : list of ndarray
        UTC days since 1970; only needed for the split day.
    """

    sample_idx: list[NDArray[np.int64]] = field(default_factory=list)
    tx_lats_deg: list[NDArray[np.float64]] = field(default_factory=list)
    tx_lons_deg: list[NDArray[np.float64]] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    rx_lats_deg: list[NDArray[np.float64]] = field(default_factory=list)
    rx_lons_deg: list[NDArray[np.float64]] = field(default_factory=list)
    detected: list[NDArray[np.bool_]] = field(default_factory=list)
    days: list[NDArray[np.int64]] = field(default_factory=list)

    def transmitters(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitudes and longitudes, degrees."""
        return np.concatenate(self.tx_lats_deg), np.concatenate(self.tx_lons_deg)


def definitions_of(*, has_random_receivers: bool, has_terrain: bool, seed: int) -> tuple[SplitDefinition, ...]:
    """Splits that a dataset has."""
    kinds = [RANDOM, REGION]
    if has_random_receivers:
        kinds.append(RECEIVERS)
    if has_terrain:
        kinds.append(TERRAIN)
    return tuple(replace(one, seed=seed) for one in kinds)


def definitions_of_sessions(seed: int) -> tuple[SplitDefinition, ...]:
    """Splits that sessions have."""
    return (replace(DAY, seed=seed),)


def days_of(start_time_unix_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """UTC days since 1970."""
    return start_time_unix_us * 1000 // _NS_PER_DAY


def split_codes(
    definitions: Sequence[SplitDefinition], places: Places, terrain: Terrain | None
) -> dict[str, NDArray[np.int8]]:
    """Codes of each split's parts, one for each sample.

    Parameters
    ----------
    definitions : sequence of SplitDefinition
    places : Places
    terrain : Terrain or None
        Needed for the split terrain.
    """
    sample_idx = np.concatenate(places.sample_idx)
    lats, lons = places.transmitters()
    codes = {}
    for one in definitions:
        if one.kind == "random":
            codes[one.kind] = random_split(one, sample_idx)
        elif one.kind == "region":
            codes[one.kind] = region_split(one, lats, lons)
        elif one.kind == "receivers":
            codes[one.kind] = receivers_split(one, sample_idx, _num_usable(one, places))
        elif one.kind == "terrain":
            assert terrain is not None
            codes[one.kind] = key_split(one, valley_keys(terrain, lats, lons), lats, lons)
        else:
            codes[one.kind] = key_split(one, np.concatenate(places.days))
    return codes


def describe_splits(
    definitions: Sequence[SplitDefinition], places: Places, codes: Mapping[str, NDArray[np.int8]]
) -> dict[str, SplitDescription]:
    """Definition, checksum of the labels and leaks of each split, by its kind.

    Parameters
    ----------
    definitions : sequence of SplitDefinition
    places : Places
    codes : mapping of str to ndarray of int8, shape (num_samples,)
        As `split_codes` gives them.
    """
    sample_idx = np.concatenate(places.sample_idx)
    lats, lons = places.transmitters()
    has_positions = bool(np.isfinite(lats).all())
    described = {}
    for one in definitions:
        labels = labels_of(codes[one.kind])
        if has_positions:
            leaks = find_leaks(one, labels, sample_idx, lats, lons)
            if one.kind == "receivers":
                leaks = replace(leaks, receivers_on_both_sides=_shared_receivers(one, places, codes[one.kind]))
            found = leaks.to_json()
        else:
            found = {"sizes": sizes_of(labels)}
        described[one.kind] = SplitDescription(one, hashlib.sha256(codes[one.kind].tobytes()).hexdigest(), found)
    return described


def link_labels(
    definition: SplitDefinition,
    sample_idx: NDArray[np.int64],
    rx_lats_deg: NDArray[np.float64],
    rx_lons_deg: NDArray[np.float64],
) -> NDArray[np.str_]:
    """Part of each link in the split receivers: that of its sample if the receiver is on that side, else none.

    Parameters
    ----------
    definition : SplitDefinition
    sample_idx : ndarray of int64, shape (num_links,)
    rx_lats_deg, rx_lons_deg : ndarray of float64, shape (num_links,)
        Positions of the receivers.

    Returns
    -------
    ndarray of str, shape (num_links,)
    """
    sides = receiver_sides(definition, rx_lats_deg, rx_lons_deg)
    return labels_of(np.where(sides == random_split(definition, sample_idx), sides, NONE_CODE))


def _num_usable(definition: SplitDefinition, places: Places) -> NDArray[np.int64]:
    counts = np.concatenate(places.counts)
    of_sample = np.repeat(np.arange(len(counts)), counts)
    sides = receiver_sides(definition, np.concatenate(places.rx_lats_deg), np.concatenate(places.rx_lons_deg))
    counted = np.concatenate(places.detected) & (sides < NONE_CODE)
    num = np.zeros((len(counts), len(PARTS)), np.int64)
    np.add.at(num, (of_sample[counted], sides[counted]), 1)
    return num


def _shared_receivers(definition: SplitDefinition, places: Places, codes: NDArray[np.int8]) -> tuple[str, ...]:
    counts = np.concatenate(places.counts)
    indices = np.repeat(np.concatenate(places.sample_idx), counts)
    lats, lons = np.concatenate(places.rx_lats_deg), np.concatenate(places.rx_lons_deg)
    parts = np.where(np.repeat(codes, counts) < NONE_CODE, link_labels(definition, indices, lats, lons), NONE)
    names = np.full(len(parts), "a receiver")
    return receivers_on_both_sides(definition, names, lats, lons, parts)
