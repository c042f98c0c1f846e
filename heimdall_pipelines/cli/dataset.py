"""`heimdall dataset`: synthetic datasets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heimdall_pipelines.cli import dataset_releasing, dataset_shrinking, reporting
from heimdall_pipelines.cli.confirming import confirm_deletion
from heimdall_pipelines.cli.console import errors, output, table
from heimdall_pipelines.cli.dataset_options import with_spec_options
from heimdall_pipelines.cli.environment import reader, reclaim_space, stores
from heimdall_pipelines.cli.lazy_commands import SectionedCommand
from heimdall_pipelines.cli.validation_output import exit_2_on_outage, exit_code
from heimdall_pipelines.datasets.limits import MAX_WORKERS
from heimdall_pipelines.errors import HeimdallError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from heimdall_pipelines.datasets.regenerating import RegeneratedIq
    from heimdall_pipelines.datasets.requesting import RequestOutcome
    from heimdall_pipelines.model.batches import Batch
    from heimdall_pipelines.store.datasets import Dataset
    from heimdall_pipelines.store.stores import Stores

app = typer.Typer(help="Synthetic datasets: simulated transmissions with known truth.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The dataset's name, such as night")]
NumSamples = Annotated[int, typer.Option(help="Total number of samples of the dataset")]
Local = Annotated[bool, typer.Option("--local", help="Generate the missing batches in this process, not by the daemon")]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        min=1, max=MAX_WORKERS, help="Processes that generate samples; default: HEIMDALL_WORKERS, else one per core"
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Don't ask before an expansion to more than ten times the present total")
]
Checksums = Annotated[
    bool,
    typer.Option("--checksums", help="Read every object, compare its SHA-256, and regenerate 1 % of the samples"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Output folder; created if it does not exist")]


class NotWrittenError(HeimdallError):
    """A file cannot be written."""


@app.command("create", cls=SectionedCommand)
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
    from heimdall_pipelines.cli.dataset_resizing import ask_if_large
    from heimdall_pipelines.datasets.requesting import request_dataset
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.datasets import find_living_dataset

    def request(opened: Stores) -> RequestOutcome:
        sync_network(opened.database, load_network())
        existing = find_living_dataset(opened.database, name)
        if existing is not None:
            ask_if_large(existing, num_samples, yes=yes)
        return request_dataset(opened, name, target_num_samples=num_samples, parameters=parameters, seed=seed)

    _request(request, local, workers)


@app.command("expand")
def expand(
    name: Name,
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
    from heimdall_pipelines.cli.dataset_resizing import ask_if_large
    from heimdall_pipelines.datasets.requesting import expand_dataset, request_dataset
    from heimdall_pipelines.store.datasets import get_living_dataset

    if (by is None) == (to is None):
        raise typer.BadParameter("either --by N or --to TOTAL is expected")

    def request(opened: Stores) -> RequestOutcome:
        present = get_living_dataset(opened.database, name)  # an unknown name is an error, not a new dataset
        ask_if_large(present, to if to is not None else present.target_num_samples + (by or 0), yes=yes)
        if by is not None:
            return expand_dataset(opened, name, by)
        return request_dataset(opened, name, target_num_samples=to)

    _request(request, local, workers)


app.command("shrink")(dataset_shrinking.shrink)
app.command("release")(dataset_releasing.release)
app.command("export")(dataset_releasing.export)
app.command("verify")(dataset_releasing.verify)
app.command("baseline")(dataset_releasing.baseline)
app.command("report")(reporting.dataset_report)


@app.command("make")
def make(name: Name, workers: NumWorkers = None) -> None:
    """Generate a dataset's missing batches in this process."""
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.cli.dataset_making import make_missing
    from heimdall_pipelines.cli.tables import print_counts
    from heimdall_pipelines.datasets.workers import num_workers_wanted
    from heimdall_pipelines.store.datasets import get_dataset

    with stores() as opened, dagster_instance() as instance:
        make_missing(opened, instance, name, workers or num_workers_wanted())
        print_counts(opened, get_dataset(opened.database, name))


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
                f"{dataset.created_at:%Y-%m-%d %H:%M:%S}",
            )
    if datasets:
        output.print(rows)
    else:
        output.print("no datasets; create one: heimdall dataset create NAME --num-samples N")


@app.command("show")
def show(name: Name) -> None:
    """Show a dataset: parameters, existing and missing samples, and reasons."""
    from heimdall_pipelines.cli.tables import print_batches, print_counts, print_spec
    from heimdall_pipelines.store.batches import list_batches
    from heimdall_pipelines.store.datasets import get_dataset

    with stores() as opened:
        dataset = get_dataset(opened.database, name)
        output.print(
            f"[bold]{name}[/]: {dataset.dataset_type}, seed {dataset.seed}, {len(dataset.receivers)} receivers, "
            f"generator version {dataset.generator_version}, created {dataset.created_at:%Y-%m-%d %H:%M:%S} UTC",
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
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation")] = False,
    with_releases: Annotated[
        bool, typer.Option("--with-releases", help="Delete also a dataset that has releases, with them")
    ] = False,
) -> None:
    """Delete a dataset: its rows, its IQ objects and its partitions in Dagster."""
    from heimdall_pipelines.cli.dagster_instance import dagster_instance  # Dagster takes a second to load
    from heimdall_pipelines.cli.dataset_making import remove_partitions
    from heimdall_pipelines.datasets.deleting import delete_dataset
    from heimdall_pipelines.store.datasets import count_rows, find_dataset, not_found

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
    name: Name,
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
        if not apply and features:
            dataset_integrity.show_feature_repair(opened, name, as_json=as_json)
            return
        if not apply:
            dataset_integrity.repair(opened, name, checksums=checksums, also=sample or (), as_json=as_json)
            return
        with dagster_instance() as instance:
            if features:
                num_workers = workers or num_workers_wanted()
                code = dataset_integrity.repair_features_and_report(
                    opened, instance, name, num_workers, as_json=as_json
                )
                raise typer.Exit(code)
            validation = dataset_integrity.repair_and_report(
                opened,
                instance,
                name,
                workers or num_workers_wanted(),
                checksums=checksums,
                also=sample or (),
                restore=restore_parameters,
                overwrite=overwrite is not None,
                as_json=as_json,
            )
    raise typer.Exit(exit_code(validation.outcomes))


@app.command("iq")
def iq(
    name: Name,
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


@app.command("summary")
def summary(name: Name, folder: Folder) -> None:
    """Write a dataset's pictures as PNG, and show the errors of its estimates and of the baselines."""
    from heimdall_pipelines.cli.tables import print_baselines, print_errors
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
        path = folder / f"{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        except OSError as error:
            raise NotWrittenError(f"{path} could not be written: {error}") from error
        output.print(f"written: {path}")


def _request(request: Callable[[Stores], RequestOutcome], local: bool, workers: int | None) -> None:
    """Request samples, then generate them, or report the state of the daemon."""
    from heimdall_pipelines.cli.tables import print_counts
    from heimdall_pipelines.datasets.workers import num_workers_wanted
    from heimdall_pipelines.store.datasets import get_dataset

    if workers is not None and not local:
        raise typer.BadParameter("--workers requires --local")
    from heimdall_pipelines.cli.dagster_instance import (  # Dagster takes a second to load
        daemon_heartbeat_age_s,
        dagster_instance,
    )
    from heimdall_pipelines.cli.dataset_making import make_missing, report_request

    with stores() as opened, dagster_instance() as instance:
        outcome = request(opened)
        report_request(instance, outcome)
        name = outcome.dataset.name
        if local:
            make_missing(opened, instance, name, workers or num_workers_wanted())
            print_counts(opened, get_dataset(opened.database, name))
        else:
            _print_handed_over(opened, outcome.dataset, daemon_heartbeat_age_s(instance))


def _print_handed_over(opened: Stores, dataset: Dataset, heartbeat_age_s: float | None) -> None:
    from heimdall_pipelines.cli.tables import in_batches
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


def _health(dataset: Dataset) -> str:
    """Describe the result of the last validation."""
    if dataset.last_validated_at is None:
        return f"never validated: heimdall dataset validate {dataset.name}"
    return (
        f"{dataset.health_status} at the last validation, {dataset.last_validated_at:%Y-%m-%d %H:%M:%S} UTC; "
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
