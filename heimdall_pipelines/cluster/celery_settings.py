"""Settings of Celery and Redis that the launcher and the workers share."""

from typing import Any

from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines.status.waiting_runs import QUEUE

_CONFIG = {
    # A worker takes a run only when it has a free slot: a run that a busy worker reserves waits while others are idle.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A run that a worker took is never delivered again: from then on Dagster's run monitoring and retries handle it.
    "task_acks_late": False,
    # The workers know whether a run is alive, Dagster's tables how it ended.
    "task_ignore_result": True,
    # A new connection for each message: a pooled one that broke during an outage of Redis raised an AttributeError at
    # the next launch, and Dagster failed the run.
    "broker_pool_limit": 0,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        "visibility_timeout": 86_400,  # s
        "max_retries": 2,  # for calls that a person or the daemon waits for; workers retry without limit
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 30,
    },
    # Output of a run goes to its compute logs, not to the worker's log.
    "worker_redirect_stdouts": False,
    "worker_hijack_root_logger": False,
}


def app_args(settings: LocalSettings) -> dict[str, Any]:
    """Arguments of dagster-celery's ``make_app``; the URL in them is a secret."""
    return {"broker": redis_url(settings), "backend": None, "config_source": _CONFIG, "task_default_queue": QUEUE}


def redis_url(settings: LocalSettings) -> str:
    """Redis's URL with its password; the settings require it when runs go to workers."""
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value()
