"""What a step does about an outage of a server: it waits and is tried again, a few times."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException

from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.store.database import is_broken_off

RETRY_TAG = "dagster/retry_on_asset_or_op_failure"
# Tags of a job that is run once more when its process has died: all of it, which makes what is not there. From the
# failure on, which is Dagster's default, nothing would be left to run where only the last word was lost: it gives up.
RUN_AGAIN_WHOLE = {"dagster/retry_strategy": "ALL_STEPS"}
OUTAGE_RETRIES = 12  # ten minutes together: a server is restarted, or its machine
OUTAGE_DELAY_S = 10.0
_LONGEST_DELAY = 6  # of OUTAGE_DELAY_S: once a server is back, nobody waits longer than that


@contextmanager
def retried_after_outage(context: dg.OpExecutionContext) -> Iterator[None]:
    """Turn an outage of a server into Dagster's retry, later each time; anything else fails the run at once."""
    try:
        yield
    except UnavailableError as error:
        num_left = OUTAGE_RETRIES - context.retry_number
        if num_left <= 0:
            raise  # as it is: Dagster would put "Exceeded max_retries" in the place of what happened
        delay_s = OUTAGE_DELAY_S * min(2**context.retry_number, _LONGEST_DELAY)
        with suppress(Exception):  # the server that is away may be the one that logs are kept in
            context.log.warning(f"{error}\nTried again in {delay_s:.0f} s, up to {num_left} times")
        time.sleep(delay_s)  # here, where a cancellation breaks it off: Dagster's own wait sleeps through one
        raise dg.RetryRequested(OUTAGE_RETRIES) from error


@dg.failure_hook
def started_again_after_outage(context: dg.HookContext) -> None:
    """Have Dagster start a run once more whose events could not be written: its steps cannot retry that themselves.

    Run retries leave alone what failed in a step, which this looks like to them.
    """
    error = context.op_exception
    if isinstance(error, DagsterPostgresException) or is_broken_off(error):
        context.instance.add_run_tags(context.run_id, {RETRY_TAG: "true"})
