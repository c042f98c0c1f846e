"""Data sets for PyTorch: features, pairs and IQ of an export.

They are map-style data sets of numpy arrays, which ``torch.utils.data.DataLoader`` takes; `collate` makes tensors.
A loader asks for the samples of a batch at once (``__getitems__``), so that no sample is copied by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.learning.arrays import SampleArrays
from heimdall_pipelines.learning.folder import ExportFolder, UnknownPartError
from heimdall_pipelines.learning.time_differences import PairArrays

if TYPE_CHECKING:
    import torch

Batch = dict[str, NDArray[Any]]


class _Columns:
    """Arrays whose first axis are the samples."""

    _columns: Batch

    def __len__(self) -> int:
        return len(self._columns["sample_idx"])

    def __getitem__(self, index: int) -> Batch:
        return {name: values[index] for name, values in self._columns.items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples of a batch."""
        at = np.asarray(indices)
        return {name: values[at] for name, values in self._columns.items()}


class FeatureDataset(_Columns):
    """Features of the receivers of each sample.

    Parameters
    ----------
    arrays : SampleArrays

    Notes
    -----
    A batch of n samples with at most r receivers has:

    - ``features``: float32, (n, r, num_features), in the units of their names; 0 where one is not observed
    - ``observed``: bool, (n, r, num_features)
    - ``mask``, ``detected``: bool, (n, r)
    - ``rx_m``: float32, (n, r, 2), east and north in the frame, m; 0 where a receiver is absent
    - ``target_m``: float32, (n, 2), east and north, m
    - ``sample_idx``: int64, (n,)

    Examples
    --------
    ``DataLoader(FeatureDataset(arrays), batch_size=512, shuffle=True, collate_fn=collate)``
    """

    def __init__(self, arrays: SampleArrays) -> None:
        observed = np.isfinite(arrays.features) & arrays.mask[..., None]
        self.frame = arrays.frame
        self.feature_names = arrays.feature_names
        self._columns: Batch = {
            "features": np.where(observed, arrays.features, np.float32(0)),
            "observed": observed,
            "mask": arrays.mask,
            "detected": arrays.detected,
            "rx_m": np.nan_to_num(arrays.rx_m).astype(np.float32),
            "target_m": arrays.targets_m.astype(np.float32),
            "sample_idx": arrays.sample_idx,
        }


class PairDataset(_Columns):
    """Time differences of the pairs of receivers of each sample.

    Parameters
    ----------
    arrays : SampleArrays
    pairs : PairArrays

    Notes
    -----
    A batch of n samples with at most p pairs has ``tdoa_us`` and ``std_us``, float32, (n, p); ``a_m`` and ``b_m``,
    float32, (n, p, 2), positions of the receivers, m; ``mask``, bool, (n, p); ``target_m`` and ``sample_idx``.
    """

    def __init__(self, arrays: SampleArrays, pairs: PairArrays) -> None:
        self.frame = arrays.frame
        at = np.searchsorted(arrays.sample_idx, pairs.sample_idx)
        known = (at < len(arrays)) & (arrays.sample_idx[np.minimum(at, len(arrays) - 1)] == pairs.sample_idx)
        places = [_places(arrays, at[known], names[known]) for names in (pairs.rx_a, pairs.rx_b)]
        # Pairs with a receiver that the split leaves out do not count.
        usable = np.isfinite(places[0]).all(axis=1) & np.isfinite(places[1]).all(axis=1)
        sample = at[known][usable]
        counts = np.bincount(sample, minlength=len(arrays))
        column = np.arange(len(sample)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(arrays), int(counts.max(initial=0)))
        self._columns: Batch = {
            "mask": np.zeros(shape, bool),
            "tdoa_us": np.zeros(shape, np.float32),
            "std_us": np.zeros(shape, np.float32),
            "a_m": np.zeros((*shape, 2), np.float32),
            "b_m": np.zeros((*shape, 2), np.float32),
            "target_m": arrays.targets_m.astype(np.float32),
            "sample_idx": arrays.sample_idx,
        }
        values = {
            "mask": np.ones(len(sample), bool),
            "tdoa_us": pairs.tdoa_us[known][usable],
            "std_us": pairs.std_us[known][usable],
            "a_m": places[0][usable],
            "b_m": places[1][usable],
        }
        for name, value in values.items():
            self._columns[name][sample, column] = value


class IqDataset:
    """IQ of the receivers of each sample, mapped into memory from the shards.

    Parameters
    ----------
    export : ExportFolder
    arrays : SampleArrays
        Of the samples that are wanted; those whose IQ was not exported are left out.

    Raises
    ------
    UnknownPartError
        No sample has IQ.

    Notes
    -----
    A batch of n samples with at most r receivers has ``iq``, complex64, (n, r, num_samples), square roots of watts for
    synthetic samples, 0 where a receiver is absent; ``mask``, ``rx_m``, ``target_m`` and ``sample_idx`` as of
    `FeatureDataset`. Each worker process of a loader maps the shards for itself.
    """

    def __init__(self, export: ExportFolder, arrays: SampleArrays) -> None:
        table = export.table("iq", ["sample_idx", "rx_id", "num_samples", "shard", "offset_bytes"])
        rows = [row for row in table.to_pylist() if row["shard"] is not None]
        has_iq = np.isin(arrays.sample_idx, [row["sample_idx"] for row in rows])
        if not has_iq.any():
            raise UnknownPartError(f"{export.path}: none of these samples has IQ; export it with --iq")
        self._arrays = arrays.take(has_iq)
        self._folder = export.path
        self._shards = sorted({row["shard"] for row in rows})
        number = {name: at for at, name in enumerate(self._shards)}
        self.num_iq_samples = max(row["num_samples"] for row in rows)
        self._places = np.full((*self._arrays.mask.shape, 3), -1, np.int64)  # shard, offset, number of samples
        position = {int(index): at for at, index in enumerate(self._arrays.sample_idx)}
        columns = [{str(rx_id): at for at, rx_id in enumerate(ids)} for ids in self._arrays.rx_ids]
        for row in rows:
            at = position.get(row["sample_idx"])
            if at is not None:
                place = number[row["shard"]], row["offset_bytes"], row["num_samples"]
                self._places[at, columns[at][row["rx_id"]]] = place
        self.frame = arrays.frame
        self._mapped: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._arrays)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_mapped": {}}

    def __getitem__(self, index: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples of a batch."""
        at = np.asarray(indices)
        mask = self._arrays.mask[at] & (self._places[at, :, 0] >= 0)
        iq = np.empty((*mask.shape, self.num_iq_samples), np.complex64)  # written once, without zeros before
        iq[~mask] = 0
        for row, column in np.argwhere(mask):
            shard, offset, num = self._places[at[row], column]
            iq[row, column, :num] = self._shard(int(shard))[offset : offset + 8 * num].view("<c8")
            iq[row, column, num:] = 0
        return {
            "iq": iq,
            "mask": mask,
            "rx_m": np.nan_to_num(self._arrays.rx_m[at]).astype(np.float32),
            "target_m": self._arrays.targets_m[at].astype(np.float32),
            "sample_idx": self._arrays.sample_idx[at],
        }

    def _shard(self, number: int) -> NDArray[np.uint8]:
        if number not in self._mapped:
            self._mapped[number] = np.memmap(self._folder / self._shards[number], np.uint8, "r")
        return self._mapped[number]


def stack(items: Batch | Sequence[Mapping[str, NDArray[Any]]]) -> Batch:
    """Numpy arrays of a batch, from the samples one by one or at once."""
    if isinstance(items, dict):
        return items
    return {name: np.stack([item[name] for item in items]) for name in items[0]}


def collate(items: Batch | Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, torch.Tensor]:
    """Tensors of a batch, for ``collate_fn`` of a loader; they share the memory of the arrays."""
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in stack(items).items()}


def _places(arrays: SampleArrays, sample: NDArray[np.int64], rx_ids: NDArray[np.str_]) -> NDArray[np.float64]:
    """Position of a receiver of each pair, m; NaN where the sample does not have it."""
    is_it = (arrays.rx_ids[sample] == rx_ids[:, None]) & arrays.mask[sample]
    places = arrays.rx_m[sample, is_it.argmax(axis=1)]
    return np.where(is_it.any(axis=1)[:, None], places, np.nan)
