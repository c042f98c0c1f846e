"""Which IQ an export has, and where it comes from: stored objects, or regenerated from the seed."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from heimdall_pipelines.datasets.iq_files import iq_file, iq_sidecar
from heimdall_pipelines.datasets.samples import Recipe, sample_receptions
from heimdall_pipelines.datasets.stored_truth import stored_sample
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.releases.ahead import all_ahead
from heimdall_pipelines.releases.folder_writing import ExportError
from heimdall_pipelines.releases.iq_writing import IqItem
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot
from heimdall_pipelines.store.iq_form import SAMPLE_BYTES, IqForm
from heimdall_pipelines.store.iq_objects import read_sidecar, sidecar_bytes
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore
from heimdall_pipelines.store.releases import StoredIqSums, stored_iq_sums

READS_AT_ONCE = 4  # objects, each with its sidecar


class IqChoiceError(HeimdallError):
    """The value of --iq is none that exists."""


@dataclass(frozen=True)
class IqChoice:
    """Which samples' IQ is exported.

    Attributes
    ----------
    text : str
        none, stored, all or a number.
    """

    text: str

    def __post_init__(self) -> None:
        if self.text not in ("none", "stored", "all") and not re.fullmatch("[0-9]{1,7}", self.text):
            raise IqChoiceError(f"--iq {self.text}: none, stored, all or a number of samples is expected")

    def first_missing(self, num_samples: int) -> int:
        """Samples below this index are exported also where their IQ is not stored."""
        if self.text in ("none", "stored"):
            return 0
        return num_samples if self.text == "all" else min(int(self.text), num_samples)

    def takes_stored(self, sample_idx: int) -> bool:
        """Whether the stored IQ of a sample is exported."""
        return self.text in ("stored", "all") or (self.text != "none" and sample_idx < int(self.text))


def iq_items(snapshot: DatasetSnapshot, objects: ObjectStore, choice: IqChoice, num_samples: int) -> Iterator[IqItem]:
    """IQ of the first samples in their order: stored or regenerated, or only its checksum where it is not wanted.

    Raises
    ------
    ExportError
        A stored object does not have the checksum of its row.
    GeneratorVersionError, TerrainMissingError
        IQ that is not stored cannot be regenerated.
    """
    yield from all_ahead(_calls(snapshot, objects, choice, num_samples), READS_AT_ONCE)


def _calls(
    snapshot: DatasetSnapshot, objects: ObjectStore, choice: IqChoice, num_samples: int
) -> Iterator[Callable[[], IqItem]]:
    """A function for each item: objects are read at once, what is not stored is regenerated one after the other."""
    end = choice.first_missing(num_samples)
    dataset = snapshot.dataset
    # Of no other version, and on no ground: neither is needed for a sidecar.
    recipe = Recipe(dataset.id, dataset.seed, dataset.spec, dataset.receivers)
    next_idx = 0
    for one in stored_iq_sums(snapshot.connection, dataset.id, 0, num_samples):
        yield from _missing(snapshot, objects, range(next_idx, min(one.sample_idx, end)))
        next_idx = one.sample_idx + 1
        for rx_id in sorted(one.sha256):
            if choice.takes_stored(one.sample_idx):
                yield partial(_stored_item, objects, recipe, one, rx_id)
            else:
                yield partial(IqItem, one.sample_idx, rx_id, one.num_samples, one.sha256[rx_id], in_release=True)
    yield from _missing(snapshot, objects, range(next_idx, end))


def _missing(snapshot: DatasetSnapshot, objects: ObjectStore, indices: range) -> Iterator[Callable[[], IqItem]]:
    for index in indices:
        for item in regenerated_items(snapshot, Recipe.of(snapshot.dataset, objects), index):
            yield partial(replace, item)  # is there already


def regenerated_items(snapshot: DatasetSnapshot, recipe: Recipe, sample_idx: int) -> Iterator[IqItem]:
    """IQ of a sample from its seed."""
    row = snapshot.sample(sample_idx)
    if row is None:
        raise ExportError(f"sample {sample_idx} of dataset {snapshot.dataset.name} does not exist")
    drawn = stored_sample(recipe, row)
    if drawn.scene is None:
        raise ExportError(f"sample {sample_idx} of dataset {snapshot.dataset.name} cannot be regenerated from its seed")
    for site, reception in zip(drawn.sites, sample_receptions(recipe, drawn), strict=True):
        file = iq_file(recipe, sample_idx, site, reception.iq)
        yield IqItem(
            sample_idx,
            site.rx_id,
            reception.iq.size,
            file.sha256,
            in_release=False,
            values=file.data,
            sigmf=file.sigmf,
        )


def _stored_item(objects: ObjectStore, recipe: Recipe, stored: StoredIqSums, rx_id: str) -> IqItem:
    location = ObjectLocation(objects.synthetic_iq_bucket, stored.keys[rx_id])
    header_bytes = len(IqForm.of_key(location.key).header(stored.num_samples))
    # One byte more than it must have, so that a longer object has another checksum.
    data = objects.read(location, 0, header_bytes + stored.num_samples * SAMPLE_BYTES + 1)
    sha256 = stored.sha256[rx_id]
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ExportError(
            f"{location} was changed since it was stored: its checksum differs; see: "
            "heimdall dataset validate NAME --checksums"
        )
    return IqItem(
        stored.sample_idx,
        rx_id,
        stored.num_samples,
        sha256,
        in_release=True,
        values=data[header_bytes:],
        sigmf=_sidecar(objects, recipe, stored, rx_id, location),
    )


def _sidecar(
    objects: ObjectStore, recipe: Recipe, stored: StoredIqSums, rx_id: str, location: ObjectLocation
) -> dict[str, Any]:
    """Description of a stored object: written again where that gives the committed bytes, else read."""
    site = next((site for site in recipe.sites if site.rx_id == rx_id), None)
    if site is not None:
        form = IqForm.of_key(location.key)
        sidecar = iq_sidecar(recipe, stored.sample_idx, site, stored.num_samples, form)
        if hashlib.sha256(sidecar_bytes(sidecar)).hexdigest() == stored.sidecar_sha256.get(rx_id):
            return sidecar
    return read_sidecar(objects, location)
