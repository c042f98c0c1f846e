"""Compares a dataset's parameters, its own row, its batches and their roots with what was committed."""

from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.model.batches import END_OF_SAMPLES
from heimdall_pipelines.store.committed_parameters import PARAMETERS
from heimdall_pipelines.store.dataset_snapshot import DatasetSnapshot
from heimdall_pipelines.store.digests import EMPTY_ROOT, Edit

_OF_PARAMETERS = frozenset({*PARAMETERS, "parameters_digest"})  # another check's subject


def check_parameters(snapshot: DatasetSnapshot, found: Findings) -> None:
    """Compare the frozen parameters in the dataset's row with the copy that it was created with."""
    outcome, state = found.outcomes["parameters_as_created"], snapshot.parameters
    outcome.numbers |= {"parameters": len(PARAMETERS), "copies": state.num_copies}
    found.edited_parameters = dict(state.edited)
    found.parameters_are_as_created = state.are_as_created
    for problem in state.problems:
        outcome.problem(problem)


def check_committed(snapshot: DatasetSnapshot, found: Findings) -> None:
    """Compare the dataset's row, every batch's row, and the roots over their rows, with what was committed."""
    outcome = found.outcomes["rows_as_committed"]
    edit = snapshot.dataset_edit()
    if edit is not None:
        columns = tuple(name for name in edit.columns if name not in _OF_PARAMETERS)
        if columns or not edit.has_digest:
            outcome.problem(f"dataset: {Edit(columns, edit.has_digest)}")
    if not snapshot.root_agrees():
        outcome.problem("dataset: its root is not that of its batches: a batch was added, removed or edited")
    roots = snapshot.roots_now(0, END_OF_SAMPLES)
    for batch_no, its_edit, root in snapshot.batch_edits():
        _check_batch(found, batch_no, its_edit, root, roots.get(batch_no, EMPTY_ROOT))
    since = snapshot.digests_since()
    if since is not None:
        outcome.note = f"rows of before {since:%Y-%m-%d %H:%M:%S} UTC have the digests of what they were then"


def check_committed_batch(snapshot: DatasetSnapshot, found: Findings, batch_no: int) -> None:
    """Compare one batch's row and root with what was committed."""
    span = snapshot.dataset.grid.whole_batch(batch_no)
    root_now = snapshot.roots_now(span.first_sample_idx, span.end_sample_idx).get(batch_no, EMPTY_ROOT)
    for number, edit, root in snapshot.batch_edits():
        if number == batch_no:
            _check_batch(found, batch_no, edit, root, root_now)


def _check_batch(found: Findings, batch_no: int, edit: Edit | None, root: bytes | None, root_now: bytes) -> None:
    outcome = found.outcomes["rows_as_committed"]
    outcome.count("batches")
    if edit is not None:
        outcome.problem(f"batch {batch_no}: {edit}")
    if root != root_now:
        outcome.problem(f"batch {batch_no}: its root is not that of its rows: a row was added, removed or replaced")
    if edit is not None or root != root_now:
        found.edited_batches.add(batch_no)
    if edit is not None and root_now != EMPTY_ROOT:
        found.miscounted.add(batch_no)  # a repair counts it again
