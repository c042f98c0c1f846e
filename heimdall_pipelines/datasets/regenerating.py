"""Regenerates the IQ of any sample and compares it with what is stored. Nothing stored is changed."""

import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from heimdall_pipelines.datasets.generating import ATTEMPTS_PER_SAMPLE
from heimdall_pipelines.datasets.iq_files import IqFile, iq_file
from heimdall_pipelines.datasets.samples import DrawnSample, Recipe, draw_sample, sample_receptions
from heimdall_pipelines.datasets.stored_truth import from_stored_truth
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.npy import read_npy_header
from heimdall_pipelines.formats.recording import RecordingFormatError
from heimdall_pipelines.store.dataset_snapshot import StoredIq, open_snapshot
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.iq_form import NEW_FORM, IqForm
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore, ObjectUnreadableError
from heimdall_pipelines.store.stores import Stores

MAX_RELATIVE_DIFFERENCE = (
    1e-5  # of the RMS; a frequency that differs in the last digit, 1e-6 Hz, turns the carrier by 6e-6 rad in a second
)


class RegenerationError(HeimdallError):
    """There is no such sample or receiver, or the files cannot be written."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of regenerated samples with the stored ones.

    Attributes
    ----------
    location : ObjectLocation
        Of the stored object.
    identical : bool
        Whether every byte of the object is the same.
    relative_difference : float
        Greatest magnitude of a difference over the root mean square of the samples; infinite where the stored object
        cannot be compared.
    problem : str or None
        What is wrong with the stored object, or how it differs.
    """

    location: ObjectLocation
    identical: bool
    relative_difference: float
    problem: str | None = None

    @property
    def acceptable(self) -> bool:
        """Whether the stored object is intact and differs by no more than the last digit of a link explains."""
        return self.problem is None and self.relative_difference <= MAX_RELATIVE_DIFFERENCE


@dataclass(frozen=True)
class RegeneratedIq:
    """One receiver's IQ of a sample, regenerated.

    Attributes
    ----------
    rx_id : str
    file : IqFile
        As it is or would be stored.
    stored : Comparison or None
        None where the IQ of the sample is not stored.
    """

    rx_id: str
    file: IqFile
    stored: Comparison | None


def regenerate_iq(stores: Stores, name: str, sample_idx: int, rx_ids: Sequence[str] = ()) -> Iterator[RegeneratedIq]:
    """Regenerate the IQ of a sample, from its stored truth if that is intact, and compare it with stored IQ, if any.

    Parameters
    ----------
    stores : Stores
        Read only.
    name : str
        The dataset's.
    sample_idx : int
        0 to the dataset's target less 1, committed or not.
    rx_ids : sequence of str, optional
        Receivers to regenerate; all of the sample if empty.

    Yields
    ------
    RegeneratedIq
        One at a time, so that only one receiver's samples are in memory.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset.
    GeneratorVersionError
        It was made by another version of the generator, which gives other samples.
    RegenerationError
        The dataset has no such sample, or the sample no such receiver.
    UnavailableError
        PostgreSQL or the S3 store was lost.
    """
    with open_snapshot(stores.database, name) as snapshot:
        dataset = snapshot.dataset
        recipe = Recipe.of(dataset, stores.objects)
        _check_sample_idx(dataset, sample_idx)
        features, row = snapshot.sample(sample_idx), snapshot.iq_of(sample_idx)
    drawn = from_stored_truth(_draw(dataset, recipe, sample_idx), features.truth if features is not None else None)
    indices = _receiver_indices(dataset, drawn, rx_ids)
    return _regenerate(stores.objects, recipe, drawn, indices, row)


def write_iq(folder: Path, regenerated: RegeneratedIq) -> list[Path]:
    """Write a receiver's samples and their SigMF description, ``{rx_id}.sigmf-data`` and ``{rx_id}.sigmf-meta``.

    A sample whose stored object is a ``.npy`` is written as such: these are the bytes that are or would be stored.

    Files of the same names are replaced. Files are never partly written, and a description always matches its samples.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    regenerated : RegeneratedIq

    Returns
    -------
    list of Path
        The two files.

    Raises
    ------
    RegenerationError
        The folder cannot be made or written to.
    """
    data = folder / f"{regenerated.rx_id}{regenerated.file.form.suffix}"
    meta = folder / f"{regenerated.rx_id}.sigmf-meta"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        meta.unlink(missing_ok=True)
        _write_whole(data, regenerated.file.data)
        _write_whole(meta, json.dumps(regenerated.file.sigmf, indent=2).encode())
    except OSError as error:
        raise RegenerationError(f"{folder}: IQ of {regenerated.rx_id} could not be written: {error}") from error
    return [data, meta]


def _check_sample_idx(dataset: Dataset, sample_idx: int) -> None:
    if not 0 <= sample_idx < dataset.target_num_samples:
        raise RegenerationError(
            f"dataset {dataset.name} has samples 0 to {dataset.target_num_samples - 1}, no sample {sample_idx}; "
            f"it can be expanded: heimdall dataset expand {dataset.name} --by N"
        )


def _draw(dataset: Dataset, recipe: Recipe, sample_idx: int) -> DrawnSample:
    max_attempts = ATTEMPTS_PER_SAMPLE * recipe.spec.batch_size  # a batch may use all of them for one sample
    drawn = draw_sample(recipe, sample_idx, max_attempts)
    if drawn.scene is None:
        raise RegenerationError(
            f"dataset {dataset.name}: none of {max_attempts} scenes drawn for sample {sample_idx} is acceptable, "
            f"so no batch can make it (rejected: {drawn.rejections})"
        )
    return drawn


def _receiver_indices(dataset: Dataset, drawn: DrawnSample, rx_ids: Sequence[str]) -> list[int]:
    present = [site.rx_id for site in drawn.sites]
    unknown = [rx_id for rx_id in rx_ids if rx_id not in present]
    if unknown:
        raise RegenerationError(
            f"sample {drawn.sample_idx} of dataset {dataset.name} has no receiver {', '.join(unknown)}; "
            f"it has {', '.join(present)}"
        )
    return [index for index, rx_id in enumerate(present) if not rx_ids or rx_id in rx_ids]


def _regenerate(
    objects: ObjectStore, recipe: Recipe, drawn: DrawnSample, indices: list[int], row: StoredIq | None
) -> Iterator[RegeneratedIq]:
    form = NEW_FORM if row is None else row.form
    receptions = sample_receptions(recipe, drawn, receiver_indices=indices)
    for index, reception in zip(indices, receptions, strict=True):
        site = drawn.sites[index]
        file = iq_file(recipe, drawn.sample_idx, site, reception.iq, form)
        stored = None if row is None else compare_stored(objects, row, site.rx_id, file)
        yield RegeneratedIq(site.rx_id, file, stored)


def compare_stored(objects: ObjectStore, row: StoredIq, rx_id: str, file: IqFile) -> Comparison:
    """Compare a receiver's IQ, regenerated, with the object that a row names; raises UnavailableError in an outage."""
    key = row.paths.get(rx_id)
    if key is None:
        where = ObjectLocation(objects.synthetic_iq_bucket, f"(no key for {rx_id})")
        return Comparison(where, False, math.inf, f"the row of sample {row.sample_idx} names no object of {rx_id}")
    location = ObjectLocation(objects.synthetic_iq_bucket, key)
    try:
        size = objects.size_bytes(location)
        if size != len(file.data):
            problem = f"{location}: {size} bytes are stored, {len(file.data)} are expected"
            return Comparison(location, False, math.inf, problem)
        stored = objects.read(location, 0, size)
    except ObjectUnreadableError as error:
        return Comparison(location, False, math.inf, str(error))
    return _compare_bytes(location, stored, file, row.sha256.get(rx_id))


def _compare_bytes(location: ObjectLocation, stored: bytes, made: IqFile, promised_sha256: str | None) -> Comparison:
    """Compare a stored object with a regenerated one of the same form.

    The checksum stored with the row distinguishes damage from a difference in rounding: damage of the last bits alone
    would be within the tolerance.
    """
    try:
        difference = _relative_difference(
            _samples(stored, made.form, location), _samples(made.data, made.form, location)
        )
    except RecordingFormatError as error:
        return Comparison(location, False, math.inf, f"{location} {error.reason}")
    problem = None
    if hashlib.sha256(stored).hexdigest() != promised_sha256:
        problem = f"{location}: the checksum differs from the stored one: the object was changed since it was stored"
    elif not difference <= MAX_RELATIVE_DIFFERENCE:
        problem = (
            f"{location}: samples regenerated differ from the stored ones by up to {difference:.2g} of their RMS, more "
            f"than the {MAX_RELATIVE_DIFFERENCE:g} that a link in its last digit explains"
        )
    return Comparison(location, stored == made.data, difference, problem)


def _samples(content: bytes, form: IqForm, location: ObjectLocation) -> np.ndarray:
    if form is not IqForm.NPY:
        return np.frombuffer(content, "<c8")
    header = read_npy_header(io.BytesIO(content), str(location))
    samples = content[header.header_bytes :]
    if header.dtype != np.dtype("<c8") or len(samples) != header.num_samples * header.dtype.itemsize:
        raise RecordingFormatError(str(location), f"holds {header.dtype}, or its length does not match its header")
    return np.frombuffer(samples, header.dtype)


def _relative_difference(stored: np.ndarray, made: np.ndarray) -> float:
    if stored.size != made.size:
        return math.inf
    rms = math.sqrt(np.mean(np.square(made.real, dtype=np.float64) + np.square(made.imag, dtype=np.float64)))
    with np.errstate(invalid="ignore", over="ignore"):  # damaged bytes can be any number
        difference = float(np.max(np.abs(stored.astype(np.complex128) - made))) / rms
    return difference if math.isfinite(difference) else math.inf


def _write_whole(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
