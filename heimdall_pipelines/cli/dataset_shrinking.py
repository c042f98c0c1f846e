"""`heimdall dataset shrink`: takes an expansion back."""

from typing import Annotated

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.environment import stores


def shrink(
    name: Annotated[str, typer.Argument(help="The dataset's name, such as night")],
    to: Annotated[int, typer.Option(help="New total number of samples, not below the samples that exist")],
) -> None:
    """Take an expansion back: lower the total of a dataset. Samples that exist are never deleted.

    Runs of batches that are no longer wanted are cancelled.
    """
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.cli.dataset_resizing import forget_batches
    from heimdall_pipelines.cli.tables import print_counts
    from heimdall_pipelines.datasets.requesting import shrink_dataset

    with stores() as opened, dagster_instance() as instance:
        outcome = shrink_dataset(opened, name, to)
        num_batches = forget_batches(instance, outcome)
        output.print(
            f"shrunk: dataset {name} from {outcome.num_samples_before} to {to} samples; "
            f"{num_batches} batches that were not generated are no longer wanted"
        )
        print_counts(opened, outcome.dataset)
