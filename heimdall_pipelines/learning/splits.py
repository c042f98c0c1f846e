"""Splits of samples into train, validation and test: the same for the same samples, shares and seed, everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from heimdall_pipelines.errors import HeimdallError

PARTS = ("train", "validation", "test")
NONE = "none"  # within a margin, or without enough receivers
KINDS = ("random", "region", "receivers", "terrain", "day")
MIN_RECEIVERS = 3
_EARTH_RADIUS_M = 6_371_008.8  # mean; of blocks, whose size need not be exact
_M_PER_DEG = _EARTH_RADIUS_M * np.pi / 180
_WGS84_A_M, _WGS84_E2 = 6_378_137.0, 6.694_379_990_14e-3
_LABELS = np.array([*PARTS, NONE])
NONE_CODE = len(PARTS)


class SplitError(HeimdallError):
    """A split cannot be made from these samples, or its definition is invalid."""


@dataclass(frozen=True)
class SplitDefinition:
    """What determines a split.

    Attributes
    ----------
    kind : str
        random: each sample by itself. region: blocks of the map. receivers: receivers of a block of the map are only
        used on one side, samples are split at random. terrain: whole valleys. day: whole UTC days.
    shares : tuple of float
        Of train, validation and test, or of their blocks; sum 1.
    seed : int
    block_m : float
        Side of a block; 0 for kinds without blocks.
    margin_m : float
        Train and validation samples closer to a test sample, and train samples closer to a validation sample, belong
        to no part. Of the split receivers: receivers of different sides are this far apart.
    """

    kind: str
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    block_m: float = 0.0
    margin_m: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SplitError(f"split {self.kind}: {', '.join(KINDS)} are possible")
        if len(self.shares) != len(PARTS) or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise SplitError(f"split {self.kind}: shares {self.shares} must be three numbers from 0 with the sum 1")
        if not (0 <= self.margin_m < 1e6 and 0 <= self.block_m < 1e7):
            raise SplitError(f"split {self.kind}: block_m and margin_m must be from 0 to 1e7 and 1e6")
        if self.kind in ("region", "receivers") and self.block_m <= 0:
            raise SplitError(f"split {self.kind}: block_m must be above 0")

    def to_json(self) -> dict[str, Any]:
        """As the release holds it."""
        return asdict(self) | {"shares": list(self.shares)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(**{**value, "shares": tuple(value["shares"])})


RANDOM = SplitDefinition("random")
REGION = SplitDefinition("region", block_m=20_000.0, margin_m=2_000.0)
RECEIVERS = SplitDefinition("receivers", shares=(0.5, 0.0, 0.5), block_m=20_000.0, margin_m=1_000.0)
TERRAIN = SplitDefinition("terrain", margin_m=500.0)
DAY = SplitDefinition("day")


def labels_of(codes: NDArray[np.int8]) -> NDArray[np.str_]:
    """Names of parts from their codes: 0 train, 1 validation, 2 test, 3 none."""
    return _LABELS[codes]


def random_split(definition: SplitDefinition, sample_idx: ArrayLike) -> NDArray[np.int8]:
    """Split each sample by itself, so that more samples do not change the parts of the others.

    Parameters
    ----------
    definition : SplitDefinition
    sample_idx : array_like of int, shape (num_samples,)

    Returns
    -------
    ndarray of int8, shape (num_samples,)
        Codes of `labels_of`.
    """
    return _parts_of_keys(definition, np.asarray(sample_idx, np.int64))


def region_split(definition: SplitDefinition, lats_deg: ArrayLike, lons_deg: ArrayLike) -> NDArray[np.int8]:
    """Split by blocks of the map, and leave a margin between the parts.

    Parameters
    ----------
    definition : SplitDefinition
    lats_deg, lons_deg : array_like of float, shape (num_samples,)
        Positions of the transmitters.

    Returns
    -------
    ndarray of int8, shape (num_samples,)
        Codes of `labels_of`.
    """
    return with_margin(
        _parts_of_keys(definition, block_keys(lats_deg, lons_deg, definition.block_m)),
        lats_deg,
        lons_deg,
        definition.margin_m,
    )


def key_split(
    definition: SplitDefinition, keys: ArrayLike, lats_deg: ArrayLike | None = None, lons_deg: ArrayLike | None = None
) -> NDArray[np.int8]:
    """Split whole groups, such as valleys or days, and leave a margin between the parts where positions are given.

    Parameters
    ----------
    definition : SplitDefinition
    keys : array_like of int, shape (num_samples,)
        Equal for the samples of a group.
    lats_deg, lons_deg : array_like of float, shape (num_samples,), optional
        Positions of the transmitters.

    Returns
    -------
    ndarray of int8, shape (num_samples,)
        Codes of `labels_of`.
    """
    codes = _parts_of_keys(definition, np.asarray(keys, np.int64))
    if lats_deg is None or lons_deg is None:
        return codes
    return with_margin(codes, lats_deg, lons_deg, definition.margin_m)


def receiver_sides(definition: SplitDefinition, lats_deg: ArrayLike, lons_deg: ArrayLike) -> NDArray[np.int8]:
    """The only part in which a receiver is used, by the block of the map that it stands in.

    Receivers closer than half the margin to the edge of their block are used in none, so that those of two blocks are
    at least the margin apart.

    Parameters
    ----------
    definition : SplitDefinition
    lats_deg, lons_deg : array_like of float, shape (num_receivers,)
        Positions of the receivers.

    Returns
    -------
    ndarray of int8, shape (num_receivers,)
        Codes of `labels_of`.
    """
    lats, lons = np.asarray(lats_deg, float), np.asarray(lons_deg, float)
    codes = _parts_of_keys(definition, block_keys(lats, lons, definition.block_m))
    across, up, width = _block_offsets_m(lats, lons, definition.block_m)
    edge = definition.margin_m / 2
    near = (across < edge) | (across > width - edge) | (up < edge) | (up > definition.block_m - edge)
    return np.where(near, NONE_CODE, codes).astype(np.int8)


def receivers_split(
    definition: SplitDefinition, sample_idx: ArrayLike, num_usable: NDArray[np.integer[Any]]
) -> NDArray[np.int8]:
    """Split samples at random; those with too few receivers of their side belong to no part.

    Parameters
    ----------
    definition : SplitDefinition
    sample_idx : array_like of int, shape (num_samples,)
    num_usable : ndarray of int, shape (num_samples, 3)
        Receivers that detect, of each part's side.

    Returns
    -------
    ndarray of int8, shape (num_samples,)
        Codes of `labels_of`.
    """
    codes = _parts_of_keys(definition, np.asarray(sample_idx, np.int64))
    enough = np.take_along_axis(num_usable, codes[:, None].astype(np.int64), axis=1)[:, 0] >= MIN_RECEIVERS
    return np.where(enough, codes, NONE_CODE).astype(np.int8)


def with_margin(codes: NDArray[np.int8], lats_deg: ArrayLike, lons_deg: ArrayLike, margin_m: float) -> NDArray[np.int8]:
    """Take out samples that are closer than a margin to a part that is held out from them.

    Parameters
    ----------
    codes : ndarray of int8, shape (num_samples,)
        Codes of `labels_of`; they stay unchanged.
    lats_deg, lons_deg : array_like of float, shape (num_samples,)
        Positions of the transmitters.
    margin_m : float

    Returns
    -------
    ndarray of int8, shape (num_samples,)
    """
    if margin_m <= 0:
        return codes
    places = earth_centred_m(lats_deg, lons_deg)
    result = codes.copy()
    for held_out in (2, 1):
        of_held_out = places[result == held_out]
        others = np.flatnonzero(result < held_out)
        if len(of_held_out) and len(others):
            # The chord is never longer than the way over the ground.
            distance_m, _ = cKDTree(of_held_out).query(places[others], distance_upper_bound=margin_m)
            result[others[distance_m < margin_m]] = NONE_CODE
    return result


def earth_centred_m(lats_deg: ArrayLike, lons_deg: ArrayLike) -> NDArray[np.float64]:
    """Earth-centred positions on the WGS84 ellipsoid, m, shape (n, 3), of arrays of n latitudes and longitudes."""
    lat, lon = np.radians(np.asarray(lats_deg, float)), np.radians(np.asarray(lons_deg, float))
    curvature = _WGS84_A_M / np.sqrt(1 - _WGS84_E2 * np.sin(lat) ** 2)
    return np.stack(
        [
            curvature * np.cos(lat) * np.cos(lon),
            curvature * np.cos(lat) * np.sin(lon),
            curvature * (1 - _WGS84_E2) * np.sin(lat),
        ],
        axis=-1,
    )


def block_keys(lats_deg: ArrayLike, lons_deg: ArrayLike, block_m: float) -> NDArray[np.int64]:
    """Number of the block of the map that each position lies in: rows of a latitude, columns of about equal width."""
    lats, lons = np.asarray(lats_deg, float), np.asarray(lons_deg, float)
    row = np.floor((lats + 90) * _M_PER_DEG / block_m).astype(np.int64)
    column = np.floor((lons + 180) * _column_scale(row, block_m) / block_m).astype(np.int64)
    return row * 10_000_000 + column


def _block_offsets_m(
    lats: NDArray[np.float64], lons: NDArray[np.float64], block_m: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Offset from the west and south edge of the block, and the block's true width there."""
    row = np.floor((lats + 90) * _M_PER_DEG / block_m)
    up = (lats + 90) * _M_PER_DEG - row * block_m
    narrower = np.cos(np.radians(lats)) * _M_PER_DEG / _column_scale(row.astype(np.int64), block_m)
    across = (lons + 180) * _column_scale(row.astype(np.int64), block_m) % block_m
    return across * narrower, up, block_m * narrower


def _column_scale(row: NDArray[np.int64], block_m: float) -> NDArray[np.float64]:
    middle_deg = (row + 0.5) * block_m / _M_PER_DEG - 90
    scale: NDArray[np.float64] = np.maximum(np.cos(np.radians(middle_deg)), 0.01) * _M_PER_DEG
    return scale


def _parts_of_keys(definition: SplitDefinition, keys: NDArray[np.int64]) -> NDArray[np.int8]:
    """Part of each key by a uniform number from key and seed, which no other key influences."""
    uniform = _uniform(keys, definition.seed, KINDS.index(definition.kind))
    train, validation, _ = definition.shares
    return ((uniform >= train).astype(np.int8) + (uniform >= train + validation)).astype(np.int8)


def _uniform(keys: NDArray[np.int64], seed: int, stream: int) -> NDArray[np.float64]:
    """Numbers from 0 to 1 by splitmix64 (Steele, Lea and Flood, OOPSLA 2014) of key, seed and stream."""
    with np.errstate(over="ignore"):
        mixed = _mix(np.full(1, seed % 2**64, np.uint64) + np.uint64(stream))
        values = _mix(keys.astype(np.uint64) ^ mixed)
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
