"""Generates, stores and validates training data for locating radio transmitters.

Its packages form layers, and imports go downwards only: see docs/architecture.md.
"""
