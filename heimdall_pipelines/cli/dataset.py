"""`heimdall dataset`: synthetic datasets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli import dataset_files, dataset_releasing, dataset_requesting, reporting
from heimdall_pipelines.cli.arguments import AsJson, DatasetName, DeleteAtOnce, NumWorkers
from heimdall_pipelines.cli.confirming import confirm_deletion
from heimdall_pipelines.cli.console import output, table, time_text
from heimdall_pipelines.cli.environment import reader, reclaim_space, stores
from heimdall_pipelines.cli.exits import exit_2_on_outage
from heimdall_pipelines.cli.lazy_commands import SectionedCommand
from heimdall_pipelines.cli.validation_output import exit_code

if TYPE_CHECKING:
    from heimdall_pipelines.model.batches import Batch
    from heimdall_pipelines.store.datasets import Dataset

app = typer.Typer(help="Synthetic datasets: simulated transmissions with known truth.", no_args_is_help=True)

Checksums = Annotated[
    bool,
    typer.Option("--checksums", help="Read every object, compare its SHA-256, and regenerate 1 % of the samples"),
]

app.command("create", cls=SectionedCommand)(dataset_requesting.create)
app.command("expand")(dataset_requesting.expand)
app.command("shrink")(dataset_requesting.shrink)
app.command("release")(dataset_releasing.release)
app.command("export")(dataset_releasing.export)
app.command("verify")(dataset_releasing.verify)
app.command("baseline")(dataset_releasing.baseline)
app.command("report")(reporting.dataset_report)
app.command("make")(dataset_requesting.make)


@app.command("list")
def list_() -> None:
    """Show all datasets and their progress."""
    from heimdall_pipelines.store.batches import list_batches
    from heimdall_pipelines.store.datasets import list_datasets

    rows = table("name", "type", "samples", "of", "batches missing", "health", "seed", "created, UTC")
    with reader() as database:
        datasets = list_datasets(database)
        for dataset in datasets:
            missing = dataset.grid.missing(list_batches(database, dataset.id))
            rows.add_row(
                dataset.name,
                dataset.dataset_type,
                str(dataset.num_samples),
                str(dataset.target_num_samples),
                f"{len(missing)} of {dataset.grid.num_batches}" if missing else "none",
                dataset.health_status if dataset.deletion_began_at is None else "being deleted",
                str(dataset.seed),
                time_text(dataset.created_at),
            )
    if datasets:
        output.print(rows)
    else:
        output.print("no datasets; create one: heimdall dataset create NAME --num-samples N")


@app.command("show")
def show(name: DatasetName) -> None:
    """Show a dataset: parameters, existing and missing samples, and reasons."""
    from heimdall_pipelines.cli.dataset_tables import print_batches, print_counts, print_spec
    from heimdall_pipelines.store.batches import list_batches
    from heimdall_pipelines.store.datasets import get_dataset

    with stores() as opened:
        dataset = get_dataset(opened.database, name)
        output.print(
            f"[bold]{name}[/]: {dataset.dataset_type}, seed {dataset.seed}, {len(dataset.receivers)} receivers, "
            f"generator version {dataset.generator_version}, created {time_text(dataset.created_at)} UTC",
            markup=True,
        )
        print_spec(dataset)
        ground = ", ".join(sha256[:12] for sha256 in dataset.terrain_tiles)
        output.print(f"terrain tiles: {ground or 'none, a smooth Earth'}; see: heimdall terrain list")
        print_counts(opened, dataset)
        batches = list_batches(opened.database, dataset.id)
        print_batches(dataset, batches)
        output.print(_health(dataset))
    output.print(_what_next(dataset, batches))


@app.command("delete")
def delete(
    name: DatasetName,
    yes: DeleteAtOnce = False,
    with_releases: Annotated[
        bool, typer.Option("--with-releases", help="Delete also a dataset that has releases, with them")
    ] = False,
) -> None:
    """Delete a dataset: its rows, its IQ objects and its partitions in Dagster."""
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.cli.dataset_partitions import remove_partitions
    from heimdall_pipelines.datasets.deleting import delete_dataset
    from heimdall_pipelines.store.dataset_samples import count_rows
    from heimdall_pipelines.store.datasets import find_dataset, not_found

    with stores() as opened, dagster_instance() as instance:
        dataset = find_dataset(opened.database, name)
        if dataset is None:
            if not remove_partitions(instance, name):
                raise not_found(name)
            output.print(f"dataset {name} was deleted before; its partitions in Dagster are removed now")
            return
        counts = count_rows(opened.database, dataset.id)
        what = f"dataset {name} with {counts.features} feature rows and {counts.iq_objects} IQ objects"
        if not yes:
            confirm_deletion(what, f"It can be regenerated from its parameters and seed {dataset.seed}")
        delete_dataset(opened, name, partial(remove_partitions, instance), with_releases=with_releases)
        space = reclaim_space() if counts.iq_objects else ""
    output.print(f"deleted: {what}{space}")


@app.command("validate")
def validate(
    name: Annotated[str | None, typer.Argument(help="The dataset's name, see: heimdall dataset list")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Validate all datasets, except those being deleted")] = False,
    checksums: Checksums = False,
    as_json: AsJson = False,
) -> None:
    """Compare a dataset's rows and objects with each other and with its seed, and store its health.

    Exit code 0: healthy, 1: there are issues, 2: it could not be validated.
    """
    from heimdall_pipelines.store.datasets import datasets_to_validate

    if (name is None) != all_:
        raise typer.BadParameter("either a dataset's name or --all is expected")
    from heimdall_pipelines.cli import dataset_integrity
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load

    with exit_2_on_outage(), stores() as opened, dagster_instance() as instance:
        if name is None:
            names = [one.name for one in datasets_to_validate(opened.database)]
            code = dataset_integrity.validate_many(opened, instance, names, checksums=checksums, as_json=as_json)
        else:
            code = dataset_integrity.validate_one(opened, instance, name, checksums=checksums, as_json=as_json)
    raise typer.Exit(code)


@app.command("repair")
def repair(
    name: DatasetName,
    apply: Annotated[bool, typer.Option("--apply", help="Execute the repair; default: only show the plan")] = False,
    checksums: Checksums = False,
    sample: Annotated[list[int] | None, typer.Option(help="Sample to regenerate in any case; may be repeated")] = None,
    features: Annotated[
        bool,
        typer.Option("--features", help="Only regenerate features of an older version; IQ does not change"),
    ] = False,
    restore_parameters: Annotated[
        bool,
        typer.Option(
            "--restore-parameters",
            help="First restore edited parameters, from the copy made when the dataset was created",
        ),
    ] = False,
    overwrite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Take edited parameters as the new ones, and write regenerated samples even if they are not what was "
            "committed; to confirm, give the dataset's name",
        ),
    ] = None,
    as_json: AsJson = False,
    workers: NumWorkers = None,
) -> None:
    """Repair a dataset: regenerate missing or damaged samples, correct counts, remove orphans.

    It first checks the dataset again. It fails while a batch of the dataset is being generated, and can be stopped and
    repeated at any time. Good rows and objects stay as they are; what is regenerated is written only if it is what was
    committed. With edited parameters it changes nothing, unless one of --restore-parameters and --overwrite is given.

    With --features it only updates rows of an older feature version: existing features of a row must agree with those
    regenerated from the seed; otherwise the row is not changed, but reported.
    """
    if features and (checksums or sample):
        raise typer.BadParameter("--features cannot be combined with --checksums or --sample")
    if (restore_parameters or overwrite is not None) and (features or not apply):
        raise typer.BadParameter(
            "--restore-parameters and --overwrite need --apply, and cannot be combined with --features"
        )
    if restore_parameters and overwrite is not None:
        raise typer.BadParameter("--restore-parameters cannot be combined with --overwrite")
    if overwrite not in (None, name):
        raise typer.BadParameter(f"--overwrite {overwrite}: to confirm, give the dataset's name: --overwrite {name}")
    from heimdall_pipelines.cli import dataset_integrity
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.datasets.workers import num_workers_wanted

    with stores() as opened:
        if not apply:
            if features:
                dataset_integrity.show_feature_repair(opened, name, as_json=as_json)
            else:
                dataset_integrity.show_repair(opened, name, checksums=checksums, also=sample or (), as_json=as_json)
            return
        num_workers = workers or num_workers_wanted()
        with dagster_instance() as instance:
            if features:
                code = dataset_integrity.repair_features_and_report(
                    opened, instance, name, num_workers, as_json=as_json
                )
            else:
                validation = dataset_integrity.repair_and_report(
                    opened,
                    instance,
                    name,
                    num_workers,
                    checksums=checksums,
                    also=sample or (),
                    restore=restore_parameters,
                    overwrite=overwrite is not None,
                    as_json=as_json,
                )
                code = exit_code(validation.outcomes)
    raise typer.Exit(code)


app.command("iq")(dataset_files.iq)
app.command("summary")(dataset_files.summary)


def _health(dataset: Dataset) -> str:
    """Describe the result of the last validation."""
    if dataset.last_validated_at is None:
        return f"never validated: heimdall dataset validate {dataset.name}"
    return (
        f"{dataset.health_status} at the last validation, {time_text(dataset.last_validated_at)} UTC; "
        f"{(dataset.storage_size_bytes or 0) / 1e6:.1f} MB of rows and objects"
    )


def _what_next(dataset: Dataset, batches: Sequence[Batch]) -> str:
    """Describe what is missing, and the next command."""
    from heimdall_pipelines.datasets.samples import what_of_other_version
    from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION

    name = dataset.name
    if dataset.deletion_began_at is not None:
        return f"It is being deleted. To complete the deletion: heimdall dataset delete {name}"
    if dataset.generator_version != GENERATOR_VERSION:
        return f"This is generator version {GENERATOR_VERSION}. {what_of_other_version(dataset)}"
    missing = dataset.grid.missing(batches)
    if not missing:
        return f"complete. Next: heimdall dataset summary {name} -o FOLDER, heimdall dataset expand {name} --by N"
    num_missing = dataset.target_num_samples - dataset.num_samples
    found = f"missing: {num_missing} samples in {len(missing)} of {dataset.grid.num_batches} batches\n"
    stopped = {batch.batch_no for batch in batches if batch.stopped_reason}
    if all(span.batch_no in stopped for span in missing):
        return f"{found}A retry would stop again. To delete the dataset: heimdall dataset delete {name}"
    return (
        f"{found}The daemon (heimdall dev) generates those without a failed run; to generate all in this process: "
        f"heimdall dataset make {name}"
    )
