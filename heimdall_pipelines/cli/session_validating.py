"""Validates sessions from the command line, and records the results in Dagster, for its UI and alerts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from heimdall_pipelines.cli.console import output, show_progress
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.validation_output import (
    exit_code,
    print_json,
    print_outcomes,
    validate_one_by_one,
)
from heimdall_pipelines.defs.check_reporting import report_checks
from heimdall_pipelines.defs.partitions import RECORDING_SESSIONS
from heimdall_pipelines.defs.recorded import session_evaluations
from heimdall_pipelines.sessions.clock_estimates import ClockEstimates
from heimdall_pipelines.sessions.validation import SessionValidation, validate_session
from heimdall_pipelines.store.sessions import SessionIdentity
from heimdall_pipelines.store.stores import Stores

SESSIONS_PER_REPORT = 50


def validate_one(stores: Stores, key: str, *, checksums: bool, as_json: bool) -> int:
    """Validate a session and print the result; returns the exit code.

    Raises
    ------
    HeimdallError
        As of `validate_session`.
    """
    with dagster_instance() as instance:
        validation = validate_session(stores, key, checksums=checksums, progress=show_progress)
        _report(instance, [validation])
    if as_json:
        print_json(validation.to_json())
    else:
        output.print(_summary(validation))
        print_outcomes(validation.outcomes)
    return exit_code(validation.outcomes)


def validate_many(stores: Stores, sessions: Iterable[SessionIdentity], *, checksums: bool, as_json: bool) -> int:
    """Validate sessions as `validate_one_by_one` does; returns the exit code."""
    clocks = ClockEstimates()
    with dagster_instance() as instance, _reported(instance) as report:

        def validate(session: SessionIdentity) -> SessionValidation:
            validation = validate_session(
                stores, session.id, checksums=checksums, progress=show_progress, clocks=clocks
            )
            report(validation)
            return validation

        return validate_one_by_one(
            sessions,
            validate,
            _summary,
            what="completed session",
            names=lambda session: {"session_id": str(session.id), "slug": session.slug},
            as_json=as_json,
        )


@contextmanager
def _reported(instance: dg.DagsterInstance) -> Iterator[Callable[[SessionValidation], None]]:
    """Record validations in Dagster, several at a time; also the earlier ones if a later one raises."""
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
    by_partition = {validation.session.slug: validation for validation in validations}
    if by_partition:
        instance.add_dynamic_partitions(RECORDING_SESSIONS, list(by_partition))
    report_checks(
        instance,
        [evaluation for validation in by_partition.values() for evaluation in session_evaluations(validation)],
    )


def _summary(validation: SessionValidation) -> str:
    return (
        f"session {validation.session.slug} ({validation.session.name}): {validation.health_status}, "
        f"{validation.num_affected} of {validation.num_segments} segments affected, "
        f"{validation.storage_size_bytes / 1e6:.1f} MB"
    )
