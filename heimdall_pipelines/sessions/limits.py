"""Limits that the command line's options name; this module imports nothing, so that their help costs nothing."""

MAX_DURATION_S = 3600.0
MAX_STATIONS = 32  # of a session; each takes two threads, a connection to its receiver and some buffers
