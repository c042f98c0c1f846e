"""Dagster, thin: one module per subject holds its assets, checks, sensors and jobs. No SQL, no DSP."""

import warnings

from dagster import PreviewWarning

# Partitions of asset checks are a preview in Dagster 1.13. The lock pins Dagster; without this, every command would
# begin with a page of warnings.
warnings.filterwarnings("ignore", category=PreviewWarning, module=r"heimdall_pipelines\.defs\..*")
