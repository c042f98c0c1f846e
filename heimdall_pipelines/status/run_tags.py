"""Tags that Dagster sets on runs and that more than one module here reads."""

PARTITION_TAG = "dagster/partition"
RUN_KEY_TAG = "dagster/run_key"
WILL_RETRY_TAG = "dagster/will_retry"
