"""Limits that the command line uses; this module imports nothing, so that `--help` and `status` stay fast."""

MAX_DURATION_S = 3600.0
MAX_STATIONS = 32  # of a session; each takes two threads, a connection to its receiver and some buffers
SILENT_FOR_S = 120.0  # without a heartbeat, which come every 5 s, a recorder counts as dead
