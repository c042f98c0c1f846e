"""Regenerates samples for a repair and compares them with what was committed. A row or object that is good stays.

A row is written only if it has the digest that was committed for it: the one that the damaged row still carries or,
where the row is missing, one that gives the root of its batch. An object is written only if it has the committed
SHA-256. Objects keep the form of their row; where the row is missing or edited, its digest or the root of its batch
decides in which of the forms it was committed.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import md5, sha256
from itertools import product

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.generating import ATTEMPTS_PER_SAMPLE
from heimdall_pipelines.datasets.iq_files import IqFile, iq_file, iq_metadata
from heimdall_pipelines.datasets.regeneration_checks import differences
from heimdall_pipelines.datasets.samples import (
    DrawnSample,
    Recipe,
    draw_sample,
    keeps_iq,
    make_sample,
    start_time_unix_ns,
)
from heimdall_pipelines.datasets.stored_truth import from_stored_truth
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.store.dataset_snapshot import SampleRow, StoredIq
from heimdall_pipelines.store.digests import differing_columns, root_of
from heimdall_pipelines.store.iq_form import NEW_FORM, IqForm
from heimdall_pipelines.store.iq_objects import (
    IQ_CONTENT_TYPE,
    sample_iq_key,
    sample_iq_location,
    sidecar_bytes,
    sidecar_location,
)
from heimdall_pipelines.store.objects import ObjectDamagedError, ObjectLocation, ObjectNotFoundError, ObjectStore
from heimdall_pipelines.store.sample_rows import (
    IqSampleRow,
    SampleFeatureRow,
    feature_row_json,
    iq_digest,
    iq_row_json,
    sample_digest,
)

# What another processor may give in its last digit; everything else of a sample is the same on all.
_LAST_DIGITS = frozenset(
    {
        *("receiver_features", "time_differences", "overall_confidence", "mean_snr_db", "gdop", "truth"),
        *("tx_latitude", "tx_longitude", "tx_altitude_m", "tx_power_dbm"),
    }
)


@dataclass(frozen=True)
class AffectedSample:
    """A sample that has to be repaired, with its rows as they are.

    ``form`` is that in which its batch stores IQ; ``has_bound`` says whether its truths have the bound of the position.
    """

    sample_idx: int
    row: SampleRow | None
    iq: StoredIq | None
    form: IqForm = NEW_FORM
    has_bound: bool = True

    @property
    def committed_iq(self) -> StoredIq | None:
        """Its IQ row, if it is as committed."""
        return self.iq if self.iq is not None and self.iq.edit is None else None


@dataclass(frozen=True)
class Candidate:
    """A regenerated row, in a form in which it can have been committed; ``form`` is that of its objects, if any."""

    json: str
    digest: bytes
    form: IqForm | None = None


@dataclass(frozen=True)
class RowChoice:
    """What a repair may do with one row of a sample.

    Attributes
    ----------
    candidates : tuple of Candidate
        Of which one may be written; empty: the row stays as it is, or the sample has none.
    is_certain : bool
        The first candidate has the digest that the row carries.
    unlike : tuple of str
        Columns in which the first candidate differs from the row's digest; empty where it has none.
    """

    candidates: tuple[Candidate, ...] = ()
    is_certain: bool = True
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegeneratedSample:
    """A sample after its regeneration.

    Attributes
    ----------
    sample_idx : int
    features, iq : RowChoice
    num_waiting : int
        Objects to be written once its IQ row is found to be the committed one.
    problems : tuple of str
        What was not written, and why.
    """

    sample_idx: int
    features: RowChoice = RowChoice()
    iq: RowChoice = RowChoice()
    num_waiting: int = 0
    problems: tuple[str, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether nothing has to be decided by the root of the batch."""
        return self.features.is_certain and self.iq.is_certain


@dataclass(frozen=True)
class RestoringTask:
    """Some samples for a worker; `approved`: form of those whose IQ rows were found to be the committed ones."""

    recipe: Recipe
    samples: tuple[AffectedSample, ...]
    objects: ObjectStore
    approved: Mapping[int, IqForm] = field(default_factory=dict)


@dataclass(frozen=True)
class Witness:
    """A sample whose rows are as committed, regenerated to learn about this processor.

    Attributes
    ----------
    is_same : bool
        It has the committed digest: this processor gives the same digits as the one that made the dataset.
    is_close : bool
        Its features agree up to the last digits.
    """

    is_same: bool
    is_close: bool


Digests = dict[int, tuple[bytes | None, bytes | None]]  # of feature row and IQ row, by sample_idx


def regenerate_affected(task: RestoringTask) -> list[RegeneratedSample]:
    """Regenerate samples, write the objects that were committed, and return their rows; runs in the workers."""
    return [_regenerate(task, sample) for sample in task.samples]


def witness(recipe: Recipe, row: SampleRow) -> Witness:
    """Regenerate a sample whose feature row is as committed; runs in the workers."""
    drawn = _drawn(recipe, AffectedSample(row.sample_idx, row, None))
    if drawn.scene is None or row.digest is None:
        return Witness(is_same=False, is_close=False)
    made = make_sample(recipe, drawn)
    if row.truth is not None and row.truth.position_bound is None:
        made = made.without_bound()
    digest = sample_digest(recipe.dataset_id, made)
    unlike = set(differing_columns("measurement_features", digest, row.digest))
    return Witness(digest == row.digest, is_close=unlike <= _LAST_DIGITS and next(differences(row, made), None) is None)


def chosen_by_root(
    samples: Sequence[RegeneratedSample], digests: Digests, root: bytes
) -> dict[int, tuple[int, int]] | None:
    """Find the candidates with which the rows of a batch have its committed root.

    Parameters
    ----------
    samples : sequence of RegeneratedSample
        The affected ones of the batch.
    digests : dict
        Of all rows of the batch as they are now.
    root : bytes

    Returns
    -------
    dict or None
        For each sample the numbers of its feature row and IQ row among the candidates. All uncertain samples take the
        same numbers: their rows were committed in the same form.
    """
    affected = {sample.sample_idx for sample in samples}
    # An IQ row without a feature row is an orphan, unless its feature row is restored.
    rows = {idx: digest for idx, digest in digests.items() if digest[0] is not None or idx in affected}
    most_features = max((len(sample.features.candidates) for sample in samples), default=1)
    most_iq = max((len(sample.iq.candidates) for sample in samples), default=1)
    for numbers in product(range(max(1, most_features)), range(max(1, most_iq))):
        together = dict(rows)
        for sample in samples:
            features, iq = together.get(sample.sample_idx, (None, None))
            together[sample.sample_idx] = (
                _digest(sample.features, numbers[0], features),
                _digest(sample.iq, numbers[1], iq),
            )
        if root_of(_in_order(together)) == root:
            return {sample.sample_idx: numbers for sample in samples}
    return None


def candidate(choice: RowChoice, number: int) -> Candidate | None:
    """The candidate of a number; the first where it is certain or has no such candidate, None where there is none."""
    if not choice.candidates:
        return None
    return choice.candidates[0 if choice.is_certain or number >= len(choice.candidates) else number]


def is_last_digit(sample: RegeneratedSample) -> bool:
    """Whether a sample differs from what was committed only where another processor may differ."""
    return sample.iq.is_certain and not sample.problems and set(sample.features.unlike) <= _LAST_DIGITS


def _digest(choice: RowChoice, number: int, now: bytes | None) -> bytes | None:
    chosen = candidate(choice, number)
    return now if chosen is None else chosen.digest


def _in_order(digests: Digests) -> Iterator[bytes | None]:
    for _, (features, iq) in sorted(digests.items()):
        yield features
        if iq is not None:
            yield iq


def _regenerate(task: RestoringTask, sample: AffectedSample) -> RegeneratedSample:
    recipe, idx = task.recipe, sample.sample_idx
    drawn = _drawn(recipe, sample)
    if drawn.scene is None:
        return RegeneratedSample(idx, problems=(f"sample {idx}: the seed gives no acceptable scene",))
    files: dict[IqForm, dict[str, IqFile]] = {form: {} for form in _possible_forms(task, sample)}

    def keep(site: ReceiverSite, iq: NDArray[np.complex64]) -> None:
        for form, of_form in files.items():
            of_form[site.rx_id] = iq_file(recipe, idx, site, iq, form)

    made = make_sample(recipe, drawn, keep if keeps_iq(recipe.spec, idx) else None)
    problems = []
    features = _features(recipe, sample, made)
    if not features.candidates and sample.row is not None:
        problems += [
            f"sample {idx}: {what}; its feature row is as committed, and stays"
            for what in differences(sample.row, made)
        ]
    iq = _iq(recipe, sample, made, drawn, files)
    num_waiting = 0
    for form in _forms_to_write(iq, files):
        for rx_id, file in files[form].items():
            location = sample_iq_location(task.objects, recipe.dataset_id, idx, rx_id, form)
            is_certain = iq.is_certain or idx in task.approved
            waiting, problem = _put(task, sample, location, rx_id, file, is_certain=is_certain)
            num_waiting += waiting
            problems += [f"sample {idx}: {problem}"] if problem else []
    return RegeneratedSample(idx, features, iq, num_waiting, tuple(problems))


def _possible_forms(task: RestoringTask, sample: AffectedSample) -> tuple[IqForm, ...]:
    """Forms in which the objects of a sample can have been committed, the likeliest first."""
    if sample.sample_idx in task.approved:
        return (task.approved[sample.sample_idx],)
    if sample.committed_iq is not None:
        return (sample.committed_iq.form,)
    return sample.form.then_others()


def _forms_to_write(iq: RowChoice, files: Mapping[IqForm, object]) -> tuple[IqForm, ...]:
    """The form that was committed, where it is known; else all, of which nothing is written yet."""
    certain = iq.candidates[0].form if iq.candidates and iq.is_certain else None
    return tuple(files) if certain is None else (certain,)


def _drawn(recipe: Recipe, sample: AffectedSample) -> DrawnSample:
    """The sample's scene, in the digits of a truth that is as committed, if there is one."""
    drawn = draw_sample(recipe, sample.sample_idx, ATTEMPTS_PER_SAMPLE * recipe.spec.batch_size)
    for stored in (sample.row, sample.iq):
        if stored is not None and (stored.edit is None or "truth" not in stored.edit.columns):
            return from_stored_truth(drawn, stored.truth)
    return drawn


def _features(recipe: Recipe, sample: AffectedSample, made: SampleFeatureRow) -> RowChoice:
    row = sample.row
    if row is not None and row.edit is None:
        return RowChoice()
    forms = [
        form.of_version(version) for form in _forms_of_truth(sample, made) for version in range(FEATURE_VERSION, 0, -1)
    ]
    candidates = [
        Candidate(feature_row_json(recipe.dataset_id, form), sample_digest(recipe.dataset_id, form)) for form in forms
    ]
    return _choice("measurement_features", candidates, None if row is None else row.digest)


def _forms_of_truth(sample: AffectedSample, made: SampleFeatureRow) -> tuple[SampleFeatureRow, SampleFeatureRow]:
    """A regenerated row with the bound of its position, and as versions made it that did not compute it.

    The likelier first; the order is that of all samples of the batch, so that one number means one form.
    """
    return (made, made.without_bound()) if sample.has_bound else (made.without_bound(), made)


def _iq(
    recipe: Recipe,
    sample: AffectedSample,
    made: SampleFeatureRow,
    drawn: DrawnSample,
    files: Mapping[IqForm, Mapping[str, IqFile]],
) -> RowChoice:
    if sample.committed_iq is not None:
        return RowChoice()
    candidates = [
        candidate
        for form, of_form in files.items()
        if of_form
        for row in _forms_of_truth(sample, made)
        for candidate in _iq_candidates(recipe, sample, row, drawn, form, of_form)
    ]
    if not candidates:
        return RowChoice()
    return _choice("synthetic_iq_samples", candidates, None if sample.iq is None else sample.iq.digest)


def _iq_candidates(
    recipe: Recipe,
    sample: AffectedSample,
    made: SampleFeatureRow,
    drawn: DrawnSample,
    form_of_objects: IqForm,
    files: Mapping[str, IqFile],
) -> Iterator[Candidate]:
    """IQ rows that this and older versions write for objects of one form."""
    stored = sample.iq
    sums = {rx_id: file.sha256 for rx_id, file in files.items()}
    etags = {rx_id: md5(file.data, usedforsecurity=False).hexdigest() for rx_id, file in files.items()}
    sidecars = {rx_id: sha256(sidecar_bytes(file.sigmf)).hexdigest() for rx_id, file in files.items()}
    whole = iq_metadata(recipe, sums, etags, sidecars, form_of_objects)
    without_etag = replace(whole, etag={})
    of_older_versions = [replace(whole, sidecar_sha256={}), without_etag, replace(without_etag, sidecar_sha256={})]
    forms = [whole, *of_older_versions]
    if stored is not None and stored.etag and stored.etag != etags:
        forms.insert(1, replace(whole, etag=stored.etag))  # of another store
    for form in forms:
        row = IqSampleRow(
            sample_idx=sample.sample_idx,
            start_time_unix_ns=start_time_unix_ns(sample.sample_idx),
            truth=made.truth,
            receivers_metadata=drawn.sites,
            iq_metadata=form,
            iq_storage_paths={
                rx_id: sample_iq_key(recipe.dataset_id, sample.sample_idx, rx_id, form_of_objects) for rx_id in files
            },
        )
        yield Candidate(iq_row_json(recipe.dataset_id, row), iq_digest(recipe.dataset_id, row), form_of_objects)


def _choice(table: str, candidates: Sequence[Candidate], committed: bytes | None) -> RowChoice:
    if committed is None:
        return RowChoice(tuple(candidates), is_certain=False)
    for one in candidates:
        if one.digest == committed:
            return RowChoice((one,))
    return RowChoice(
        tuple(candidates), is_certain=False, unlike=differing_columns(table, candidates[0].digest, committed)
    )


def _put(
    task: RestoringTask,
    sample: AffectedSample,
    location: ObjectLocation,
    rx_id: str,
    file: IqFile,
    *,
    is_certain: bool,
) -> tuple[int, str | None]:
    """Write a receiver's object and sidecar where they are not as committed; returns those that wait, and a problem."""
    stored = sample.committed_iq
    waiting = 0
    problem = None
    sidecar = sidecar_bytes(file.sigmf)
    for where, content, promised, kind in (
        (location, file.data, stored.sha256.get(rx_id) if stored else None, IQ_CONTENT_TYPE),
        (sidecar_location(location), sidecar, stored.sidecar_sha256.get(rx_id) if stored else None, "application/json"),
    ):
        made = sha256(content).hexdigest()
        now = _stored_sha256(task.objects, where)
        if now == made or (promised is not None and now == promised):
            if now != made:
                problem = f"{where} is as committed, but not what the seed gives; it stays"
        elif promised is not None and promised != made:
            problem = f"{where} was not written: what the seed gives is not what was committed"
        elif promised is None and stored is not None and now is not None:
            pass  # a sidecar of an older version, which vouches for none
        elif not is_certain:
            waiting += 1
        else:
            task.objects.put(where, io.BytesIO(content), len(content), kind)
    return waiting, problem


def _stored_sha256(objects: ObjectStore, location: ObjectLocation) -> str | None:
    """Checksum of an object; None where it does not exist, is empty, or can no longer be read."""
    try:
        content = objects.read_whole(location)
    except (ObjectNotFoundError, ObjectDamagedError):
        return None
    return sha256(content).hexdigest() if content else None
