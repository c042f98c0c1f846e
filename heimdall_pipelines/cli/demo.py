"""`heimdall demo`: all steps once: imported and live recordings, features, checks, a position, a synthetic dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.errors import HeimdallError

if TYPE_CHECKING:
    from heimdall_pipelines.store.stores import Stores

STATIONS_FILE = "stations.yaml"
DATASET = "demo"
DATASET_SEED = 145_000  # any value: every demonstration shows the same samples
DATASET_TOTALS = (50, 70)  # created, then expanded


class NoRecordingsError(HeimdallError):
    """The folder has no recording."""


def demo(
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of recordings, one file per station; default: simulated recordings")
    ] = None,
) -> None:
    """Demonstrate everything: import, locate and record sessions; generate and repair a dataset.

    The recording is from simulated receivers. No input is needed.
    """
    from heimdall_pipelines.cli.demo_recording import record_from_simulated_receivers
    from heimdall_pipelines.cli.demo_repair import lose_and_repair_an_object
    from heimdall_pipelines.cli.extraction import (  # Dagster takes a second to load
        extract_now,
        materialize_stations,
        print_checks,
    )
    from heimdall_pipelines.cli.session_importing import import_files
    from heimdall_pipelines.cli.session_tables import print_import, print_stations
    from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions
    from heimdall_pipelines.stations.network import DEFAULT_FILE, load_network, sync_network
    from heimdall_pipelines.store.sessions import get_session

    with stores() as opened:
        files, positions = _folder(recordings) if recordings else (_simulated_files(opened), [])
        sync_network(opened.database, load_network(DEFAULT_FILE, *positions))
        options = ImportOptions(known_source=_known_source(opened, files[0]))
        report = import_files(opened, [ImportFile(path) for path in files], options, positions)
        print_import(report)
        materialize_stations()
        outcome = extract_now(opened, get_session(opened.database, report.session_id))
        output.print(f"\nRows of measurement_features (known source: {options.known_source or 'none'}):")
        print_stations(opened, report.session_id)
        print_checks(outcome)
        located = _locate(opened, report.slug)
        output.print("\nA session from three simulated receivers, a new one each time:\n")
        is_recorded = record_from_simulated_receivers(opened)
        output.print("A synthetic dataset with known truth:\n")
        dataset_agrees = _make_dataset(opened)
        output.print("\nLoss of an object, and its repair:\n")
        is_repaired = lose_and_repair_an_object(opened, DATASET)
    if not (outcome.passed and is_recorded and dataset_agrees and is_repaired):
        raise typer.Exit(1)
    output.print(f"\nThe session of the imported recordings: {located}")
    output.print(f"A report of it: heimdall session report {report.slug} -o reports")
    output.print("To see the results in the Dagster UI: make dev")


def _locate(opened: Stores, slug: str) -> str:
    """Locate the session's transmitter, and say how well; too few stations, or none with a clock, cannot locate."""
    from heimdall_pipelines.cli.session_locating import print_position
    from heimdall_pipelines.rf.positioning import PositionError
    from heimdall_pipelines.sessions.locating import locate_session
    from heimdall_pipelines.sessions.session_position import LocateOptions, NotLocatableError

    output.print("Position of its transmitter, from the time differences between the stations:")
    try:
        position = locate_session(opened, slug, LocateOptions())
    except (NotLocatableError, PositionError) as error:
        output.print(f"not located: {error}")
        return "not located"
    print_position(position)
    place = f"located at {position.fix.latitude:.5f}, {position.fix.longitude:.5f}"
    if position.distance_to_source_km is None or position.session.known_source is None:
        return place
    return f"{place}, {position.distance_to_source_km * 1e3:.0f} m from {position.session.known_source.name}"


def _make_dataset(opened: Stores) -> bool:
    """Create a dataset, then expand it; True if all counts agree."""
    from heimdall_pipelines.cli.dagster_instance import dagster_instance
    from heimdall_pipelines.cli.dataset_making import make_missing, report_request
    from heimdall_pipelines.cli.dataset_tables import print_counts
    from heimdall_pipelines.datasets.limits import NUM_KEPT_IQ
    from heimdall_pipelines.datasets.requesting import request_dataset
    from heimdall_pipelines.datasets.workers import num_workers_wanted
    from heimdall_pipelines.store.datasets import find_dataset, get_dataset

    dataset = find_dataset(opened.database, DATASET)
    if dataset is not None and dataset.num_samples >= DATASET_TOTALS[-1]:
        output.print(f"dataset {DATASET} has {dataset.num_samples} samples already; nothing changed")
    else:
        with dagster_instance() as instance:
            for total in DATASET_TOTALS:
                if dataset is None or dataset.target_num_samples < total:
                    seed = DATASET_SEED if dataset is None else None
                    outcome = request_dataset(opened, DATASET, target_num_samples=total, seed=seed)
                    report_request(instance, outcome)
                    dataset = outcome.dataset
                make_missing(opened, instance, DATASET, num_workers_wanted())
    dataset = get_dataset(opened.database, DATASET)
    counts = print_counts(opened, dataset)
    # It may have been expanded since.
    agrees = counts.features == dataset.num_samples and counts.iq_samples == min(dataset.num_samples, NUM_KEPT_IQ)
    output.print("the counts agree" if agrees else "the counts DISAGREE", style=None if agrees else "red")
    return agrees


def _simulated_files(opened: Stores) -> list[Path]:
    from heimdall_pipelines.sessions import example
    from heimdall_pipelines.settings import load_local_settings
    from heimdall_pipelines.stations.network import load_network, sync_network

    network = load_network()
    sync_network(opened.database, replace(network, known_sources=(*network.known_sources, example.SOURCE)))
    return example.write_example_recordings(load_local_settings().home.resolve() / "example", network)


def _folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Recordings of a folder, and its stations file, if any."""
    from heimdall_pipelines.formats.file_formats import self_describing_suffixes

    if not folder.is_dir():
        raise NoRecordingsError(f"{folder}: there is no such folder")
    suffixes = [suffix for suffix in self_describing_suffixes() if suffix != ".sigmf-data"]  # named by its .sigmf-meta
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    described = {path.stem for path in files if path.suffix == ".sigmf-meta"}
    files = [path for path in files if path.suffix != ".npy" or path.stem not in described]
    if not files:
        raise NoRecordingsError(f"{folder}: contains no recording ({', '.join(suffixes)})")
    return files, [path for path in [folder / STATIONS_FILE] if path.exists()]


def _known_source(opened: Stores, file: Path) -> str | None:
    """Return the name of the known source on the recording's frequency."""
    from heimdall_pipelines.formats.recording import open_recording
    from heimdall_pipelines.sessions.importing import FREQUENCY_TOLERANCE_HZ
    from heimdall_pipelines.store.known_sources import list_known_sources

    frequency_hz = open_recording(file).frequency_hz
    for source in list_known_sources(opened.database):
        if abs(source.frequency_hz - frequency_hz) <= FREQUENCY_TOLERANCE_HZ:
            return source.name
    return None
