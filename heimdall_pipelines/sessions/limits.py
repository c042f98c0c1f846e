"""Limits that the options of the command line name; this module imports nothing, so that `--help` stays fast."""

MAX_DURATION_S = 3600.0
MAX_STATIONS = 32  # of a session; each takes two threads, a connection to its receiver and some buffers
