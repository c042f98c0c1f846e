"""Makes, releases, exports and scores the reference dataset on servers of its own."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.samples import Recipe
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines.releases.scoring import with_baselines
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.datasets import add_dataset, get_dataset
from heimdall_pipelines.store.migrate import migrate
from heimdall_pipelines.store.releases import set_baselines
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines.terrain.ground import ground_of
from heimdall_pipelines.throttle import Progress
from reference.result import ReferenceResult, compared_indices, regenerate
from reference.scoring import score_in_parallel
from reference.specification import ReferenceSpec


def make_reference(
    spec: ReferenceSpec, folder: Path, *, num_samples: int, num_workers: int = 2, progress: Progress = lambda _: None
) -> ReferenceResult:
    """Make the dataset on servers of its own, release it, and export it with its baselines.

    Parameters
    ----------
    spec : ReferenceSpec
    folder : Path
        Of the export; must not exist, or be empty.
    num_samples : int
        Fewer give the first samples of the same dataset, and another root.
    num_workers : int, optional
    progress : callable, optional
        Called with a line at each step.
    """
    with _servers() as stores, Workers(num_workers) as workers:
        workers.start()
        return make_on_stores(stores, workers, spec, folder, num_samples=num_samples, progress=progress)


def make_on_stores(
    stores: Stores,
    workers: Workers,
    spec: ReferenceSpec,
    folder: Path,
    *,
    num_samples: int,
    progress: Progress = lambda _: None,
) -> ReferenceResult:
    """Do the same on given servers; parameters as of `make_reference`."""
    clock = _Clock(progress)
    add_dataset(
        stores.database,
        name=spec.name,
        spec=spec.spec,
        receivers=spec.sites,
        seed=spec.seed,
        target_num_samples=num_samples,
        generator_version=GENERATOR_VERSION,
        terrain_tiles=spec.terrain_tiles,
    )
    with clock.step("making"):
        _make(stores, workers, spec.name, progress)
    with clock.step("validating"):
        validation = validate_dataset(stores, spec.name, seed=0, workers=workers)
    progress(f"health: {validation.health_status}")
    for outcome in validation.outcomes:
        if not outcome.passed:
            progress(f"{outcome.name}: {outcome.numbers}")
    with clock.step("releasing"):
        release = release_dataset(
            stores, spec.name, version=spec.version, licence=spec.licence, split_seed=spec.split_seed
        )
    with tempfile.TemporaryDirectory(prefix="heimdall-reference-") as parent:
        unscored = Path(parent) / "export"
        with clock.step("exporting"):
            export_dataset(stores, spec.label, unscored)
        with clock.step("scoring"):
            report = score_in_parallel(unscored, workers, spec.baselines).to_json()
            set_baselines(stores.database, release.dataset_id, release.version, report)
        with clock.step("exporting"):
            description = with_baselines(unscored, folder, report)
    recipe = recipe_of_reference(spec)
    return ReferenceResult(
        num_samples=num_samples,
        generator_version=release.generator_version,
        feature_version=release.feature_version,
        root=str(description.root),
        truth_root=str(description.truth_root),
        baselines=report,
        splits={kind: split.leaks for kind, split in description.splits.items()},
        samples=regenerate(recipe, compared_indices(num_samples)),
        seconds=clock.seconds,
    )


def recipe_of_reference(spec: ReferenceSpec) -> Recipe:
    """What determines the samples; needs no server."""
    return Recipe(UUID(int=0), spec.seed, spec.spec, spec.sites, ground_of(spec.terrain_tiles, None))


def _make(stores: Stores, workers: Workers, name: str, progress: Progress) -> None:
    dataset = get_dataset(stores.database, name)
    for span in dataset.grid.missing(list_batches(stores.database, dataset.id)):
        make_batch(stores, name, span.batch_no, workers)
        progress(f"batch {span.batch_no} is made")


@contextmanager
def _servers() -> Iterator[Stores]:
    with tempfile.TemporaryDirectory(prefix="heimdall-reference-") as home:
        Path(home).chmod(0o755)  # PostgreSQL runs as another user where this one is root
        with Stack(Path(home) / "home").use() as environment:
            os.environ.update(environment)
            with open_stores(load_settings()) as stores:
                migrate(stores.database)
                stores.objects.create_buckets()
                yield stores


class _Clock:
    """Seconds of each step."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        self._progress(f"{what} …")
        began = time.monotonic()
        yield
        self.seconds[what] = round(self.seconds.get(what, 0.0) + time.monotonic() - began, 2)
