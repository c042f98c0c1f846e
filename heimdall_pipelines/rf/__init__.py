"""Pure functions on numpy arrays: features, segments, geodesy, propagation, scenes, synthesis.

No Dagster, no database, no file, no global state, no clock. SI units inside, units in names.
"""
