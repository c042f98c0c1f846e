"""Synthetic datasets: asked for, generated in batches, summarised, and any sample made again. No Dagster, no SQL."""
