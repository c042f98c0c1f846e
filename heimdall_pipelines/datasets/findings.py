"""What looking at a dataset found: a result for each check, and which samples would have to be regenerated."""

from dataclasses import dataclass, field

from heimdall_pipelines.model.checks import CheckOutcome, Severity
from heimdall_pipelines.store.datasets import Dataset

# name: severity when failed, what it looks at
DATASET_CHECKS: dict[str, tuple[Severity, str]] = {
    "counts_agree": (
        "ERROR",
        "num_samples, feature rows, batches and IQ rows count the same; the target, when no batch is missing.",
    ),
    "samples_without_gap": ("ERROR", "Every sample_idx of what is committed has its feature row."),
    "iq_of_every_sample": (
        "ERROR",
        "Every sample whose IQ is kept has an IQ row that names each receiver's object, and no other has.",
    ),
    "objects_agree": (
        "ERROR",
        "Every object that a row names is there with its size, its ETag and a sidecar; no other object is there.",
    ),
    "truths_agree": (
        "ERROR",
        "The truth is the same in both tables and in the columns tx_*, and the one that the seed gives.",
    ),
    "numbers_in_range": (
        "ERROR",
        "Every receiver has the features of the row's version, every number is finite and within its feature's range.",
    ),
    "estimates_agree_with_truth": ("WARN", "Levels and frequencies are estimated as near the truth as they should be."),
    "samples_made_again_agree": (
        "ERROR",
        "Samples chosen at random, regenerated, give the rows and IQ that are stored.",
    ),
}
# Of a batch, on its feature rows and on its IQ.
BATCH_FEATURE_CHECKS = ("samples_without_gap", "truths_agree", "numbers_in_range", "estimates_agree_with_truth")
BATCH_IQ_CHECKS = ("iq_of_every_sample", "objects_agree")


@dataclass
class Findings:
    """What was found of a dataset or of one of its batches.

    Attributes
    ----------
    dataset : Dataset
    outcomes : dict of str to CheckOutcome
        By the names of `DATASET_CHECKS`.
    affected : set of int
        Samples with any problem.
    to_regenerate : set of int
        Samples of which a row or an object is missing or wrong: regenerated, they are right.
    without_features : set of int
        Samples that are counted as committed and have no feature row; they are of `to_regenerate`.
    orphan_iq_rows : set of int
        Samples with an IQ row that should have none.
    miscounted : set of int
        Batches that do not count the feature rows that are there.
    num_features, num_iq_rows : int
        Rows that were looked at.
    num_iq_expected : int
        Of the feature rows, those whose IQ is kept.
    num_without_batch : int
        Feature rows beside those, beyond the target and of no batch.
    after_last : int
        The greatest sample_idx of a feature row and 1: the least that the target can be.
    object_bytes, row_bytes : int
        What the dataset takes in both stores; of a whole dataset only.
    """

    dataset: Dataset
    outcomes: dict[str, CheckOutcome]
    affected: set[int] = field(default_factory=set)
    to_regenerate: set[int] = field(default_factory=set)
    without_features: set[int] = field(default_factory=set)
    orphan_iq_rows: set[int] = field(default_factory=set)
    miscounted: set[int] = field(default_factory=set)
    num_features: int = 0
    num_iq_rows: int = 0
    num_iq_expected: int = 0
    num_without_batch: int = 0
    after_last: int = 0
    object_bytes: int = 0
    row_bytes: int = 0

    @classmethod
    def begin(cls, dataset: Dataset, names: tuple[str, ...]) -> "Findings":
        """Begin to look."""
        repair = f"heimdall dataset repair {dataset.name} --apply"
        outcomes = {name: CheckOutcome(name, DATASET_CHECKS[name][0], repair=repair) for name in names}
        if "estimates_agree_with_truth" in outcomes:
            outcomes[
                "estimates_agree_with_truth"
            ].repair = (
                "regenerating them gives the same: look at the dataset's parameters, or whether the truth was edited"
            )
        return cls(dataset, outcomes)

    def found(self, check: str, sample_idx: int, what: str, *, repaired_by_regeneration: bool = True) -> None:
        """Note a problem of a sample."""
        self.outcomes[check].problem(f"sample {sample_idx}: {what}")
        self.affected.add(sample_idx)
        if repaired_by_regeneration:
            self.to_regenerate.add(sample_idx)
