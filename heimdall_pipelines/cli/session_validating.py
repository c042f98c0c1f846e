"""Validates sessions from the command line, and tells Dagster, so that its UI and alerts agree."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import dagster as dg

from heimdall_pipelines.cli.console import output, show_progress
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.validation_output import (
    EXIT_COULD_NOT_LOOK,
    EXIT_HEALTHY,
    exit_code,
    print_error,
    print_json,
    print_outcomes,
)
from heimdall_pipelines.defs.check_reporting import report_checks
from heimdall_pipelines.defs.check_results import check_evaluation
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import recorded_measurement_features
from heimdall_pipelines.errors import HeimdallError, UnavailableError
from heimdall_pipelines.sessions.validation import SessionValidation, validate_session
from heimdall_pipelines.store.stores import Stores

SESSIONS_PER_REPORT = 50


def validate_one(stores: Stores, session_id: str, *, checksums: bool, as_json: bool) -> int:
    """Validate a session and show what was found; gives the exit code.

    Raises
    ------
    HeimdallError
        As of `validate_session`.
    """
    with dagster_instance() as instance:
        validation = validate_session(stores, session_id, checksums=checksums, progress=show_progress)
        _report(instance, [validation])
    if as_json:
        print_json(validation.to_json())
    else:
        _print(validation)
    return exit_code(validation.outcomes)


def validate_many(stores: Stores, session_ids: Iterable[UUID], *, checksums: bool, as_json: bool) -> int:
    """Validate sessions one after the other; gives the exit code.

    A session that cannot be looked at, such as one that is deleted meanwhile, does not stop the others.

    Raises
    ------
    UnavailableError
        A server is away, so nothing further can be looked at.
    """
    code = EXIT_HEALTHY
    documents: list[dict[str, Any]] = []
    with dagster_instance() as instance, _reported(instance) as report:
        for session_id in session_ids:
            try:
                validation = validate_session(stores, session_id, checksums=checksums, progress=show_progress)
            except UnavailableError:
                raise
            except HeimdallError as error:
                print_error(error)
                documents.append({"session_id": str(session_id), "error": str(error)})
                code = EXIT_COULD_NOT_LOOK
                continue
            report(validation)
            code = max(code, exit_code(validation.outcomes))
            documents.append(validation.to_json())
            if not as_json:
                _print(validation, in_full=validation.health_status != "healthy")
    if as_json:
        print_json(documents)
    elif not documents:
        output.print("there is no completed session to validate")
    return code


@contextmanager
def _reported(instance: dg.DagsterInstance) -> Iterator[Callable[[SessionValidation], None]]:
    """Tell Dagster of many validations, several at a time; of those that were made, too, where a later one raises."""
    waiting: list[SessionValidation] = []

    def report(validation: SessionValidation) -> None:
        waiting.append(validation)
        if len(waiting) == SESSIONS_PER_REPORT:
            _report(instance, waiting)
            waiting.clear()

    try:
        yield report
    finally:
        _report(instance, waiting)


def _report(instance: dg.DagsterInstance, validations: Sequence[SessionValidation]) -> None:
    by_partition = {str(validation.session.id): validation for validation in validations}
    if by_partition:
        instance.add_dynamic_partitions(RECORDING_SESSIONS, list(by_partition))
    report_checks(
        instance,
        [
            check_evaluation(outcome, recorded_measurement_features.key, partition)
            for partition, validation in by_partition.items()
            for outcome in validation.outcomes
        ],
    )


def _print(validation: SessionValidation, *, in_full: bool = True) -> None:
    output.print(
        f"session {validation.session.id} ({validation.session.name}): {validation.health_status}, "
        f"{validation.num_concerned} of {validation.num_segments} segments concerned, "
        f"{validation.storage_size_bytes / 1e6:.1f} MB",
        markup=False,
        soft_wrap=True,
    )
    if in_full:
        print_outcomes(validation.outcomes)
