"""Alerts of failed checks and runs: their text and their delivery. Does not import Dagster."""
