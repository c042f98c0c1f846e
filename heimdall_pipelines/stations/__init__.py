"""The work on the receiver network in plain functions: what the project ships, and how it differs from the rows."""
