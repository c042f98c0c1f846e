"""Dagster's webserver behind `RequestGuard`: ``python -m heimdall_pipelines.cluster.guarded_webserver``.

It takes the options of ``dagster-webserver``.
"""

from typing import Any

from dagster_webserver import cli
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.applications import Starlette

from heimdall_pipelines.cluster.request_guard import RequestGuard, allowed_hosts
from heimdall_pipelines.settings import load_local_settings


def guarded_app(*arguments: Any, **options: Any) -> Starlette:
    """Make Dagster's application, with the guard as its outermost layer."""
    app = create_app_from_workspace_process_context(*arguments, **options)
    app.add_middleware(RequestGuard, allowed_hosts=allowed_hosts(load_local_settings()))
    return app


def main() -> None:
    """Run the webserver until SIGINT or SIGTERM."""
    names: dict[str, Any] = vars(cli)
    assert names["create_app_from_workspace_process_context"] is create_app_from_workspace_process_context
    names["create_app_from_workspace_process_context"] = guarded_app
    names["main"]()


if __name__ == "__main__":
    main()
