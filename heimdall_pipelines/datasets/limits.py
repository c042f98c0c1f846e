"""Limits that the command line's options name; this module imports nothing, so that their help costs nothing."""

MAX_WORKERS = 24
