"""Retries of a step after an outage of a server."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException

from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.store.changes import acting
from heimdall_pipelines.store.database import is_broken_off

RETRY_TAG = "dagster/retry_on_asset_or_op_failure"
# Tags of a job that Dagster retries when its process has died: all steps, which make what is missing. Dagster's default
# is to retry from the failure; if only the last event was lost, no step would be left to run and the retry would fail.
RUN_AGAIN_WHOLE = {"dagster/retry_strategy": "ALL_STEPS"}
OUTAGE_RETRIES = 12  # about ten minutes in all: time to restart a server or its machine
OUTAGE_DELAY_S = 10.0
_LONGEST_DELAY = 6  # times OUTAGE_DELAY_S: the longest wait after a server is back


@contextmanager
def retried_after_outage(context: dg.OpExecutionContext) -> Iterator[None]:
    """Turn an outage of a server into a Dagster retry with growing delay; any other error fails the run at once.

    Changes that the block makes are noted as those of the run.
    """
    try:
        with acting(f"{context.job_name}, run {context.run_id}"):
            yield
    except UnavailableError as error:
        num_left = OUTAGE_RETRIES - context.retry_number
        if num_left <= 0:
            raise  # unchanged: Dagster would replace the message by "Exceeded max_retries"
        delay_s = OUTAGE_DELAY_S * min(2**context.retry_number, _LONGEST_DELAY)
        with suppress(Exception):  # the unavailable server may be the one that stores the logs
            context.log.warning(f"{error}\nNext attempt in {delay_s:.0f} s, at most {num_left} more")
        time.sleep(delay_s)  # here, where a cancellation interrupts it; Dagster's own wait ignores cancellations
        raise dg.RetryRequested(OUTAGE_RETRIES) from error


@dg.failure_hook
def started_again_after_outage(context: dg.HookContext) -> None:
    """Have Dagster retry a run whose events could not be written: its steps cannot retry that themselves.

    Run retries ignore failures inside a step, and this counts as one.
    """
    error = context.op_exception
    if isinstance(error, DagsterPostgresException) or is_broken_off(error):
        context.instance.add_run_tags(context.run_id, {RETRY_TAG: "true"})
