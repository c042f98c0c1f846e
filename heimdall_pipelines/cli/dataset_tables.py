"""What several commands print of datasets."""

from collections import Counter
from collections.abc import Iterable, Sequence

from heimdall_pipelines.cli.console import errors, output, table
from heimdall_pipelines.datasets.baseline_summary import HEADINGS, BaselineSummary
from heimdall_pipelines.datasets.generating import ATTEMPTS_PER_SAMPLE, MAX_ATTEMPTS, rejection_table
from heimdall_pipelines.datasets.requesting import RequestOutcome
from heimdall_pipelines.datasets.summary import EstimateError
from heimdall_pipelines.model.batches import Batch, total_rejections
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.store.dataset_samples import DatasetCounts, count_rows
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.stores import Stores

MAX_BATCHES_SHOWN = 20


def print_request(outcome: RequestOutcome) -> None:
    """Print the result of a request."""
    dataset = outcome.dataset
    total = dataset.target_num_samples
    if outcome.acceptance is not None:
        output.print(
            f"created: dataset {dataset.name}, {dataset.dataset_type}, {total} samples in "
            f"{in_batches(dataset.grid.num_batches)}, {len(dataset.receivers)} receivers, seed {dataset.seed}; "
            f"{outcome.acceptance.ratio:.0%} of {outcome.acceptance.attempts} drawn scenes are accepted"
        )
    elif outcome.num_samples_added:
        output.print(
            f"expanded: dataset {dataset.name} from {outcome.num_samples_before} to {total} samples in "
            f"{in_batches(dataset.grid.num_batches)}; its parameters and seed do not change"
        )
    else:
        output.print(f"nothing changed: the total of dataset {dataset.name} is already {total} samples")
    for note in outcome.notes:
        output.print(f"  - {note}")
    if outcome.acceptance is not None and outcome.acceptance.rejections:
        output.print(outcome.acceptance.table())
    if outcome.warning is not None:
        errors.print_labelled("Warning:", "yellow", outcome.warning)


def print_spec(dataset: Dataset) -> None:
    """Show the frozen parameters of a dataset."""
    rows = table("parameter", "value", "meaning")
    rows.columns[-1].no_wrap = True  # one line each; the full text is in: heimdall dataset create --help
    for name, field in DatasetSpec.model_fields.items():
        if name in dataset.spec_json:  # may be missing if another version created the dataset
            rows.add_row(name, _value(dataset.spec_json[name]), field.description)
    output.print(rows)


def print_counts(stores: Stores, dataset: Dataset) -> DatasetCounts:
    """Print the number of rows and objects of a dataset, counted in the database."""
    counts = count_rows(stores.database, dataset.id)
    output.print(
        f"committed: {dataset.num_samples} of {dataset.target_num_samples} samples; counted: "
        f"{counts.features} feature rows, {counts.iq_samples} samples with IQ, {counts.iq_objects} IQ objects"
    )
    return counts


def print_batches(dataset: Dataset, batches: Sequence[Batch]) -> None:
    """Print a dataset's batches (of very many only the incomplete ones), and why they stopped."""
    missing = {span.batch_no for span in dataset.grid.missing(batches)}
    shown = batches
    if len(batches) > MAX_BATCHES_SHOWN:
        shown = [batch for batch in batches if batch.batch_no in missing][:MAX_BATCHES_SHOWN]
    rows = table("batch", "from sample", "committed", "scenes drawn", "rejected", "state")
    for batch in shown:
        state = "incomplete" if batch.batch_no in missing else "complete"
        rows.add_row(
            str(batch.batch_no),
            str(batch.first_sample_idx),
            str(batch.num_samples),
            str(batch.attempts),
            ", ".join(f"{reason} {number}" for reason, number in sorted(batch.rejections.items())),
            f"stopped: {batch.stopped_reason}" if batch.stopped_reason else state,
        )
    if shown:
        output.print(rows)
    if len(shown) < len(batches):
        output.print(_totals(batches, sum(batch.batch_no in missing for batch in batches)))
    for batch in [batch for batch in batches if batch.stopped_reason == MAX_ATTEMPTS][:1]:
        output.print(
            f"Batch {batch.batch_no} stopped: {ATTEMPTS_PER_SAMPLE} attempts per sample gave too few accepted scenes.\n"
            f"{rejection_table(batch.attempts, batch.rejections)}\n"
            "Parameters are frozen: create a dataset with weaker conditions (min_snr_db, min_receivers, max_gdop)"
        )


def print_errors(estimate_errors: Iterable[EstimateError]) -> None:
    """Print the errors of estimates."""
    rows = table("feature", "unit", "estimates", "bias", "RMSE", "worst", "compared")
    for error in estimate_errors:
        rows.add_row(
            error.feature,
            error.unit,
            str(error.num),
            f"{error.bias:.3g}",
            f"{error.rmse:.3g}",
            f"{error.worst:.3g}",
            error.note,
        )
    output.print(rows)


def print_baselines(baselines: BaselineSummary) -> None:
    """Print the errors of simple methods of location."""
    rows = table(*HEADINGS)
    for cells in baselines.cells():
        rows.add_row(*cells)
    output.print(rows)
    output.print(f"located: {baselines.note()}")


def in_batches(number: int) -> str:
    """Format a number of batches.

    >>> in_batches(1), in_batches(2)
    ('1 batch', '2 batches')
    """
    return "1 batch" if number == 1 else f"{number} batches"


def _totals(batches: Sequence[Batch], num_incomplete: int) -> str:
    rejections = Counter(total_rejections(batch.rejections for batch in batches))
    attempts = sum(batch.attempts for batch in batches)
    return (
        f"{len(batches)} batches, {f'{num_incomplete} incomplete' if num_incomplete else 'all complete'}; "
        f"{attempts} scenes drawn, {attempts - rejections.total()} accepted"
        + "".join(f", {reason} {number}" for reason, number in rejections.most_common())
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
