"""Releases of datasets that never change, their exports as files, and the verification of both."""
