"""Limits that the command line names; this module imports nothing, so that help and status load quickly."""

MAX_WORKERS = 24
NUM_KEPT_IQ = 100  # samples whose IQ a feature_based dataset keeps
