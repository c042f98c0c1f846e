"""Partition definitions; Dagster validates no dynamic key, so keys are made in one place each."""

import dagster as dg

RECORDING_SESSIONS = "recording_sessions"
SYNTHETIC_DATASETS = "synthetic_datasets"
SYNTHETIC_BATCHES = "synthetic_batches"

# Key: the session's slug; its id in partitions of before there were slugs, which are taken wherever a slug is.
recording_sessions = dg.DynamicPartitionsDefinition(name=RECORDING_SESSIONS)

# Key: the dataset's name.
synthetic_datasets = dg.DynamicPartitionsDefinition(name=SYNTHETIC_DATASETS)

# Key: that of model.batches.partition_key.
synthetic_batches = dg.DynamicPartitionsDefinition(name=SYNTHETIC_BATCHES)
