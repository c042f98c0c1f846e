"""Tags of runs that more than one module here reads: those that Dagster sets, and ours."""

PARTITION_TAG = "dagster/partition"
RUN_KEY_TAG = "dagster/run_key"
WILL_RETRY_TAG = "dagster/will_retry"
PROCESS_TAG = "heimdall/process"  # of runs that execute in a command of `heimdall`: see command_process.py
