"""Tells Dagster of checks that were made without it, so that its UI and alerts agree with the command line."""

from collections.abc import Iterator, Sequence

import dagster as dg

_QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}


def report_checks(instance: dg.DagsterInstance, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """Record evaluations, of any assets and partitions, as a run of their own in this process (a quarter second).

    As runless events a check of a partition could be recorded only once: Dagster's table wants its key, partition and
    run to be unique.
    """
    if not evaluations:
        return

    @dg.op(out={})
    def report_evaluations() -> Iterator[dg.AssetCheckEvaluation]:
        yield from evaluations

    @dg.job(executor_def=dg.in_process_executor, description="Checks that were made by the command line.")
    def checks_of_command_line() -> None:
        report_evaluations()

    checks_of_command_line.execute_in_process(instance=instance, run_config=_QUIET)
