"""Pure functions on numpy arrays: geodesy, segments, features.

No Dagster, no database, no file, no global state, no clock. SI units inside, units in names.
"""
