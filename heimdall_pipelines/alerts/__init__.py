"""Alerts of failed checks and runs: what they say, and how they get out. Knows no Dagster."""
