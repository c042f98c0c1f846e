"""`dg dev` whose webserver is the guarded one: ``python -m heimdall_pipelines.cluster.guarded_dev dev …``."""

from collections.abc import Sequence
from typing import Any

from dagster._cli import dev
from dagster_shared.ipc import open_ipc_subprocess

from heimdall_pipelines.cluster import guarded_webserver

_WEBSERVER = "dagster_webserver"
_GUARDED = guarded_webserver.__name__


def open_guarded(command: Sequence[str], **options: Any) -> Any:
    """Start a process of `dg dev`; in place of the webserver, the guarded one."""
    return open_ipc_subprocess([_GUARDED if word == _WEBSERVER else word for word in command], **options)


def main() -> None:
    """Run `dg` with the arguments of this process."""
    from dagster_dg_cli.cli import main as run_dg

    guarded_webserver.replace_attribute(dev, open_ipc_subprocess.__name__, open_ipc_subprocess, open_guarded)
    run_dg()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
