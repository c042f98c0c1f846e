"""Partition definitions. Dagster does not validate dynamic keys, so each kind of key is made in one place."""

import dagster as dg

RECORDING_SESSIONS = "recording_sessions"
SYNTHETIC_DATASETS = "synthetic_datasets"
SYNTHETIC_BATCHES = "synthetic_batches"
STATIONS = "stations"

# Key: the session's slug; partitions from before there were slugs have its id, which is accepted wherever a slug is.
recording_sessions = dg.DynamicPartitionsDefinition(name=RECORDING_SESSIONS)

# Key: the dataset's name.
synthetic_datasets = dg.DynamicPartitionsDefinition(name=SYNTHETIC_DATASETS)

# Key: that of model.batches.partition_key.
synthetic_batches = dg.DynamicPartitionsDefinition(name=SYNTHETIC_BATCHES)

# Key: the station's slug.
stations = dg.DynamicPartitionsDefinition(name=STATIONS)
