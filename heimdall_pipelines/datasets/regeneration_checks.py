"""Regenerates samples chosen at random, and compares them with what is stored."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.datasets.iq_files import iq_file
from heimdall_pipelines.datasets.regenerating import compare_stored
from heimdall_pipelines.datasets.samples import Recipe, keeps_iq, make_sample
from heimdall_pipelines.datasets.stored_truth import agrees, stored_sample, truths_agree
from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.rf.feature_registry import TIME_DIFFERENCES_SINCE
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, SampleRow
from heimdall_pipelines.store.sample_rows import SampleFeatureRow
from heimdall_pipelines.store.stores import Stores

DEEP_SHARE = 0.01
FEATURE_TOLERANCE = 1e-4  # relative: features have six digits, and their transforms round by processor

# Absolute, in units of what is stored: a last digit, and what rounding moves a peak by, far less than its noise does.
DIFFERENCE_TOLERANCE = 2.1e-3
DIFFERENCE_SHARE_OF_STD = 0.01


def check_regenerated(
    stores: Stores, snapshot: DatasetSnapshot, found: Findings, checked: Callable[[int], None], *, deep: bool, seed: int
) -> None:
    """Regenerate one sample or, if `deep`, one in a hundred; none of a dataset of another generator version.

    Parameters
    ----------
    stores : Stores
    snapshot : DatasetSnapshot
    found : Findings
        Added to.
    checked : callable
        Called with the number of samples so far.
    deep : bool
    seed : int
        For the choice of samples.
    """
    outcome = found.outcomes["samples_regenerate_identically"]
    outcome.numbers["samples_regenerated"] = 0
    committed = _Committed(snapshot)
    if snapshot.dataset.generator_version != GENERATOR_VERSION or not committed.num_samples:
        return
    num_chosen = max(1, round(DEEP_SHARE * committed.num_samples)) if deep else 1
    recipe = Recipe.of(snapshot.dataset, stores.objects)
    wrong: list[int] = []
    for number in sorted(random.Random(seed).sample(range(committed.num_samples), num_chosen)):  # noqa: S311 (no secret)
        sample_idx = committed.sample_idx(number)
        row = snapshot.sample(sample_idx)
        if row is not None and sample_idx not in found.to_regenerate:
            _compare(stores, snapshot, recipe, row, found)
            outcome.count("samples_regenerated")
            checked(outcome.numbers["samples_regenerated"])
            if sample_idx in found.to_regenerate and len(wrong) < MAX_EXAMPLES:
                wrong.append(sample_idx)
    if wrong:  # named, because a repair's own check would choose others
        names = " ".join(f"--sample {sample_idx}" for sample_idx in wrong)
        outcome.repair = f"heimdall dataset repair {snapshot.dataset.name} {names} --apply"


class _Committed:
    """Samples that batches count, numbered from 0; rows of some may be missing."""

    def __init__(self, snapshot: DatasetSnapshot) -> None:
        size = snapshot.dataset.grid.batch_size
        self._first = [batch.first_sample_idx for batch in snapshot.batches]
        self._before = [0, *accumulate(min(batch.num_samples, size) for batch in snapshot.batches)]
        self.num_samples = self._before[-1]

    def sample_idx(self, number: int) -> int:
        """Index of one of them."""
        batch = bisect_right(self._before, number) - 1
        return self._first[batch] + number - self._before[batch]


def differences(row: SampleRow, made: SampleFeatureRow) -> Iterator[str]:
    """Describe how a stored row differs from the regenerated sample, in the features of the row's own version.

    A feature of that version that the row lacks is a difference; one that it has beyond is another check's subject.
    """
    if row.truth is None or not truths_agree(row.truth, made.truth, FEATURE_TOLERANCE):
        yield "its truth is not what the seed gives"
    if len(row.receivers) != len(made.receivers):
        yield f"it has {len(row.receivers)} receivers, the seed gives {len(made.receivers)}"
    for stored, again in zip(row.receivers, made.receivers, strict=False):
        if not agrees(stored.to_json(), again.of_version(row.feature_version).to_json(), FEATURE_TOLERANCE):
            yield f"features of {again.rx_id} are not those of its IQ"
    if row.feature_version >= TIME_DIFFERENCES_SINCE and not differences_agree(
        row.time_differences or (), made.time_differences or ()
    ):
        yield "its time differences are not those of its IQ"


def differences_agree(stored: Sequence[PairTimeDifference], again: Sequence[PairTimeDifference]) -> bool:
    """Whether time differences agree, to what transforms that round by processor may change."""
    if len(stored) != len(again):
        return False
    return all(
        agrees(
            one.to_json() | {"reason": one.reason},
            other.to_json() | {"reason": other.reason},
            FEATURE_TOLERANCE,
            DIFFERENCE_TOLERANCE + DIFFERENCE_SHARE_OF_STD * (other.std_us or 0.0),
        )
        for one, other in zip(stored, again, strict=True)
    )


def _compare(stores: Stores, snapshot: DatasetSnapshot, recipe: Recipe, row: SampleRow, found: Findings) -> None:
    def wrong(what: str) -> None:
        found.add("samples_regenerate_identically", row.sample_idx, what)

    drawn = stored_sample(recipe, row)
    if drawn.scene is None:
        wrong("the seed gives no acceptable scene in the sample's attempts")
        return
    iq_row = snapshot.iq_of(row.sample_idx)
    files = []
    keep = None
    if iq_row is not None and keeps_iq(recipe.spec, row.sample_idx):
        keep = lambda site, iq: files.append((site, iq_file(recipe, row.sample_idx, site, iq, iq_row.form)))  # noqa: E731
    made = make_sample(recipe, drawn, keep)
    for what in differences(row, made):
        wrong(what)
    for site, file in files:
        assert iq_row is not None
        comparison = compare_stored(stores.objects, iq_row, site.rx_id, file)
        if not comparison.acceptable:
            wrong(comparison.problem or "its IQ is not what the seed gives")
