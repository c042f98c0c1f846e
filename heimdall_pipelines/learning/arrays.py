"""Samples of an export as numpy arrays, padded to the most receivers, with a mask for those that are absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.learning.columns import SPLIT_PREFIX
from heimdall_pipelines.learning.folder import ExportFolder
from heimdall_pipelines.learning.frames import LocalFrame

DEFAULT_FEATURES = ("rssi_dbm", "snr_db", "frequency_offset_hz")
MODEL_RECEIVERS = 10
MODEL_FEATURES = ("snr_db", "psd_dbm_per_hz", "frequency_offset_hz", "rx_lat", "rx_lon", "signal_present")


@dataclass(frozen=True, eq=False)
class SampleArrays:
    """Features and positions of samples.

    Attributes
    ----------
    sample_idx : ndarray of int64, shape (num_samples,)
    feature_names : tuple of str
    features : ndarray of float32, shape (num_samples, max_receivers, num_features)
        In the units of their names; NaN where the receiver is absent, or the feature was not observed.
    mask : ndarray of bool, shape (num_samples, max_receivers)
        Whether the sample has the receiver, and the split lets it be used.
    detected : ndarray of bool, shape (num_samples, max_receivers)
        Whether it detected the signal; False where `mask` is.
    rx_lats_deg, rx_lons_deg, rx_alts_m : ndarray of float64, shape (num_samples, max_receivers)
        NaN where the receiver is absent.
    rx_m : ndarray of float64, shape (num_samples, max_receivers, 2)
        East and north in the frame, m.
    rx_ids : ndarray of str, shape (num_samples, max_receivers)
    tx_lats_deg, tx_lons_deg : ndarray of float64, shape (num_samples,)
        Truth.
    targets_m : ndarray of float64, shape (num_samples, 2)
        Truth: east and north in the frame, m.
    frame : LocalFrame
    """

    sample_idx: NDArray[np.int64]
    feature_names: tuple[str, ...]
    features: NDArray[np.float32]
    mask: NDArray[np.bool_]
    detected: NDArray[np.bool_]
    rx_lats_deg: NDArray[np.float64]
    rx_lons_deg: NDArray[np.float64]
    rx_alts_m: NDArray[np.float64]
    rx_m: NDArray[np.float64]
    rx_ids: NDArray[np.str_]
    tx_lats_deg: NDArray[np.float64]
    tx_lons_deg: NDArray[np.float64]
    targets_m: NDArray[np.float64]
    frame: LocalFrame

    def __len__(self) -> int:
        return len(self.sample_idx)

    def take(self, at: NDArray[np.integer] | NDArray[np.bool_]) -> SampleArrays:
        """Some of the samples, by their positions or a mask."""
        same = {"feature_names", "frame"}
        return replace(self, **{name: value[at] for name, value in vars(self).items() if name not in same})

    def feature(self, name: str) -> NDArray[np.float32]:
        """A feature of all receivers, shape (num_samples, max_receivers)."""
        return self.features[..., self.feature_names.index(name)]


def load_arrays(
    export: ExportFolder,
    features: Sequence[str] = DEFAULT_FEATURES,
    *,
    split: str | None = None,
    part: str | None = None,
) -> SampleArrays:
    """Read features and positions of an export, or of a part of a split.

    Parameters
    ----------
    export : ExportFolder
    features : sequence of str, optional
        Columns of the table links.
    split, part : str, optional
        Such as ``"region"`` and ``"train"``; of the split receivers only those of the part are in the mask. With a
        split but no part, all samples of its parts.

    Returns
    -------
    SampleArrays
        Samples in the order of their index. The frame is the same for every part of an export.

    Raises
    ------
    UnknownPartError, NotAnExportError
    """
    of_receivers = split == "receivers" and part is not None
    place = ["sample_idx", "receiver_idx", "rx_id", "rx_latitude", "rx_longitude", "rx_altitude_m", "signal_present"]
    more = [SPLIT_PREFIX + "receivers"] if of_receivers else []
    names = list(dict.fromkeys([*place, *features, *more]))
    links = export.table("links", names)
    samples = export.table("samples", ["sample_idx", "tx_latitude", "tx_longitude"])
    num_samples = len(samples)
    row = np.searchsorted(samples["sample_idx"].to_numpy(), links["sample_idx"].to_numpy())
    column = links["receiver_idx"].to_numpy().astype(np.int64)
    shape = (num_samples, int(column.max(initial=-1)) + 1)

    def padded(name: str, fill: float | str | bool, dtype: type | str) -> NDArray[Any]:
        values = np.full(shape, fill, dtype)
        values[row, column] = links[name].to_numpy()
        return values

    values = np.full((*shape, len(features)), np.nan, np.float32)
    for number, name in enumerate(features):
        values[row, column, number] = links[name].to_numpy()
    mask = np.zeros(shape, bool)
    mask[row, column] = np.asarray(links[more[0]].to_pylist()) == part if of_receivers else True
    rx_lats, rx_lons = padded("rx_latitude", np.nan, np.float64), padded("rx_longitude", np.nan, np.float64)
    frame = LocalFrame.around(rx_lats[np.isfinite(rx_lats)], rx_lons[np.isfinite(rx_lons)])
    tx_lats = samples["tx_latitude"].to_numpy().astype(np.float64)
    tx_lons = samples["tx_longitude"].to_numpy().astype(np.float64)
    longest = max((len(text) for text in links["rx_id"].unique().to_pylist()), default=1)
    arrays = SampleArrays(
        sample_idx=samples["sample_idx"].to_numpy().astype(np.int64),
        feature_names=tuple(features),
        features=values,
        mask=mask,
        detected=padded("signal_present", False, bool) & mask,
        rx_lats_deg=rx_lats,
        rx_lons_deg=rx_lons,
        rx_alts_m=padded("rx_altitude_m", np.nan, np.float64),
        rx_m=frame.to_metres(rx_lats, rx_lons),
        rx_ids=padded("rx_id", "", f"<U{longest}"),
        tx_lats_deg=tx_lats,
        tx_lons_deg=tx_lons,
        targets_m=frame.to_metres(tx_lats, tx_lons),
        frame=frame,
    )
    if split is None:
        return arrays
    labels = export.labels(split)
    return arrays.take(labels == part if part is not None else labels != "none")


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """The form that Heimdall's models read.

    Attributes
    ----------
    inputs : ndarray of float32, shape (num_samples, 10, 6)
        `MODEL_FEATURES`: dB, dBm/Hz, Hz, degrees, degrees, 0 or 1; 0 where a receiver is absent or a feature unknown.
    targets_deg : ndarray of float64, shape (num_samples, 2)
        Latitude and longitude of the transmitter less those of the centroid.
    centroids_deg : ndarray of float64, shape (num_samples, 2)
        Mean latitude and longitude of the receivers that detected; of all where none did.
    """

    inputs: NDArray[np.float32]
    targets_deg: NDArray[np.float64]
    centroids_deg: NDArray[np.float64]

    def positions_deg(self, outputs_deg: NDArray[np.floating]) -> NDArray[np.float64]:
        """Latitudes and longitudes, shape (num_samples, 2), of a model's outputs."""
        return self.centroids_deg + outputs_deg


def model_inputs(arrays: SampleArrays) -> ModelInputs:
    """Arrange samples as Heimdall's models read them: ten receivers at most, the strongest that detected first.

    Parameters
    ----------
    arrays : SampleArrays
        With the features snr_db, psd_dbm_per_hz and frequency_offset_hz.

    Raises
    ------
    ValueError
        A feature is missing.
    """
    snr_db = arrays.feature("snr_db")
    strength = np.where(arrays.detected & np.isfinite(snr_db), snr_db, np.where(arrays.mask, -1e6, -1e9))
    order = np.argsort(-strength, axis=1, kind="stable")[:, :MODEL_RECEIVERS]
    columns: list[NDArray[Any]] = [
        snr_db,
        arrays.feature("psd_dbm_per_hz"),
        arrays.feature("frequency_offset_hz"),
        arrays.rx_lats_deg,
        arrays.rx_lons_deg,
        arrays.detected,
    ]
    inputs = np.zeros((len(arrays), MODEL_RECEIVERS, len(MODEL_FEATURES)), np.float32)
    present = np.take_along_axis(arrays.mask, order, axis=1)
    for number, values in enumerate(columns):
        chosen = np.nan_to_num(np.take_along_axis(values.astype(np.float64), order, axis=1))
        inputs[:, : order.shape[1], number] = np.where(present, chosen, 0.0)
    counted = np.where(arrays.detected.any(axis=1, keepdims=True), arrays.detected, arrays.mask)
    num = np.maximum(counted.sum(axis=1), 1)
    centroids = np.stack(
        [np.where(counted, values, 0.0).sum(axis=1) / num for values in (arrays.rx_lats_deg, arrays.rx_lons_deg)],
        axis=-1,
    )
    targets = np.stack([arrays.tx_lats_deg, arrays.tx_lons_deg], axis=-1) - centroids
    return ModelInputs(inputs, targets, centroids)
