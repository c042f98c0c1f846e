"""Partition definitions; Dagster validates no dynamic key, so keys are made in one place each."""

import dagster as dg

RECORDING_SESSIONS = "recording_sessions"

# Key: the session's id.
recording_sessions = dg.DynamicPartitionsDefinition(name=RECORDING_SESSIONS)
