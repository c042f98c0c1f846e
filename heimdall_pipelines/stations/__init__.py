"""The receiver network in plain functions: the shipped stations, their sync, and checks of their status."""
