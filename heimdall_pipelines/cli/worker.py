"""`heimdall worker`: executes runs that Dagster's daemon puts into Redis."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.environment import servers
from heimdall_pipelines.errors import HeimdallError, UnavailableError

MAX_SLOTS = 64


class NotAWorkerError(HeimdallError):
    """The settings do not use workers."""


def worker(
    slots: Annotated[int, typer.Option(help="Number of parallel runs", min=1, max=MAX_SLOTS)] = 2,
    name: Annotated[str | None, typer.Option(help="Unique name of this worker; default: the host name")] = None,
) -> None:
    """Execute runs until SIGTERM or Ctrl-C, which lets running runs end. A second one ends them at once."""
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.stores import open_stores

    with servers():
        settings = load_settings()
        if settings.run_launcher != "celery":
            raise NotAWorkerError(
                "HEIMDALL_RUN_LAUNCHER is local: runs execute on the machine of the code server, not in workers. "
                "Set it to celery, here and for Dagster's daemon, webserver and code server"
            )
        from heimdall_pipelines.cli.dagster_instance import dagster_instance  # takes a second to load
        from heimdall_pipelines.cluster.redis_check import check_redis
        from heimdall_pipelines.store.iq_objects import DATASETS_PREFIX

        redis = check_redis(settings)
        with open_stores(settings) as opened:
            with _named("HEIMDALL_PG_HOST, _PORT, _USER, _PASSWORD and _DATABASE"), opened.database.transaction():
                pass
            with _named("HEIMDALL_S3_ENDPOINT and HEIMDALL_S3_SECURE"):
                next(opened.objects.entries(settings.s3_bucket_synthetic_iq, DATASETS_PREFIX), None)
        with dagster_instance():
            pass
        name = name or socket.gethostname()
        output.print(
            f"worker {name}: {slots} parallel runs, from Redis at {redis}, recorded in PostgreSQL at "
            f"{settings.pg_host}:{settings.pg_port}, objects at {settings.s3_endpoint}"
        )
        _run_celery(slots, name)


@contextlib.contextmanager
def _named(variables: str) -> Iterator[None]:
    """Add the variables of the server's address to an outage error."""
    try:
        yield
    except UnavailableError as error:
        raise type(error)(f"{error} (see {variables})") from error


def _run_celery(slots: int, name: str) -> None:
    import billiard  # type: ignore[import-untyped]
    from celery import signals

    from heimdall_pipelines.cluster.worker_app import app

    @signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def _leave_ctrl_c_to_the_worker(**_: Any) -> None:
        os.setpgid(0, 0)  # a terminal sends it to the process group, which would interrupt the runs

    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def _second_signal_ends_runs(**_: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end_runs)

    # Celery's cold shutdown can wait for a run that it did not interrupt.
    def end_runs(*_: object) -> None:
        for process in billiard.active_children():
            process.terminate()

    app.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={slots}",
            f"--hostname={name}@%h",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
        ]
    )
