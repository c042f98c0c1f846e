"""What every command runs in: the deployment's servers, or the embedded ones for as long as it lasts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heimdall_pipelines.store.stores import Stores

PROJECT_FOLDER = Path(__file__).parents[2]


@contextmanager
def servers() -> Iterator[None]:
    """Put HEIMDALL_* and DAGSTER_HOME into the environment, for this process and those it starts.

    Where HEIMDALL_PG_HOST is set, the servers are somebody else's and the environment stays as it
    is. Otherwise the embedded stack is started, or joined if it runs, and left at the end.
    """
    from heimdall_pipelines.settings import load_local_settings

    local = load_local_settings()
    if local.pg_host is not None:
        yield
        return
    from heimdall_pipelines.local.stack import Stack  # not installed in a deployment

    home = local.home.resolve()
    with Stack(home, pg_bindir=local.pg_bindir).use() as environment:
        os.environ.update(environment)
        os.environ["DAGSTER_HOME"] = str(dagster_home(home))
        yield


def running_servers() -> bool:
    """Put into the environment what reaches the servers, if they run; starts nothing, and stops nothing later.

    Returns
    -------
    bool
        False where the servers are the embedded ones and none of them runs.
    """
    from heimdall_pipelines.settings import load_local_settings

    local = load_local_settings()
    if local.pg_host is not None:
        return True
    from heimdall_pipelines.local.stack import Stack  # not installed in a deployment

    home = local.home.resolve()
    environment = Stack(home, pg_bindir=local.pg_bindir).environment() if home.is_dir() else None
    if environment is None:
        return False
    os.environ.update(environment)
    os.environ["DAGSTER_HOME"] = str(dagster_home(home))
    return True


def name_ui(address: str) -> None:
    """Tell the processes that this one starts where the Dagster UI is, unless they were told."""
    from heimdall_pipelines.settings import ENV_PREFIX

    os.environ.setdefault(f"{ENV_PREFIX}UI_URL", address)


@contextmanager
def stores() -> Iterator[Stores]:
    """The stores, migrated to what this version needs."""
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.stores import open_stores

    with servers(), open_stores(load_settings()) as opened:
        prepare(opened)
        yield opened


def prepare(opened: Stores) -> tuple[str | None, str]:
    """Migrate the database and create the buckets; gives the schema's revisions before and after."""
    from heimdall_pipelines.store.migrate import migrate

    revisions = migrate(opened.database)
    opened.objects.create_buckets()
    return revisions


def dagster_home(home: Path) -> Path:
    """Dagster's folder of this stack, with the project's dagster.yaml in it."""
    folder = home / "dagster"
    folder.mkdir(exist_ok=True)
    link = folder / "dagster.yaml"
    if not link.is_symlink() or link.readlink() != PROJECT_FOLDER / "dagster.yaml":
        link.unlink(missing_ok=True)
        link.symlink_to(PROJECT_FOLDER / "dagster.yaml")
    return folder
