"""The work on recording sessions in plain functions: importing, extracting, checking. No Dagster, no SQL."""
