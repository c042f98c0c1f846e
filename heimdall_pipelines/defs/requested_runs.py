"""Runs that Dagster has by their state, and what was requested of it before."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import dagster as dg

from heimdall_pipelines.status.run_tags import RUN_KEY_TAG

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
UNFINISHED = tuple(status for status in dg.DagsterRunStatus if status not in FINISHED)


class _WithRunKey(Protocol):
    @property
    def run_key(self) -> str: ...


_Wanted = TypeVar("_Wanted", bound=_WithRunKey)


def unrequested(instance: dg.DagsterInstance, wanted: Sequence[_Wanted]) -> list[_Wanted]:
    """Those whose run key no run has yet, in their order.

    What a failed run was to do stays due, but is not requested again until it has another key: start it by hand.
    """
    keys = [one.run_key for one in wanted]
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: keys}))
    requested = {run.tags[RUN_KEY_TAG] for run in runs}
    return [one for one in wanted if one.run_key not in requested]
