"""`heimdall dataset create`, `expand`, `shrink` and `make`: requests of samples, and their generation here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heimdall_pipelines.cli.arguments import DatasetName, NumWorkers
from heimdall_pipelines.cli.confirming import confirm_growth
from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.dataset_options import with_spec_options
from heimdall_pipelines.cli.environment import stores

if TYPE_CHECKING:
    import dagster as dg

    from heimdall_pipelines.datasets.requesting import RequestOutcome
    from heimdall_pipelines.store.datasets import Dataset
    from heimdall_pipelines.store.stores import Stores

LARGE_GROWTH = 10  # times the present size: above it a person is asked

NumSamples = Annotated[int, typer.Option(help="Total number of samples of the dataset")]
Local = Annotated[bool, typer.Option("--local", help="Generate the missing batches in this process, not by the daemon")]
Yes = Annotated[
    bool, typer.Option("--yes", help="Don't ask before an expansion to more than ten times the present total")
]


@with_spec_options
def create(
    name: Annotated[str, typer.Argument(help="Name of the dataset: a-z, 0-9 and single - or _ between them")],
    num_samples: NumSamples,
    parameters: Mapping[str, Any],
    seed: Annotated[
        int | None, typer.Option(help="Determines all samples, with the parameters; default: random, recorded")
    ] = None,
    local: Local = False,
    workers: NumWorkers = None,
    yes: Yes = False,
) -> None:
    """Create a dataset, or expand an existing one to a larger total.

    The same total changes nothing; a larger total expands the dataset.
    Parameters that are not given have their defaults; those of an existing dataset do not change.
    """
    from heimdall_pipelines.datasets.requesting import request_dataset
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.datasets import find_living_dataset

    def request(opened: Stores) -> RequestOutcome:
        sync_network(opened.database, load_network())
        existing = find_living_dataset(opened.database, name)
        if existing is not None:
            _ask_if_large(existing, num_samples, yes=yes)
        return request_dataset(opened, name, target_num_samples=num_samples, parameters=parameters, seed=seed)

    _request(request, local, workers)


def expand(
    name: DatasetName,
    by: Annotated[int | None, typer.Option(help="Samples to add")] = None,
    to: Annotated[
        int | None, typer.Option(help="New total number of samples; repeating the command changes nothing")
    ] = None,
    local: Local = False,
    workers: NumWorkers = None,
    yes: Yes = False,
) -> None:
    """Add samples to a dataset; existing samples and all parameters do not change.

    An expansion to more than ten times the present total shows its cost and asks first.
    To take one back: heimdall dataset shrink.
    """
    from heimdall_pipelines.datasets.requesting import expand_dataset, request_dataset
    from heimdall_pipelines.store.datasets import get_living_dataset

    if (by is None) == (to is None):
        raise typer.BadParameter("either --by N or --to TOTAL is expected")

    def request(opened: Stores) -> RequestOutcome:
        present = get_living_dataset(opened.database, name)  # an unknown name is an error, not a new dataset
        _ask_if_large(present, to if to is not None else present.target_num_samples + (by or 0), yes=yes)
        if by is not None:
            return expand_dataset(opened, name, by)
        return request_dataset(opened, name, target_num_samples=to)

    _request(request, local, workers)


def shrink(
    name: DatasetName,
    to: Annotated[int, typer.Option(help="New total number of samples, not below the samples that exist")],
) -> None:
    """Take an expansion back: lower the total of a dataset. Samples that exist are never deleted.

    Runs of batches that are no longer wanted are cancelled.
    """
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.cli.dataset_partitions import forget_batches
    from heimdall_pipelines.cli.dataset_tables import print_counts
    from heimdall_pipelines.datasets.requesting import shrink_dataset

    with stores() as opened, dagster_instance() as instance:
        outcome = shrink_dataset(opened, name, to)
        num_batches = forget_batches(instance, outcome)
        output.print(
            f"shrunk: dataset {name} from {outcome.num_samples_before} to {to} samples; "
            f"{num_batches} batches that were not generated are no longer wanted"
        )
        print_counts(opened, outcome.dataset)


def make(name: DatasetName, workers: NumWorkers = None) -> None:
    """Generate a dataset's missing batches in this process."""
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load

    with stores() as opened, dagster_instance() as instance:
        _make(opened, instance, name, workers)


def _request(request: Callable[[Stores], RequestOutcome], local: bool, workers: int | None) -> None:
    """Request samples, then generate them, or report the state of the daemon."""
    if workers is not None and not local:
        raise typer.BadParameter("--workers requires --local")
    from heimdall_pipelines.cli.dagster_instance import (  # Dagster takes a second to load
        daemon_heartbeat_age_s,
        dagster_instance,
    )
    from heimdall_pipelines.cli.dataset_making import report_request

    with stores() as opened, dagster_instance() as instance:
        outcome = request(opened)
        report_request(instance, outcome)
        if local:
            _make(opened, instance, outcome.dataset.name, workers)
        else:
            _print_handed_over(opened, outcome.dataset, daemon_heartbeat_age_s(instance))


def _make(opened: Stores, instance: dg.DagsterInstance, name: str, workers: int | None) -> None:
    from heimdall_pipelines.cli.dataset_making import make_missing
    from heimdall_pipelines.cli.dataset_tables import print_counts
    from heimdall_pipelines.datasets.workers import num_workers_wanted
    from heimdall_pipelines.store.datasets import get_dataset

    make_missing(opened, instance, name, workers or num_workers_wanted())
    print_counts(opened, get_dataset(opened.database, name))


def _print_handed_over(opened: Stores, dataset: Dataset, heartbeat_age_s: float | None) -> None:
    from heimdall_pipelines.cli.dataset_tables import in_batches
    from heimdall_pipelines.store.batches import list_batches

    missing = dataset.grid.missing(list_batches(opened.database, dataset.id))
    if not missing:
        output.print(f"all {dataset.target_num_samples} samples exist: heimdall dataset show {dataset.name}")
    elif heartbeat_age_s is not None:
        output.print(
            f"The Dagster daemon (last heartbeat {heartbeat_age_s:.0f} s ago) generates {in_batches(len(missing))}. "
            f"Progress: heimdall dataset show {dataset.name}, or the Dagster UI"
        )
    else:
        output.print(
            f"No Dagster daemon is running to generate {in_batches(len(missing))}. Start one: heimdall dev; "
            f"or generate them in this process: heimdall dataset make {dataset.name}"
        )


def _ask_if_large(dataset: Dataset, target_num_samples: int, *, yes: bool) -> None:
    """Ask before a dataset grows to more than ten times its present size, unless the answer was given by ``--yes``."""
    from heimdall_pipelines.datasets.requesting import growth_cost

    before = dataset.target_num_samples
    if yes or target_num_samples <= LARGE_GROWTH * before:
        return
    times = f"{target_num_samples / before:.0f} times"
    what = f"dataset {dataset.name}, from {before} to {target_num_samples} samples, {times} its size"
    confirm_growth(what, growth_cost(dataset, target_num_samples))
