"""Generates, stores and validates training data for locating radio transmitters.

Four layers, imports go downwards only (kept by ``heimdall_pipelines_tests/test_layers.py``)::

    cli, definitions, defs            what people and Dagster call
    sessions                          the work itself: import, extraction, validation, in plain functions
    store, local                      databases and servers
    rf, formats                       pure functions on numpy arrays; files of the field

``errors`` belongs to all layers, ``settings`` to all but the lowest.
"""
