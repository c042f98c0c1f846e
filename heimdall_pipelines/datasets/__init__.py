"""Synthetic datasets: asked for, generated in batches, summarised, and any sample regenerated. No Dagster, no SQL."""
