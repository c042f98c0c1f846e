"""What every command runs in: the deployment's servers, or the embedded ones for as long as it lasts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heimdall_pipelines.settings import Settings
    from heimdall_pipelines.store.reading import Reader
    from heimdall_pipelines.store.stores import Stores

PROJECT_FOLDER = Path(__file__).parents[2]
DAGSTER_FILES = ("dagster.yaml", "workspace.yaml", "dg.toml")  # beside this module, in a checkout and where installed


@contextmanager
def servers(*, need_s3: bool = True) -> Iterator[None]:
    """Put HEIMDALL_* and DAGSTER_HOME into the environment, for this process and those it starts.

    Where HEIMDALL_PG_HOST is set, the servers are somebody else's and the environment stays as it
    is. Otherwise the embedded stack is started, or joined if it runs, and left at the end.
    """
    from heimdall_pipelines.settings import load_local_settings

    local = load_local_settings()
    if local.has_other_servers:
        yield
        return
    from heimdall_pipelines.local.stack import Stack  # not installed in a deployment

    home = local.home.resolve()
    with _interrupted_by_signals(), Stack(home, pg_bindir=local.pg_bindir).use(needs_s3=need_s3) as environment:
        _put(environment, home)
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
    if local.has_other_servers:
        return True
    from heimdall_pipelines.local.stack import Stack  # not installed in a deployment

    home = local.home.resolve()
    environment = Stack(home, pg_bindir=local.pg_bindir).environment() if home.is_dir() else None
    if environment is None:
        return False
    _put(environment, home)
    return True


def _put(environment: dict[str, str], home: Path) -> None:
    from heimdall_pipelines.settings import ENV_PREFIX

    os.environ.update(environment)
    os.environ[f"{ENV_PREFIX}HOME"] = str(home)  # processes that this one starts work in other folders
    os.environ["DAGSTER_HOME"] = str(dagster_home(home))


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that the servers are stopped; also where SIGINT was ignored, as after `&`.

    Dagster gives SIGTERM the handler of SIGINT whenever it has executed something in this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for kind, handler in before.items():
        if handler == signal.SIG_DFL or (handler == signal.SIG_IGN and kind != signal.SIGHUP):  # nohup means it
            signal.signal(kind, signal.default_int_handler)
    try:
        yield
    finally:
        for kind, handler in before.items():
            if handler is not None:  # one that was not made in Python cannot be put back
                signal.signal(kind, handler)


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


@contextmanager
def reader() -> Iterator[Reader]:
    """The database for commands that only read it: nothing is migrated where the schema is of this version."""
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.reading import Reader
    from heimdall_pipelines.store.revision import newest_revision, revision_in

    with servers(need_s3=False):
        settings = load_settings()
        with Reader(settings) as opened:
            if revision_in(opened.read) != newest_revision():
                _prepare(settings)
            yield opened


def _prepare(settings: Settings) -> None:
    from heimdall_pipelines.store.stores import open_stores

    with open_stores(settings) as opened:
        prepare(opened)


def prepare(opened: Stores) -> tuple[str | None, str]:
    """Migrate the database and create the buckets; gives the schema's revisions before and after."""
    from heimdall_pipelines.store.migrate import migrate

    revisions = migrate(opened.database)
    opened.objects.create_buckets()
    return revisions


def dagster_home(home: Path) -> Path:
    """Dagster's folder of this stack, with copies of this version's configuration in it."""
    folder = home / "dagster"
    folder.mkdir(exist_ok=True)
    for name in DAGSTER_FILES:
        content = Path(__file__).with_name(name).read_bytes()
        copy = folder / name
        if copy.is_symlink() or not copy.is_file() or copy.read_bytes() != content:
            draft = copy.with_name(f".{name}.{os.getpid()}")
            draft.write_bytes(content)
            draft.replace(copy)  # at once: other processes of the folder may read it
    return folder
