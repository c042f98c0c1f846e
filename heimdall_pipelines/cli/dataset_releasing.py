"""`heimdall dataset release`, `export`, `verify` and `baseline`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.arguments import DatasetName
from heimdall_pipelines.cli.console import output, show_progress
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.datasets.limits import MAX_WORKERS
from heimdall_pipelines.releases import require_pyarrow
from heimdall_pipelines.releases.licences import DEFAULT_LICENCE, LICENCES

if TYPE_CHECKING:
    from heimdall_pipelines.releases.verifying import Verification

Release = Annotated[
    str, typer.Argument(help="NAME: the dataset as it stands; NAME@VERSION: a release, such as night@1")
]
Force = Annotated[
    bool, typer.Option("--force", help="Also if the dataset is not healthy or is being written; the card says so")
]
_LICENCES = f"{', '.join(LICENCES)}, or a text file"


def release(
    name: DatasetName,
    version: Annotated[int | None, typer.Option(min=1, help="Version of the release; default: the next one")] = None,
    licence: Annotated[str, typer.Option(help=_LICENCES)] = DEFAULT_LICENCE,
    split_seed: Annotated[int, typer.Option(help="Seed of the splits")] = 0,
    force: Force = False,
) -> None:
    """Release the committed samples of a dataset: their root hash and splits are frozen.

    Later expansions and repairs do not change a release, and the dataset is only deleted with --with-releases.
    """
    require_pyarrow()
    from heimdall_pipelines.releases.releasing import release_dataset

    with stores() as opened:
        made = release_dataset(
            opened,
            name,
            version=version,
            licence=licence,
            split_seed=split_seed,
            force=force,
            progress=show_progress,
        )
    output.print(
        f"released: {name}@{made.version}, {made.num_samples} samples, splits {', '.join(made.splits)}\n"
        f"root {made.root.hex()}\n"
        f"To export it: heimdall dataset export {name}@{made.version} -o FOLDER"
    )


def export(
    release: Release,
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder; must not exist, or be empty")],
    iq: Annotated[
        str,
        typer.Option(help="IQ to write: none, stored, all (what is not stored is regenerated), or a number of samples"),
    ] = "none",
    format_: Annotated[str, typer.Option("--format", help="Format of the tables: parquet")] = "parquet",
    licence: Annotated[
        str | None, typer.Option(help=f"Of a dataset without release: {_LICENCES}; default: {DEFAULT_LICENCE}")
    ] = None,
    force: Force = False,
) -> None:
    """Write a dataset as Parquet files with IQ shards, data card, Croissant metadata and checksums.

    The folder appears when it is complete. Of a release it is the same to the byte each time.
    """
    require_pyarrow()
    from heimdall_pipelines.releases.exporting import export_dataset

    if format_ != "parquet":
        raise typer.BadParameter(f"--format {format_}: parquet is expected")
    with stores() as opened:
        report = export_dataset(opened, release, folder, iq=iq, licence=licence, force=force, progress=show_progress)
    rows = ", ".join(f"{num} rows of {table}" for table, num in report.rows.items())
    output.print(
        f"exported: {report.description.label} to {folder}, {rows}, {len(report.shards)} shards of IQ, "
        f"{report.size_bytes / 1e6:.1f} MB\nroot {report.description.root}"
    )


def verify(
    release: Annotated[str, typer.Argument(help="Folder of an export, which needs no server, or NAME@VERSION")],
    share: Annotated[str, typer.Option(help="Samples to regenerate from the seed, such as 1% or 0.01")] = "1%",
    root: Annotated[str | None, typer.Option(help="Root or root of truth that it is known by, in hexadecimal")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the choice of samples; default: random")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_WORKERS, help="Processes that regenerate samples; default: one per core"),
    ] = None,
) -> None:
    """Compare an export or a release with its checksums and root, and regenerate a random share of its samples.

    Exit code 0: nothing is wrong, 1: something was changed, which is named.
    """
    require_pyarrow()
    from heimdall_pipelines.datasets.workers import num_workers_wanted
    from heimdall_pipelines.releases.names import parse_release_name
    from heimdall_pipelines.releases.verifying import verify_export
    from heimdall_pipelines.releases.verifying_stored import verify_release

    part, num_workers = _share(share), workers or num_workers_wanted()
    folder = Path(release)
    wanted = parse_release_name(release) if not folder.exists() and "/" not in release else None
    if wanted is None or wanted.version is None:
        found = verify_export(
            folder, share=part, seed=seed, expected_root=root, num_workers=num_workers, progress=show_progress
        )
    else:
        with stores() as opened:
            found = verify_release(
                opened, wanted, share=part, seed=seed, num_workers=num_workers, progress=show_progress
            )
        if root is not None and root not in (found.root, found.truth_root):
            found.add(f"the root is {found.root}, {root} is expected")
    _print(found)
    raise typer.Exit(0 if found.passed else 1)


def baseline(
    release: Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or the folder of an export")],
    seed: Annotated[int, typer.Option(help="Of the models and of the choice of samples")] = 0,
    max_train: Annotated[int, typer.Option(min=10, help="Most training samples of a model")] = 100_000,
    max_tdoa: Annotated[int, typer.Option(min=1, help="Most test samples that are located by time differences")] = 2000,
) -> None:
    """Locate the test samples of every split by simple methods and show their errors.

    Those of a release are kept with it: its later exports have them in the card.
    """
    require_pyarrow()
    from heimdall_pipelines.releases.baseline_tables import baseline_table
    from heimdall_pipelines.releases.scoring import score_folder, score_release

    folder = Path(release)
    if folder.is_dir():
        report = score_folder(folder, seed=seed, max_train=max_train, max_tdoa=max_tdoa, progress=show_progress)
    else:
        with stores() as opened:
            report = score_release(
                opened, release, seed=seed, max_train=max_train, max_tdoa=max_tdoa, progress=show_progress
            )
    output.print(baseline_table(report.to_json()))


def _share(text: str) -> float:
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"--share {text}: a share such as 1% or 0.01 is expected") from error


def _print(found: Verification) -> None:
    for problem in found.problems:
        output.print(problem)
    for note in found.notes:
        output.print(note)
    files = f"{found.num_files} files, " if found.num_files else ""
    num = len(found.problems)
    verdict = "verified" if found.passed else f"{num} problem{'s' if num > 1 else ''}"
    output.print(
        f"{found.label}: {verdict}: {files}{found.num_samples} samples, {found.num_regenerated} of them regenerated"
    )
    if found.root is not None:
        output.print(f"root {found.root}")
    if found.truth_root is not None:
        output.print(f"root of truth {found.truth_root}")
