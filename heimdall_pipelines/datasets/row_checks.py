"""Checks of a dataset's rows: of each sample by itself, and of their sequence."""

from dataclasses import dataclass

from heimdall_pipelines.datasets.difference_checks import TRIANGLE_TOLERANCE_US, DifferenceChecks, DifferenceSums
from heimdall_pipelines.datasets.estimate_checks import EstimateChecks, EstimateSums
from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.datasets.samples import Recipe, draw_attempt, keeps_iq
from heimdall_pipelines.datasets.stored_truth import agrees, difference_from_seed, redrawn, truth_difference
from heimdall_pipelines.model.time_difference_checks import triangles, what_is_open, wrong_time_differences
from heimdall_pipelines.model.truth import SampleTruth
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION, STATISTICS, out_of_range, wrong_feature_set
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot, SampleRow, StoredIq
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.digests import Edit
from heimdall_pipelines.store.features import ReceiverAggregate
from heimdall_pipelines.store.iq_objects import sample_iq_key

SUM_TOLERANCE = 1e-5  # relative: what is summed up is rounded to six digits
_ALL_ATTEMPTS_OF_EVERY = 10  # samples, one; of the others only the accepted one is drawn, a third of the time
_MOST_ATTEMPTS = 1_000_000
_TX_COLUMNS = ("tx_latitude", "tx_longitude", "tx_altitude_m", "tx_power_dbm")


@dataclass(frozen=True)
class RowSums:
    """What is compared over all samples together."""

    estimates: EstimateSums
    differences: DifferenceSums


class RowChecks:
    """Checks samples one after the other; those of other processes are added with `merge`.

    Parameters
    ----------
    dataset : Dataset
    found : Findings
        Added to.
    recipe : Recipe or None
        Where its scenes can be drawn again.
    """

    def __init__(self, dataset: Dataset, found: Findings, recipe: Recipe | None) -> None:
        self._findings = found
        self._dataset = dataset
        self._spec = dataset.spec
        self._recipe = recipe
        self._estimates = EstimateChecks(self._spec, found)
        self._differences = DifferenceChecks(self._spec, found)
        self._truths = found.outcomes["truths_agree"]
        self._numbers = found.outcomes["numbers_in_range"]
        self._committed = found.outcomes["rows_as_committed"]

    def sample(self, row: SampleRow, stored: StoredIq | None) -> None:
        """Check a sample's feature row, and its IQ row if it has one."""
        self._findings.num_features += 1
        self._findings.after_last = row.sample_idx + 1
        if row.unreadable is not None:
            self._findings.add("numbers_in_range", row.sample_idx, f"{row.unreadable} of the feature row is malformed")
        else:
            self._truth(row, stored)
            self._features(row)
            if row.sample_idx not in self._findings.to_regenerate:
                self._receiver_aggregate(row)
            self._triangles(row)
            self._estimates.add(row)
            self._differences.add(row)
        expected = keeps_iq(self._spec, row.sample_idx)
        self._as_committed(row, stored if expected else None)
        self._findings.num_iq_expected += expected
        if stored is None and expected:
            self._findings.add("iq_of_every_sample", row.sample_idx, "its IQ should be kept, but there is no IQ row")
        elif stored is not None and expected:
            self._findings.num_iq_rows += 1
            self._iq_row(row, stored)
        elif stored is not None:
            self._orphan_iq_row(stored, "an IQ row exists, but the dataset does not keep its IQ")

    def without_batch(self, row: SampleRow) -> None:
        """Report a feature row that no run can have written; it is not counted and never deleted."""
        what = "a feature row beyond the target that belongs to no batch: inspect it, and delete it with SQL"
        self._findings.add("samples_without_gap", row.sample_idx, what, repaired_by_regeneration=False)
        self._findings.num_without_batch += 1
        self._edited(row.sample_idx, "feature row", row.edit, repaired_by_regeneration=False)

    def orphan_iq_row(self, stored: StoredIq) -> None:
        """Report an IQ row of a sample without features."""
        self._orphan_iq_row(stored, "an IQ row exists, but no feature row")

    def merge(self, found: Findings, sums: RowSums) -> None:
        """Add what was found of the samples after these."""
        self._findings.merge(found)
        self._estimates.merge(sums.estimates)
        self._differences.merge(sums.differences)

    @property
    def sums(self) -> RowSums:
        """What is compared over all samples together, so far."""
        return RowSums(self._estimates.sums, self._differences.sums)

    def end(self) -> None:
        """Write the totals of the checks."""
        self._estimates.end()
        self._differences.end()
        self._numbers.numbers |= {"samples": self._findings.num_features}
        self._truths.numbers |= {
            "samples": self._findings.num_features,
            "scenes_drawn_again": self._findings.num_features if self._recipe else 0,
        }
        self._findings.outcomes["iq_of_every_sample"].numbers |= {
            "iq_rows": self._findings.num_iq_rows,
            "iq_rows_expected": self._findings.num_iq_expected,
        }

    def _as_committed(self, row: SampleRow, stored: StoredIq | None) -> None:
        """Compare both rows with their digests."""
        self._committed.count("feature_rows")
        self._edited(row.sample_idx, "feature row", row.edit)
        if stored is not None:
            self._committed.count("iq_rows")
            self._edited(row.sample_idx, "IQ row", stored.edit)

    def _edited(self, sample_idx: int, what: str, edit: Edit | None, *, repaired_by_regeneration: bool = True) -> None:
        if edit is not None:
            self._findings.add(
                "rows_as_committed",
                sample_idx,
                f"{what}: {edit}",
                repaired_by_regeneration=repaired_by_regeneration,
            )
            self._findings.edited_rows.add(sample_idx)

    def _orphan_iq_row(self, stored: StoredIq, what: str) -> None:
        self._findings.num_iq_rows += 1
        self._findings.orphan_iq_rows.add(stored.sample_idx)
        self._findings.add("iq_of_every_sample", stored.sample_idx, what, repaired_by_regeneration=False)
        self._edited(stored.sample_idx, "IQ row", stored.edit, repaired_by_regeneration=False)

    def _truth(self, row: SampleRow, stored: StoredIq | None) -> None:
        def wrong(what: str) -> None:
            self._findings.add("truths_agree", row.sample_idx, what)

        truth = row.truth
        if truth is None:
            wrong("the feature row has no truth")
            return
        for name in _TX_COLUMNS:
            if getattr(truth, name) != getattr(row, name):
                wrong(f"{name} is {getattr(row, name)} in its column and {getattr(truth, name)} in the truth")
        if stored is not None and stored.truth is not None and (difference := truth_difference(truth, stored.truth)):
            wrong(f"{difference} differs between feature row and IQ row")
        if [link.rx_id for link in truth.receivers] != [x.rx_id for x in row.receivers]:
            wrong("receivers of the truth are not those of the features")
        elif self._recipe is not None:
            if self._is_of_its_attempt(row, truth):
                return
            drawn = redrawn(self._recipe, row)
            if drawn.scene is None:
                wrong(f"the seed gives no acceptable scene in its {drawn.attempts} attempts")
            elif difference := difference_from_seed(truth, drawn):
                wrong(f"{difference} is not what the seed gives")

    def _is_of_its_attempt(self, row: SampleRow, truth: SampleTruth) -> bool:
        """Whether the attempt that a row names gives its truth; the attempts before it are left to the caller.

        Of most rows they need not be drawn: that earlier ones are rejected is a matter of the code, not of a row.
        """
        attempts = row.attempts or 1
        is_possible = 1 <= attempts <= _MOST_ATTEMPTS  # unless the row was edited
        if self._recipe is None or row.sample_idx % _ALL_ATTEMPTS_OF_EVERY == 0 or not is_possible:
            return False
        drawn = draw_attempt(self._recipe, row.sample_idx, attempts - 1)
        return drawn.scene is not None and difference_from_seed(truth, drawn) is None

    def _features(self, row: SampleRow) -> None:
        is_newer = row.feature_version > FEATURE_VERSION

        def wrong(what: str) -> None:
            self._findings.add("numbers_in_range", row.sample_idx, what, repaired_by_regeneration=not is_newer)

        if is_newer:
            wrong(
                f"its features have version {row.feature_version}, this heimdall-pipelines knows versions up to "
                f"{FEATURE_VERSION}: update it"
            )
            return
        for receiver in row.receivers:
            self._numbers.count("numbers", len(STATISTICS) * len(receiver.features))
            for what in wrong_feature_set(receiver.features, row.feature_version):
                wrong(f"{receiver.rx_id} {what}")
            for what in out_of_range(receiver.features):
                wrong(f"{receiver.rx_id} {what}")
        self._numbers.count("time_differences", len(row.time_differences or ()))
        for what in wrong_time_differences(row.time_differences, row.receivers, row.feature_version):
            wrong(what)
        detected = sum(receiver.signal_present for receiver in row.receivers)
        if (row.num_receivers_in_sample, row.num_receivers_detected) != (len(row.receivers), detected):
            wrong(
                f"{row.num_receivers_detected} of {row.num_receivers_in_sample} receivers are stored as detected, "
                f"the features show {detected} of {len(row.receivers)}"
            )

    def _triangles(self, row: SampleRow) -> None:
        num = 0
        for triangle in triangles(row.time_differences or ()):
            num += 1
            if (what := what_is_open(triangle, TRIANGLE_TOLERANCE_US)) is not None:
                self._findings.add("triangles_close", row.sample_idx, what)
        self._findings.outcomes["triangles_close"].count("triangles", num)

    def _receiver_aggregate(self, row: SampleRow) -> None:
        """Compare the aggregates in the columns with those of the receivers."""
        assert row.tx_latitude is not None
        assert row.tx_longitude is not None
        made = vars(ReceiverAggregate.of(row.receivers, (row.tx_latitude, row.tx_longitude)))
        for name, value in made.items():
            if not agrees(getattr(row, name), value, SUM_TOLERANCE):
                what = f"{name} is {getattr(row, name)}, its receivers give {value}"
                self._findings.add("numbers_in_range", row.sample_idx, what)

    def _iq_row(self, row: SampleRow, stored: StoredIq) -> None:
        if stored.unreadable is not None:
            what = f"{stored.unreadable} of the IQ row is malformed"
            self._findings.add("iq_of_every_sample", row.sample_idx, what)
            return
        if row.unreadable is not None:
            return  # the expected objects are unknown
        expected = {
            receiver.rx_id: sample_iq_key(self._dataset.id, row.sample_idx, receiver.rx_id, stored.form)
            for receiver in row.receivers
        }
        if stored.paths != expected:
            self._findings.add(
                "iq_of_every_sample",
                row.sample_idx,
                f"the IQ row names {len(stored.paths)} objects, not the expected "
                f"{len(expected)}: {_first_difference(expected, stored.paths)}",
            )
        elif set(stored.sha256) != set(expected) or stored.num_samples != self._spec.num_iq_samples:
            self._findings.add(
                "iq_of_every_sample", row.sample_idx, "the IQ row's checksums or length do not match the sample"
            )


class RowSequence:
    """Finds samples that are missing although their batch counts them, and batches with a wrong count."""

    def __init__(self, snapshot: DatasetSnapshot, found: Findings, first: int, end: int) -> None:
        self._findings = found
        self._outcome = found.outcomes["samples_without_gap"]
        self._size = snapshot.dataset.grid.batch_size
        self._target = snapshot.dataset.target_num_samples
        batches = [batch for batch in snapshot.batches if first <= batch.first_sample_idx < end]
        self._committed = {batch.batch_no: batch.num_samples for batch in batches}
        self._unseen = set(self._committed)
        self._batch_no = -1
        self._next = 0
        self._num_rows = 0

    def has_no_batch(self, sample_idx: int) -> bool:
        """Whether a feature row is beyond the target and belongs to no batch: no run has written it."""
        return sample_idx >= self._target and sample_idx // self._size not in self._committed

    def present(self, sample_idx: int) -> None:
        """Take the next sample that has a feature row."""
        batch_no = sample_idx // self._size
        if batch_no != self._batch_no:
            self._finish()
            self._batch_no, self._next, self._num_rows = batch_no, batch_no * self._size, 0
        self._missing(self._next, sample_idx)
        self._next = sample_idx + 1
        self._num_rows += 1

    def end(self) -> None:
        """Check for samples that should have followed."""
        self._finish()
        for batch_no in sorted(self._unseen):
            self._batch_no, self._next, self._num_rows = batch_no, batch_no * self._size, 0
            self._finish()
        self._outcome.numbers |= {
            "samples": self._findings.num_features,
            "samples_committed": sum(self._committed.values()),
        }

    def _finish(self) -> None:
        if self._batch_no < 0:
            return
        committed = self._committed.get(self._batch_no, 0)
        self._unseen.discard(self._batch_no)
        # A count beyond the batch or the target is wrong; no samples are missing there.
        first = self._batch_no * self._size
        self._missing(self._next, min(first + min(committed, self._size), self._target))
        if self._num_rows != committed:
            self._findings.miscounted.add(self._batch_no)
            self._outcome.problem(
                f"batch {self._batch_no}: it counts {committed} samples, {self._num_rows} feature rows exist"
            )

    def _missing(self, first: int, end: int) -> None:
        for sample_idx in range(first, end):
            self._findings.add("samples_without_gap", sample_idx, "its feature row is missing")
            self._findings.without_features.add(sample_idx)


def _first_difference(one: dict[str, str], other: dict[str, str]) -> str:
    """Name the first key whose values differ, and these."""
    name = next(name for name in [*one, *other] if one.get(name) != other.get(name))
    return f"{name} ({one.get(name)} and {other.get(name)})"
