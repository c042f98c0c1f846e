"""`heimdall dataset iq` and `dataset summary`: files of regenerated IQ, and pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.arguments import DatasetName, Folder
from heimdall_pipelines.cli.console import errors, output, table
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.files import write_file

if TYPE_CHECKING:
    from rich.console import RenderableType

    from heimdall_pipelines.datasets.regenerating import RegeneratedIq


def iq(
    name: DatasetName,
    sample_idx: Annotated[
        int, typer.Argument(help="0 to the dataset's total minus 1; need not be stored or generated yet")
    ],
    folder: Folder,
    rx: Annotated[
        list[str] | None, typer.Option(help="Receiver; may be repeated; default: all receivers of the sample")
    ] = None,
) -> None:
    """Regenerate the IQ of a sample, write it as SigMF, and compare it with the stored IQ."""
    from heimdall_pipelines.datasets.regenerating import regenerate_iq, write_iq
    from heimdall_pipelines.store.datasets import get_dataset

    rows = table("receiver", "samples", "file", "stored")
    problems = []
    with stores() as opened:
        num_samples = get_dataset(opened.database, name).spec.num_iq_samples
        for regenerated in regenerate_iq(opened, name, sample_idx, rx or ()):
            _, meta = write_iq(folder, regenerated)
            rows.add_row(regenerated.rx_id, str(num_samples), meta.name, _compared(regenerated))
            if regenerated.stored is not None and regenerated.stored.problem is not None:
                problems.append(regenerated.stored.problem)
    output.print(f"sample {sample_idx} of {name}, written to {folder}:")
    output.print(rows)
    for problem in problems:
        errors.print(f"  - {problem}")
    if problems:
        raise typer.Exit(1)


def summary(name: DatasetName, folder: Folder) -> None:
    """Write a dataset's pictures as PNG, and show the errors of its estimates and of the baselines."""
    from heimdall_pipelines.cli.dataset_tables import print_baselines, print_errors
    from heimdall_pipelines.datasets.summary import summarise_dataset
    from heimdall_pipelines.datasets.summary_pictures import summary_pictures  # matplotlib takes a second to load
    from heimdall_pipelines.terrain.ground import terrain_if_there

    with stores() as opened:
        made = summarise_dataset(opened.database, name)
        terrain = terrain_if_there(made.dataset.terrain_tiles, opened.objects)
    output.print(
        f"{name}: {made.counts.features} samples, {made.attempts} scenes drawn, {made.acceptance:.1%} of them accepted"
    )
    print_errors(made.errors)
    if made.baselines is not None:
        print_baselines(made.baselines)
    for title, png in summary_pictures(made, terrain).items():
        write_file(folder / f"{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.png", png)


def _compared(regenerated: RegeneratedIq) -> RenderableType:
    from rich.text import Text

    stored = regenerated.stored
    if stored is None:
        return "no"
    if not stored.acceptable:
        return Text("yes, DIFFERENT", style="red")
    if stored.identical:
        return "yes, identical"
    return f"yes, within {stored.relative_difference:.1g} of the RMS"
