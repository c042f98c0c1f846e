"""Makes batches: workers draw scenes, make samples and store objects; then one transaction commits all rows."""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from threading import BoundedSemaphore

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.iq_files import IqFile, iq_file, iq_metadata
from heimdall_pipelines.datasets.limits import NUM_KEPT_IQ
from heimdall_pipelines.datasets.samples import (
    DrawnSample,
    Recipe,
    draw_sample,
    keeps_iq,
    make_sample,
    start_time_unix_ns,
)
from heimdall_pipelines.datasets.stored_truth import from_stored_truth
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.batches import Batch, BatchRange, total_rejections
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.store.batches import commit_batch, committed_sample_idxs, note_stopped_batch
from heimdall_pipelines.store.committed_parameters import require_parameters_as_created
from heimdall_pipelines.store.dataset_locks import shared_lock
from heimdall_pipelines.store.dataset_samples import get_truths
from heimdall_pipelines.store.dataset_snapshot import form_of_samples
from heimdall_pipelines.store.datasets import Dataset, DatasetNotFoundError, get_living_dataset
from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.store.iq_objects import StoredFiles, put_iq, remove_dataset_iq, sample_iq_location
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore
from heimdall_pipelines.store.sample_rows import IqSampleRow, SampleFeatureRow, feature_row_json, iq_row_json
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Throttle

ATTEMPTS_PER_SAMPLE = 20
MAX_ATTEMPTS = "max_attempts"  # the stopped_reason
PROGRESS_INTERVAL_S = 1.0
_SCENES_PER_TASK = 20  # a few milliseconds of work
_SAMPLES_PER_TASK = 5  # a tenth of a second, or a second with IQ to store, so that workers end at about the same time
_UPLOADS_AT_ONCE = 4
_UPLOADS_WAITING = 8  # objects in memory of a worker at once


class BatchStoppedError(HeimdallError):
    """A batch used up its attempts; nothing of it was committed."""


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch."""

    partition_key: str
    num_samples: int
    num_drawn: int
    num_made: int
    attempts: int
    elapsed_s: float

    @property
    def acceptance(self) -> float:
        """Share of the drawn scenes that were accepted."""
        return self.num_drawn / self.attempts if self.attempts else 1.0

    @property
    def samples_per_s(self) -> float:
        """Samples made per second in this batch so far."""
        return self.num_made / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def __str__(self) -> str:
        if self.num_drawn < self.num_samples:
            return (
                f"{self.partition_key}: {self.num_drawn} of {self.num_samples} scenes drawn, "
                f"{self.acceptance:.0%} of {self.attempts} attempts accepted"
            )
        left_s = (self.num_samples - self.num_made) / self.samples_per_s if self.num_made else None
        return (
            f"{self.partition_key}: {self.num_made} of {self.num_samples} samples, {self.samples_per_s:.0f} samples/s, "
            f"{self.acceptance:.0%} of scenes accepted" + ("" if left_s is None else f", {left_s:.0f} s left")
        )


@dataclass(frozen=True)
class BatchReport:
    """Result of a batch."""

    dataset: Dataset
    span: BatchRange
    batch: Batch
    num_made: int
    num_objects: int
    attempts: int
    rejections: dict[str, int]
    elapsed_s: float


@dataclass(frozen=True)
class MadeSample:
    """Rows of a sample whose objects are stored, ready to be committed."""

    sample_idx: int
    feature_row: str
    iq_row: str | None
    num_objects: int


@dataclass(frozen=True)
class _SceneTask:
    recipe: Recipe
    sample_idxs: tuple[int, ...]
    max_attempts: int


@dataclass(frozen=True)
class _Task:
    recipe: Recipe
    samples: tuple[DrawnSample, ...]
    objects: ObjectStore
    form: IqForm


def make_batch(
    stores: Stores,
    dataset_name: str,
    batch_no: int,
    workers: Workers,
    progress: Callable[[BatchProgress], None] = lambda _: None,
    waiting: Callable[[], None] = lambda: None,
) -> BatchReport:
    """Make the missing samples of a batch or, if none is missing, regenerate all; the bytes are the same.

    Objects are stored first, rows are committed in one transaction at the end. If the batch is interrupted before, only
    orphans are left, under keys that the next run overwrites.

    Parameters
    ----------
    stores : Stores
        Rows and objects.
    dataset_name : str
    batch_no : int
        From 0; see `model.batches.BatchGrid`.
    workers : Workers
        Can be used for further batches.
    progress : callable, optional
        Called about once a second.
    waiting : callable, optional
        Called twice a second while a repair holds the exclusive lock; the batch begins after it.

    Raises
    ------
    BatchStoppedError
        20 attempts per sample were not enough; the message has the reasons. Only the reason is committed.
    DatasetNotFoundError, InvalidNameError
        There is no such dataset or batch.
    DatasetShrunkError
        The dataset was shrunk meanwhile, and no longer has all samples of the batch; nothing was committed.
    GeneratorVersionError
        The dataset was made by another version of the generator.
    ParametersEditedError
        The dataset's parameters are not those that it was created with.
    UnavailableError
        PostgreSQL, the S3 store or a worker process was lost.
    """
    dataset = get_living_dataset(stores.database, dataset_name)
    require_parameters_as_created(stores.database, dataset)
    span = dataset.grid.batch(batch_no)
    recipe = Recipe.of(dataset, stores.objects)
    with shared_lock(stores.database, dataset.id, waiting) as lock:
        sample_idxs = _samples_to_make(stores, dataset, recipe, span)
        return make_samples(stores, dataset, span, sample_idxs, workers, progress, lock.confirm)


def make_samples(
    stores: Stores,
    dataset: Dataset,
    span: BatchRange,
    sample_idxs: Sequence[int],
    workers: Workers,
    progress: Callable[[BatchProgress], None] = lambda _: None,
    before_commit: Callable[[], None] = lambda: None,
) -> BatchReport:
    """Make some samples of a batch and replace those that exist; the caller holds a lock of the dataset.

    Parameters and errors are those of `make_batch`; `sample_idxs` belong to the batch, in order. `before_commit` is
    called when all objects are stored.
    """
    began = time.monotonic()
    recipe = Recipe.of(dataset, stores.objects)
    counted = _Progress(progress, span.partition_key, len(sample_idxs), began)
    drawn = _draw_scenes(stores, dataset, recipe, span, sample_idxs, workers, counted)
    with stores.database.transaction() as connection:
        form = form_of_samples(connection, dataset.id, span.first_sample_idx, span.end_sample_idx)
    tasks = [
        _Task(recipe, tuple(drawn[start : start + _SAMPLES_PER_TASK]), stores.objects, form)
        for start in range(0, len(drawn), _SAMPLES_PER_TASK)
    ]
    made: list[MadeSample] = []
    with closing(workers.map(_make_samples, tasks)) as results:
        for result in results:
            made += result or ()
            counted.made(len(made))
    made.sort(key=lambda sample: sample.sample_idx)
    stores.objects.sync_before_commit(stores.objects.synthetic_iq_bucket)
    before_commit()
    try:
        batch = commit_batch(
            stores.database,
            dataset,
            span,
            sample_idxs=sample_idxs,
            feature_rows=[sample.feature_row for sample in made],
            iq_rows=[sample.iq_row for sample in made if sample.iq_row is not None],
        )
    except DatasetNotFoundError:
        remove_dataset_iq(stores.objects, dataset.id)  # objects stored since the deletion
        raise
    return BatchReport(
        dataset=dataset,
        span=span,
        batch=batch,
        num_made=len(made),
        num_objects=sum(sample.num_objects for sample in made),
        attempts=counted.attempts,
        rejections=total_rejections(sample.rejections for sample in drawn),
        elapsed_s=time.monotonic() - began,
    )


def rejection_table(attempts: int, rejections: dict[str, int]) -> str:
    """Table of the reasons of rejection with their number of attempts, the most frequent first."""
    lines = [f"{'reason':<20}{'attempts':>10}{'share':>8}"]
    for reason, number in sorted(rejections.items(), key=lambda item: -item[1]):
        lines.append(f"{reason:<20}{number:>10}{number / attempts:>8.1%}")
    return "\n".join(lines)


def _samples_to_make(stores: Stores, dataset: Dataset, recipe: Recipe, span: BatchRange) -> list[int]:
    wanted = range(span.first_sample_idx, span.end_sample_idx)
    iq_below = span.end_sample_idx if recipe.spec.dataset_type == "iq_raw" else NUM_KEPT_IQ
    committed = committed_sample_idxs(stores.database, dataset, span, iq_below)
    return [idx for idx in wanted if idx not in committed] or list(wanted)


def _draw_scenes(
    stores: Stores,
    dataset: Dataset,
    recipe: Recipe,
    span: BatchRange,
    sample_idxs: Sequence[int],
    workers: Workers,
    counted: "_Progress",
) -> list[DrawnSample]:
    """Draw every sample's scene before any IQ is made: a batch that cannot be filled stops early and stores nothing.

    Workers draw in parallel; attempts are counted as if the samples were drawn in their order.
    """
    budget = ATTEMPTS_PER_SAMPLE * len(sample_idxs)

    def tasks() -> Iterator[_SceneTask]:
        for start in range(0, len(sample_idxs), _SCENES_PER_TASK):
            if counted.attempts >= budget:
                return
            # All scenes drawn so far belong to earlier samples, so at least this many attempts are left.
            yield _SceneTask(
                recipe, tuple(sample_idxs[start : start + _SCENES_PER_TASK]), max_attempts=budget - counted.attempts
            )

    found: dict[int, DrawnSample] = {}
    with closing(workers.map(_draw_some, tasks())) as results:
        for result in results:
            for sample in result or ():
                found[sample.sample_idx] = sample
                counted.drawn(sample.attempts)
    drawn: list[DrawnSample] = []
    stored = get_truths(stores.database, dataset.id, span.first_sample_idx, span.end_sample_idx)
    attempts = 0
    for sample_idx in sample_idxs:
        left = budget - attempts
        made = found.get(sample_idx)
        sample = made if made is not None and made.attempts <= left else draw_sample(recipe, sample_idx, left)
        attempts += sample.attempts
        drawn.append(from_stored_truth(sample, stored.get(sample_idx)))
        if sample.scene is None:
            rejections = total_rejections(sample.rejections for sample in drawn)
            note_stopped_batch(
                stores.database, dataset, span, reason=MAX_ATTEMPTS, attempts=attempts, rejections=rejections
            )
            raise BatchStoppedError(
                f"{span.partition_key} stopped ({MAX_ATTEMPTS}): {len(drawn) - 1} of {len(sample_idxs)} samples found "
                f"a scene in {budget} attempts, {ATTEMPTS_PER_SAMPLE} per sample; nothing was committed.\n"
                f"{rejection_table(attempts, rejections)}\n"
                "A dataset's parameters are frozen: create another one with weaker limits "
                "(min_snr_db, min_receivers, max_gdop)"
            )
    return drawn


def _draw_some(task: _SceneTask) -> list[DrawnSample]:
    """Draw some scenes, up to the first that is not found; runs in the workers."""
    drawn: list[DrawnSample] = []
    left = task.max_attempts
    for sample_idx in task.sample_idxs:
        sample = draw_sample(task.recipe, sample_idx, left)
        drawn.append(sample)
        left -= sample.attempts
        if sample.scene is None:
            break
    return drawn


class _Progress:
    """Counts scenes and samples, and reports about once a second."""

    def __init__(
        self, report: Callable[[BatchProgress], None], partition_key: str, num_samples: int, began: float
    ) -> None:
        self._report = report
        self._partition_key = partition_key
        self._num_samples = num_samples
        self._began = began
        self._throttle = Throttle(PROGRESS_INTERVAL_S)
        self._num_drawn = 0
        self.attempts = 0

    def drawn(self, attempts: int) -> None:
        """Count a scene."""
        self.attempts += attempts
        self._num_drawn += 1
        self.made(0)

    def made(self, num_made: int) -> None:
        """Report how many samples are made, if a second has passed or all are made."""
        if self._throttle.is_due() or num_made == self._num_samples:
            elapsed_s = time.monotonic() - self._began
            self._report(
                BatchProgress(
                    self._partition_key, self._num_samples, self._num_drawn, num_made, self.attempts, elapsed_s
                )
            )


def _make_samples(task: _Task) -> list[MadeSample]:
    """Make some samples and store their objects; runs in the workers."""
    with _Uploads(task.objects, task.recipe, task.form) as uploads:
        made = [_make(task.recipe, drawn, uploads) for drawn in task.samples]
    return [sample() for sample in made]


def _make(recipe: Recipe, drawn: DrawnSample, uploads: "_Uploads") -> Callable[[], MadeSample]:
    """Make a sample; the function that is returned gives its rows once its objects are stored."""
    kept = _KeptIq(uploads, drawn.sample_idx)
    row = make_sample(recipe, drawn, kept.keep if keeps_iq(recipe.spec, drawn.sample_idx) else None)
    feature_row = feature_row_json(recipe.dataset_id, row)

    def finished() -> MadeSample:
        iq_row = iq_row_json(recipe.dataset_id, kept.row(recipe, drawn, row)) if kept.stored else None
        return MadeSample(drawn.sample_idx, feature_row, iq_row, len(kept.stored))

    return finished


@dataclass(frozen=True)
class _StoredFile:
    """A receiver's file that is being stored."""

    location: ObjectLocation
    sha256: str
    stored: Future[StoredFiles]


@dataclass
class _KeptIq:
    """The IQ of one sample that is being stored."""

    uploads: "_Uploads"
    sample_idx: int
    stored: dict[str, _StoredFile] = field(default_factory=dict)

    def keep(self, site: ReceiverSite, iq: NDArray[np.complex64]) -> None:
        """Store one receiver's samples."""
        file = iq_file(self.uploads.recipe, self.sample_idx, site, iq, self.uploads.form)
        self.stored[site.rx_id] = self.uploads.add(self.sample_idx, site.rx_id, file)

    def row(self, recipe: Recipe, drawn: DrawnSample, features: SampleFeatureRow) -> IqSampleRow:
        """Row of the stored IQ."""
        sha256 = {rx_id: file.sha256 for rx_id, file in self.stored.items()}
        stored = {rx_id: file.stored.result() for rx_id, file in self.stored.items()}
        return IqSampleRow(
            sample_idx=self.sample_idx,
            start_time_unix_ns=start_time_unix_ns(self.sample_idx),
            truth=features.truth,
            receivers_metadata=drawn.sites,
            iq_metadata=iq_metadata(
                recipe,
                sha256,
                {rx_id: files.etag for rx_id, files in stored.items()},
                {rx_id: files.sidecar_sha256 for rx_id, files in stored.items()},
                self.uploads.form,
            ),
            iq_storage_paths={rx_id: file.location.key for rx_id, file in self.stored.items()},
        )


class _Uploads:
    """Stores objects during the computation, a few at once; a context that ends without error waits for them."""

    def __init__(self, objects: ObjectStore, recipe: Recipe, form: IqForm) -> None:
        self.recipe = recipe
        self.form = form
        self._objects = objects
        self._waiting = BoundedSemaphore(_UPLOADS_WAITING)
        self._threads = ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="upload")
        self._pending: list[Future[StoredFiles]] = []

    def __enter__(self) -> "_Uploads":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # Do not wait for a store that may not respond; the next run overwrites what is still stored.
            self._threads.shutdown(wait=False, cancel_futures=True)
            return
        self._threads.shutdown()
        for upload in self._pending:
            upload.result()

    def add(self, sample_idx: int, rx_id: str, file: IqFile) -> _StoredFile:
        """Queue a file to be stored. Raises the error of an earlier one."""
        location = sample_iq_location(self._objects, self.recipe.dataset_id, sample_idx, rx_id, self.form)
        self._waiting.acquire()
        done = {upload for upload in self._pending if upload.done()}
        for upload in done:
            upload.result()
        self._pending = [upload for upload in self._pending if upload not in done]

        def put() -> StoredFiles:
            try:
                return put_iq(self._objects, location, io.BytesIO(file.data), len(file.data), file.sigmf)
            finally:
                self._waiting.release()

        upload = self._threads.submit(put)
        self._pending.append(upload)
        return _StoredFile(location, file.sha256, upload)
