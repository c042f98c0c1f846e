"""Results of the checks of a dataset, and the samples that have to be regenerated."""

from dataclasses import dataclass, field
from typing import Any

from heimdall_pipelines.model.checks import CheckOutcome, Severity
from heimdall_pipelines.store.datasets import Dataset

# name: severity when failed, what it checks
DATASET_CHECKS: dict[str, tuple[Severity, str]] = {
    "counts_agree": (
        "ERROR",
        "num_samples, feature rows, batches and IQ rows count the same; the target, when no batch is missing.",
    ),
    "samples_without_gap": ("ERROR", "Every committed sample_idx has its feature row."),
    "iq_of_every_sample": (
        "ERROR",
        "Every sample whose IQ is kept has an IQ row that names each receiver's object, and no other has.",
    ),
    "objects_agree": (
        "ERROR",
        "Every object that a row names exists with its size, its ETag and a sidecar; there is no other object.",
    ),
    "truths_agree": (
        "ERROR",
        "The truth is the same in both tables and in the columns tx_*, and the one that the seed gives.",
    ),
    "numbers_in_range": (
        "ERROR",
        "Every receiver has the features of the row's version, every pair that detected its time difference; every "
        "number is finite and within its range.",
    ),
    "triangles_close": (
        "ERROR",
        "Time differences around each triangle of receivers, with correlations of 0.3 or more, add up to 0 within "
        "10 us and eight standard deviations.",
    ),
    "estimates_agree_with_truth": (
        "WARN",
        "Estimated levels, frequencies and time differences are close to the truth.",
    ),
    "samples_regenerate_identically": (
        "ERROR",
        "Samples chosen at random, regenerated, equal the stored rows and IQ.",
    ),
    "rows_as_committed": (
        "ERROR",
        "Every row of the dataset, its batches and samples is as it was committed, by its digest and the roots.",
    ),
    "sidecars_as_committed": ("ERROR", "Every sidecar, which is read, has the bytes that were stored with its object."),
    "parameters_as_created": (
        "ERROR",
        "Type, spec, receivers, seed, generator version and name are those that the dataset was created with.",
    ),
    "summary_is_current": ("WARN", "The last summary of a complete dataset was computed from its present samples."),
}
# Of a batch, on its feature rows and on its IQ.
BATCH_FEATURE_CHECKS = (
    "samples_without_gap",
    "truths_agree",
    "numbers_in_range",
    "triangles_close",
    "estimates_agree_with_truth",
    "rows_as_committed",
)
BATCH_IQ_CHECKS = ("iq_of_every_sample", "objects_agree", "sidecars_as_committed")


@dataclass
class Findings:
    """Results of checks of a dataset or of one of its batches.

    Attributes
    ----------
    dataset : Dataset
        With the parameters that it was created with, where a copy of them is intact: all checks are made with these.
    outcomes : dict of str to CheckOutcome
        By the names of `DATASET_CHECKS`.
    affected : set of int
        Samples with any problem.
    to_regenerate : set of int
        Samples with a missing or wrong row or object; regenerating them repairs it.
    without_features : set of int
        Samples that a batch counts, but without feature row; part of `to_regenerate`.
    orphan_iq_rows : set of int
        Samples with an IQ row that should have none.
    miscounted : set of int
        Batches whose count differs from their feature rows.
    edited_rows : set of int
        Samples with a row that is not as it was committed; those without further rows of theirs included.
    edited_batches : set of int
        Batches whose row, or set of rows, is not as it was committed.
    edited_parameters : dict of str to (object, object)
        Column of the dataset: its value now and the one it was created with.
    parameters_are_as_created : bool
        Whether the parameters in the dataset's row have the digest that the dataset and its batches vouch for.
    num_features, num_iq_rows : int
        Rows that were checked.
    num_iq_expected : int
        Feature rows whose IQ is kept.
    num_without_batch : int
        Further feature rows, beyond the target and of no batch.
    after_last : int
        One more than the greatest sample_idx of a feature row: the least possible target.
    object_bytes, row_bytes : int
        Storage that the dataset uses; only when the whole dataset is checked.
    """

    dataset: Dataset
    outcomes: dict[str, CheckOutcome]
    affected: set[int] = field(default_factory=set)
    to_regenerate: set[int] = field(default_factory=set)
    without_features: set[int] = field(default_factory=set)
    orphan_iq_rows: set[int] = field(default_factory=set)
    miscounted: set[int] = field(default_factory=set)
    edited_rows: set[int] = field(default_factory=set)
    edited_batches: set[int] = field(default_factory=set)
    edited_parameters: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    parameters_are_as_created: bool = True
    num_features: int = 0
    num_iq_rows: int = 0
    num_iq_expected: int = 0
    num_without_batch: int = 0
    after_last: int = 0
    object_bytes: int = 0
    row_bytes: int = 0

    @classmethod
    def begin(cls, dataset: Dataset, names: tuple[str, ...]) -> "Findings":
        """Results before anything is checked."""
        repair = f"heimdall dataset repair {dataset.name} --apply"
        outcomes = {name: CheckOutcome(name, DATASET_CHECKS[name][0], repair=repair) for name in names}
        accept = f"to take an edit over: heimdall db accept dataset {dataset.name} --reason REASON --apply"
        special = {
            "estimates_agree_with_truth": "regenerating gives the same samples: check the dataset's parameters, and "
            "whether the truth was edited",
            "rows_as_committed": f"{repair}; {accept}",
            "sidecars_as_committed": f"{repair}; {accept}",
            "parameters_as_created": f"a repair never uses edited parameters; {accept}",
            "summary_is_current": f"materialize synthetic/dataset_summary of {dataset.name}; the sensor "
            "requested_synthetic_batches does",
        }
        for name in special.keys() & outcomes.keys():
            outcomes[name].repair = special[name]
        return cls(dataset, outcomes)

    def merge(self, later: "Findings") -> None:
        """Add what was found of the samples after these."""
        for name, outcome in later.outcomes.items():
            self.outcomes[name].merge(outcome)
        self.affected |= later.affected
        self.to_regenerate |= later.to_regenerate
        self.without_features |= later.without_features
        self.orphan_iq_rows |= later.orphan_iq_rows
        self.miscounted |= later.miscounted
        self.edited_rows |= later.edited_rows
        self.num_features += later.num_features
        self.num_iq_rows += later.num_iq_rows
        self.num_iq_expected += later.num_iq_expected
        self.num_without_batch += later.num_without_batch
        self.after_last = max(self.after_last, later.after_last)

    def add(self, check: str, sample_idx: int, what: str, *, repaired_by_regeneration: bool = True) -> None:
        """Add a problem of a sample."""
        self.outcomes[check].problem(f"sample {sample_idx}: {what}")
        self.affected.add(sample_idx)
        if repaired_by_regeneration:
            self.to_regenerate.add(sample_idx)
