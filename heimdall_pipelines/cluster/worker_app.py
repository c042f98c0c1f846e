"""The Celery app of `heimdall worker`; every process of a worker loads this module."""

from typing import Any

import celery
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

from heimdall_pipelines.cluster.cancellation import cancellable
from heimdall_pipelines.cluster.celery_settings import app_args
from heimdall_pipelines.cluster.heartbeat import heartbeat
from heimdall_pipelines.settings import load_local_settings


class RunTask(celery.Task):  # type: ignore[misc]  # Celery has no types
    """Executes the run with the id of the task."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Execute it, send heartbeats, and interrupt it when it is cancelled."""
        run_id = self.request.id
        with heartbeat(load_local_settings(), run_id), cancellable(run_id):
            return super().__call__(*args, **kwargs)


# Included modules are loaded before the worker forks its processes, so that their first run starts fast.
app = make_app(  # type: ignore[no-untyped-call]
    app_args(load_local_settings()) | {"include": ["heimdall_pipelines.definitions"]}
)
create_execute_job_task(app, base=RunTask)  # type: ignore[arg-type]  # any argument of Celery
