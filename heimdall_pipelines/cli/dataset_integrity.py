"""Validates and repairs datasets from the command line, and records the results in Dagster, for its UI and alerts."""

from collections.abc import Iterable, Sequence

import dagster as dg

from heimdall_pipelines.cli.console import output, show_progress
from heimdall_pipelines.cli.exits import EXIT_ISSUES
from heimdall_pipelines.cli.validation_output import (
    exit_code,
    print_json,
    print_outcomes,
    validate_one_by_one,
)
from heimdall_pipelines.datasets.feature_repair import FeatureRepair, plan_feature_repair, repair_features
from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.repair_plan import RepairPlan
from heimdall_pipelines.datasets.validation import DatasetValidation, validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.defs.check_reporting import report_checks
from heimdall_pipelines.defs.synthetic import add_partitions
from heimdall_pipelines.defs.synthetic_checks import evaluations
from heimdall_pipelines.store.stores import Stores


def validate_one(stores: Stores, instance: dg.DagsterInstance, name: str, *, checksums: bool, as_json: bool) -> int:
    """Validate a dataset and print the result; returns the exit code.

    Raises
    ------
    HeimdallError
        As of `validate_dataset`.
    """
    validation = validate_and_report(stores, instance, name, checksums=checksums)
    _print_result(validation, as_json=as_json)
    return exit_code(validation.outcomes)


def validate_many(
    stores: Stores, instance: dg.DagsterInstance, names: Iterable[str], *, checksums: bool, as_json: bool
) -> int:
    """Validate datasets as `validate_one_by_one` does; returns the exit code."""

    def validate(name: str) -> DatasetValidation:
        return validate_and_report(stores, instance, name, checksums=checksums)

    return validate_one_by_one(
        names, validate, _summary, what="dataset", names=lambda name: {"dataset": name}, as_json=as_json
    )


def validate_and_report(
    stores: Stores, instance: dg.DagsterInstance, name: str, *, checksums: bool = False, batches: Iterable[int] = ()
) -> DatasetValidation:
    """Validate a dataset, and record its checks in Dagster, with those of the given batches and of affected ones."""
    validation = validate_dataset(stores, name, checksums=checksums, progress=show_progress)
    add_partitions(instance, validation.dataset)
    report_checks(instance, list(evaluations(instance, stores, validation, batches)))
    return validation


def print_validation(validation: DatasetValidation) -> None:
    """Show a dataset's health and each check."""
    output.print(_summary(validation))
    print_outcomes(validation.outcomes)


def _print_result(
    validation: DatasetValidation, repaired: RepairPlan | FeatureRepair | None = None, *, as_json: bool
) -> None:
    if not as_json:
        print_validation(validation)
    elif repaired is None:
        print_json(validation.to_json())
    else:
        print_json({"repaired": repaired.to_json(), "validation": validation.to_json()})


def show_repair(stores: Stores, name: str, *, checksums: bool, also: Sequence[int], as_json: bool) -> None:
    """Show the plan of a repair."""
    plan = plan_repair(stores, name, checksums=checksums, also=also, progress=show_progress)
    if as_json:
        print_json(plan.to_json())
    else:
        _print_plan(plan)


def repair_and_report(
    stores: Stores,
    instance: dg.DagsterInstance,
    name: str,
    num_workers: int,
    *,
    checksums: bool = False,
    also: Sequence[int] = (),
    restore: bool = False,
    overwrite: bool = False,
    as_json: bool = False,
) -> DatasetValidation:
    """Repair a dataset, validate it, record the result in Dagster, and print both."""
    with Workers(num_workers) as workers:
        plan = repair_dataset(
            stores,
            name,
            workers,
            checksums=checksums,
            also=also,
            restore=restore,
            overwrite=overwrite,
            progress=show_progress,
            making=lambda so_far: show_progress(str(so_far)),
        )
    if not as_json:
        _print_lines(plan.lines(is_done=True))
    name = plan.dataset.name  # restored, if that was edited
    validation = validate_and_report(stores, instance, name, checksums=checksums, batches=plan.batches_touched)
    _print_result(validation, plan, as_json=as_json)
    return validation


def show_feature_repair(stores: Stores, name: str, *, as_json: bool) -> None:
    """Show the number of rows with an older feature version."""
    plan = plan_feature_repair(stores, name)
    if as_json:
        print_json(plan.to_json())
        return
    _print_lines(plan.lines(is_done=False))
    if not plan.is_empty:
        output.print(f"Nothing was changed. To execute: heimdall dataset repair {name} --features --apply")


def repair_features_and_report(
    stores: Stores, instance: dg.DagsterInstance, name: str, num_workers: int, *, as_json: bool
) -> int:
    """Update features, validate, record the result in Dagster, and print both; returns the exit code."""
    with Workers(num_workers) as workers:
        done = repair_features(stores, name, workers, show_progress)
    if not as_json:
        _print_lines(done.lines(is_done=True))
    validation = validate_and_report(stores, instance, name, batches=done.batches)
    _print_result(validation, done, as_json=as_json)
    return EXIT_ISSUES if done.num_kept else exit_code(validation.outcomes)


def _summary(validation: DatasetValidation) -> str:
    return (
        f"dataset {validation.dataset.name}: {validation.health_status}, {validation.num_affected} of "
        f"{validation.num_all} samples affected, {validation.storage_size_bytes / 1e6:.1f} MB"
    )


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        output.print(line)


def _print_plan(plan: RepairPlan) -> None:
    _print_lines(plan.lines(is_done=False))
    if not plan.is_empty:
        if plan.edited_parameters:
            output.print("Nothing was changed.")
        elif plan.is_possible:
            output.print(f"Nothing was changed. To execute: heimdall dataset repair {plan.dataset.name} --apply")
        else:
            output.print(
                "Nothing was changed. This version cannot repair the dataset: it has another generator version"
            )
