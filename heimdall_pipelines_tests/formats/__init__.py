"""Tests of heimdall_pipelines.formats."""
