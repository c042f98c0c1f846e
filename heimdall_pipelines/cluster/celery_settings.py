"""What the launcher and the workers must say alike of Celery and Redis."""

from typing import Any

from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.waiting_runs import QUEUE

_CONFIG = {
    # A worker takes a run when it has a slot free, not before: a run in a busy worker's hands waits beside idle ones.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A run that is taken is never handed out again: Dagster's run monitoring and retries answer for it from there on.
    "task_acks_late": False,
    # Whether a run is alive is asked of the workers, how it ended is in Dagster's tables.
    "task_ignore_result": True,
    # A connection for each thing that is sent: one of the pool, broken off as Redis went away, was seen to raise an
    # AttributeError at the next launch, for which Dagster failed the run.
    "broker_pool_limit": 0,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        "visibility_timeout": 86_400,  # s
        "max_retries": 2,  # of what a person or the daemon waits for; workers try for ever
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 30,
    },
    # What a run prints goes to its compute logs, not through the worker's log.
    "worker_redirect_stdouts": False,
    "worker_hijack_root_logger": False,
}


def app_args(settings: LocalSettings) -> dict[str, Any]:
    """Arguments of dagster-celery's ``make_app``; the URL in them is a secret."""
    return {"broker": redis_url(settings), "backend": None, "config_source": _CONFIG, "task_default_queue": QUEUE}


def redis_url(settings: LocalSettings) -> str:
    """Redis's URL with its password; the settings have made sure of it where runs go to workers."""
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value()
