"""Rows as a version of the code before wrote them: without the features that came later, and of its version."""

from sqlalchemy import text

from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES, TIME_DIFFERENCES_SINCE, names_of_version
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.sealing import reseal


def make_older(stores: Stores, where: str = "true", version: int = 1) -> None:
    """Turn rows of measurement_features into those of an earlier feature version."""
    later = sorted(set(FEATURE_NAMES) - names_of_version(version))
    with stores.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE heimdall.measurement_features SET feature_version = :version, time_differences ="
                " CASE WHEN :version < :since THEN NULL ELSE time_differences END, receiver_features ="
                " (SELECT jsonb_agg(element - CAST(:later AS text[]) ORDER BY position)"
                " FROM jsonb_array_elements(receiver_features) WITH ORDINALITY AS elements (element, position))"
                f" WHERE {where}"
            ),
            {"version": version, "later": later, "since": TIME_DIFFERENCES_SINCE},
        )
    reseal(stores)


def make_without_bounds(stores: Stores, where: str = "true") -> None:
    """Turn truths into those of before, without the bound of the position."""
    with stores.database.transaction() as connection:
        for table in ("measurement_features", "synthetic_iq_samples"):
            connection.execute(text(f"UPDATE heimdall.{table} SET truth = truth - 'position_bound' WHERE {where}"))
    reseal(stores)
