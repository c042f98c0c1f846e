"""Checks whether each server answers, with a timeout."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

from heimdall_pipelines.settings import Settings
from heimdall_pipelines.status.bounded import Unavailable, collect_with_timeout
from heimdall_pipelines.status.report import Server, Worker, Workers
from heimdall_pipelines.status.waiting_runs import QUEUE, num_waiting_runs, redis_address, redis_client
from heimdall_pipelines.store.bucket_probe import UnclearAnswerError, probed_missing_buckets
from heimdall_pipelines.store.reading import Reader, Reading
from heimdall_pipelines.store.revision import newest_revision, revision_in
from heimdall_pipelines.store.status import server_version

POSTGRES, S3, REDIS, UI = "PostgreSQL", "S3 store", "Redis", "Dagster UI"
ANSWER_TIMEOUT_S = 5.0
_UI_TIMEOUT_S = 3.0
_REDIS_TIMEOUT_S = 2.0
_WORKERS_TIMEOUT_S = 1.0
_END_LENGTH = 70


def servers_status(settings: Settings) -> tuple[Server, ...]:
    """Check PostgreSQL, the S3 store and, if configured, Redis and the Dagster UI, in parallel."""
    reads = {POSTGRES: lambda: _postgres(settings), S3: lambda: _s3(settings)}
    addresses = {POSTGRES: f"{settings.pg_host}:{settings.pg_port}", S3: settings.s3_endpoint}
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        reads[REDIS], addresses[REDIS] = lambda: _redis(url), redis_address(url)
    if settings.ui_url is not None:
        ui_url = settings.ui_url
        reads[UI], addresses[UI] = lambda: _ui(ui_url), ui_url
    found = collect_with_timeout(ANSWER_TIMEOUT_S, {name: _timed(read) for name, read in reads.items()})
    return tuple(
        Server(name, addresses[name], is_up=False, detail=_shortened(answer.reason))
        if isinstance(answer, Unavailable)
        else Server(name, addresses[name], is_up=True, response_s=answer[0], detail=answer[1])
        for name, answer in found.items()
    )


def workers_status(redis_url: str) -> Workers:
    """Query the workers for their runs, and Redis for the number of waiting runs."""
    import celery  # with the extra `cluster`

    with redis_client(redis_url, _REDIS_TIMEOUT_S) as client:
        num_waiting = num_waiting_runs(client)
    with celery.Celery(broker=redis_url, set_as_current=False) as app:
        answers = app.control.inspect(timeout=_WORKERS_TIMEOUT_S).active() or {}
    workers = tuple(Worker(name, len(tasks)) for name, tasks in sorted(answers.items()))
    return Workers(workers, QUEUE, num_waiting)


def _timed(read: Callable[[], str]) -> Callable[[], tuple[float, str]]:
    def timed() -> tuple[float, str]:
        began = time.perf_counter()
        detail = read()
        return time.perf_counter() - began, detail

    return timed


def _postgres(settings: Settings) -> str:
    with Reader(settings) as database:
        return server_version(database)


def _s3(settings: Settings) -> str:
    try:
        missing = probed_missing_buckets(settings)
    except UnclearAnswerError:
        missing = _missing_buckets_by_client(settings)
    return f"no bucket {', '.join(missing)}: heimdall db migrate" if missing else ""


def _missing_buckets_by_client(settings: Settings) -> list[str]:
    from heimdall_pipelines.store.objects import ObjectStore  # takes longer to load than all else of a status

    objects = ObjectStore(settings, attempts=1)
    try:
        return objects.missing_buckets()
    finally:
        objects.close()


def _redis(url: str) -> str:
    with redis_client(url, _REDIS_TIMEOUT_S) as client:
        return str(client.info("server")["redis_version"])


def _ui(url: str) -> str:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=_UI_TIMEOUT_S):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):  # a proxy in front of it requires a password, so it answers
            return "requires a password"
        raise


def schema_remark(database: Reading) -> str | None:
    """Problem with the schema's revision; None if it is the revision of this version."""
    present, needed = revision_in(database.read), newest_revision()
    if present == needed:
        return None
    return f"the schema is at revision {present or 'none'}, this version needs {needed}: heimdall db migrate"


def _shortened(reason: str) -> str:
    """Beginning and end of a long reason: they have the server and the cause."""
    return reason if len(reason) <= 2 * _END_LENGTH else f"{reason[:_END_LENGTH]} … {reason[-_END_LENGTH:]}"
