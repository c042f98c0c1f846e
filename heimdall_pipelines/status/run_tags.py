"""Tags of runs that more than one module here reads: those that Dagster sets, and ours."""

PARTITION_TAG = "dagster/partition"
RUN_KEY_TAG = "dagster/run_key"
WILL_RETRY_TAG = "dagster/will_retry"
AUTO_RETRY_RUN_ID_TAG = "dagster/auto_retry_run_id"  # of a failed run: the run that the daemon started in its place
PROCESS_TAG = "heimdall/process"  # of runs that execute in a command of `heimdall`: see command_process.py
REPORTED_AGAIN_TAG = "heimdall/failure_reported_again"  # see cluster/missed_retries.py
