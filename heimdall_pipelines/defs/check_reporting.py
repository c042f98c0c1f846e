"""Reports checks made outside of Dagster to it, so that its UI and alerts agree with the command line."""

from collections.abc import Iterator, Sequence

import dagster as dg

from heimdall_pipelines.defs.command_runs import command_tags

_QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}


def report_checks(instance: dg.DagsterInstance, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """Record evaluations of any assets and partitions as a separate run in this process (0.25 s).

    Without a run, a check of a partition could be recorded only once: key, partition and run must be unique in
    Dagster's table.
    """
    if not evaluations:
        return

    @dg.op(out={})
    def report_evaluations() -> Iterator[dg.AssetCheckEvaluation]:
        yield from evaluations

    @dg.job(executor_def=dg.in_process_executor, description="Records checks made by the command line.")
    def checks_of_command_line() -> None:
        report_evaluations()

    checks_of_command_line.execute_in_process(instance=instance, run_config=_QUIET, tags=command_tags())
