"""Dagster's webserver behind `RequestGuard`: ``python -m heimdall_pipelines.cluster.guarded_webserver``.

It takes the options of ``dagster-webserver``.
"""

from types import ModuleType
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


def replace_attribute(module: ModuleType, name: str, expected: object, replacement: object) -> None:
    """Replace a function that a module of Dagster calls by its name; fails if another version calls another one."""
    if getattr(module, name) is not expected:
        raise RuntimeError(f"{module.__name__}.{name} is not what this version of Dagster was expected to call")
    setattr(module, name, replacement)


def main() -> None:
    """Run the webserver until SIGINT or SIGTERM."""
    make_app = create_app_from_workspace_process_context
    replace_attribute(cli, make_app.__name__, make_app, guarded_app)
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
