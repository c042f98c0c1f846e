"""Synthetic datasets: requested, generated in batches, summarised, checked and repaired. No Dagster, no SQL."""
