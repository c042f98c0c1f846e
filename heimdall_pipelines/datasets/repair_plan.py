"""What a repair of a dataset would do, or did, in numbers and in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heimdall_pipelines.model.checks import MAX_EXAMPLES
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.datasets import Dataset

_MOST_NAMED = 10


@dataclass(frozen=True)
class RepairPlan:
    """What a repair would do, or did.

    Attributes
    ----------
    dataset : Dataset
        As it was before.
    to_regenerate : tuple of int
        Samples with a missing or wrong row or object.
    iq_rows_to_remove : tuple of int
        Samples without features that are not regenerated: their IQ row is removed.
    batches_to_count : tuple of int
        Batches whose count differs from their feature rows.
    num_samples : int
        Feature rows after the repair: the new num_samples.
    target_num_samples : int
        The new target: raised if a sample beyond it exists.
    num_orphans, orphan_bytes : int
        Objects that no row names, to be removed.
    num_young_orphans : int
        Orphans younger than an hour: they stay, because a batch may be about to commit their rows.
    examples : tuple of str
        Some of the problems, in words.
    edited_parameters : tuple of str
        How the parameters differ from those that the dataset was created with; then nothing is repaired.
    restores_digests : bool
        Whether digests or copies of the parameters were edited, which are themselves as created.
    not_written : tuple of int
        Samples that were regenerated, but would not be what was committed; part of no other number.
    refusals : tuple of str
        What was not written, and why.
    """

    dataset: Dataset
    to_regenerate: tuple[int, ...]
    iq_rows_to_remove: tuple[int, ...]
    batches_to_count: tuple[int, ...]
    num_samples: int
    target_num_samples: int
    num_orphans: int
    orphan_bytes: int
    num_young_orphans: int
    examples: tuple[str, ...]
    edited_parameters: tuple[str, ...] = ()
    restores_digests: bool = False
    not_written: tuple[int, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def changes_num_samples(self) -> bool:
        """Whether num_samples differs from the feature rows."""
        return self.num_samples != self.dataset.num_samples

    @property
    def raises_target(self) -> bool:
        """Whether a sample beyond the target exists."""
        return self.target_num_samples > self.dataset.target_num_samples

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.to_regenerate
            or self.iq_rows_to_remove
            or self.batches_to_count
            or self.num_orphans
            or self.changes_num_samples
            or self.raises_target
            or self.edited_parameters
            or self.restores_digests
            or self.refusals
        )

    @property
    def is_possible(self) -> bool:
        """Whether the parameters are as created, and this version of the generator can regenerate the samples."""
        if self.edited_parameters:
            return False
        return not self.to_regenerate or self.dataset.generator_version == GENERATOR_VERSION

    @property
    def batches_touched(self) -> tuple[int, ...]:
        """Batches that change."""
        batch_no = self.dataset.grid.batch_no
        samples = (*self.to_regenerate, *self.iq_rows_to_remove)
        return tuple(sorted({*map(batch_no, samples), *self.batches_to_count}))

    def numbers(self) -> dict[str, int]:
        """Number of changes of each kind."""
        return {
            "samples_regenerated": len(self.to_regenerate),
            "iq_rows_removed": len(self.iq_rows_to_remove),
            "batches_counted": len(self.batches_to_count),
            "orphans_removed": self.num_orphans,
            "young_orphans_kept": self.num_young_orphans,
        }

    def lines(self, *, is_done: bool) -> list[str]:
        """Describe what a repair would do, or did."""
        if self.is_empty:
            return [f"nothing to repair in {self.dataset.name}", *self._young()]
        if self.edited_parameters:
            return [edited_parameters_message(self.dataset.name, self.edited_parameters)]
        lines = [f"{self.dataset.name}: {'repaired' if is_done else 'a repair would'}"]
        made, removed, counted = ("regenerated", "removed", "counted") if is_done else ("regenerate", "remove", "count")
        if self.to_regenerate:
            lines.append(f"  {made}: {_named(self.to_regenerate, 'sample', 'samples')}, rows and objects")
        if self.iq_rows_to_remove:
            lines.append(
                f"  {removed}: IQ rows of {_named(self.iq_rows_to_remove, 'sample', 'samples')} that should have none"
            )
        if self.batches_to_count:
            lines.append(f"  {counted}: {_named(self.batches_to_count, 'batch', 'batches')}")
        if self.changes_num_samples:
            lines.append(f"  {counted}: num_samples {self.dataset.num_samples} -> {self.num_samples}")
        if self.raises_target:
            lines.append(f"  target_num_samples {self.dataset.target_num_samples} -> {self.target_num_samples}")
        if self.restores_digests:
            lines.append(f"  {'restored' if is_done else 'restore'}: digests and copy of the parameters")
        if self.num_orphans:
            lines.append(f"  {removed}: {self.num_orphans} objects without row, {self.orphan_bytes / 1e6:.1f} MB")
        return [*lines, *self._refused(), *self._young()]

    def _refused(self) -> list[str]:
        if not self.refusals:
            return []
        shown = self.refusals[:MAX_EXAMPLES]
        more = [f"  - and {len(self.refusals) - len(shown)} more"] if len(self.refusals) > len(shown) else []
        name = self.dataset.name
        return [
            "  not written, since it would not be what was committed:",
            *(f"  - {refusal}" for refusal in shown),
            *more,
            f"  to write it nevertheless: heimdall dataset repair {name} --sample IDX --overwrite {name} --apply",
        ]

    def _young(self) -> list[str]:
        if not self.num_young_orphans:
            return []
        return [
            f"  not removed: {self.num_young_orphans} objects without row that are younger than an hour: a batch may "
            "be about to commit their rows. To remove them, repeat the repair later"
        ]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        values = {name: value for name, value in vars(self).items() if name != "dataset"}
        return {"dataset": self.dataset.name, "nothing_to_do": self.is_empty} | values


def edited_parameters_message(name: str, differences: Sequence[str]) -> str:
    """Describe edited parameters, and both ways out."""
    return "\n".join(
        (
            f"dataset {name}: its parameters are not those that it was created with. Every sample would become another "
            "one, so nothing is repaired:",
            *(f"  {difference}" for difference in differences),
            f"To restore them: heimdall dataset repair {name} --restore-parameters --apply",
            "To take the present ones, and replace every sample and object: "
            f"heimdall dataset repair {name} --overwrite {name} --apply",
        )
    )


def _named(numbers: Sequence[int], one: str, many: str) -> str:
    """Name some of them.

    >>> _named((4, 7), "sample", "samples")
    '2 samples (4, 7)'
    """
    named = ", ".join(map(str, numbers[:_MOST_NAMED])) + (", ..." if len(numbers) > _MOST_NAMED else "")
    return f"{len(numbers)} {one if len(numbers) == 1 else many} ({named})"
