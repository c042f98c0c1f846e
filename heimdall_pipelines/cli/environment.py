"""The servers of a command: those of a deployment, or the embedded ones for the command's duration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from heimdall_pipelines.cli.signals import interrupted_by_signals

if TYPE_CHECKING:
    from heimdall_pipelines.settings import Settings
    from heimdall_pipelines.store.reading import Reader
    from heimdall_pipelines.store.stores import Stores

DAGSTER_FILES = ("dagster.yaml", "workspace.yaml", "dg.toml")  # in this module's folder, also of an installation


@contextmanager
def servers(*, need_s3: bool = True) -> Iterator[None]:
    """Put HEIMDALL_* and DAGSTER_HOME into the environment, for this process and those it starts.

    If HEIMDALL_PG_HOST is set, external servers are used and the environment does not change.
    Otherwise the embedded stack is started, or used if it runs, and released at the end.
    """
    from heimdall_pipelines.settings import load_local_settings

    local = load_local_settings()
    if local.has_other_servers:
        with interrupted_by_signals():
            yield
        return
    from heimdall_pipelines.local.stack import Stack  # not installed in a deployment

    home = local.home.resolve()
    with interrupted_by_signals(), Stack(home, pg_bindir=local.pg_bindir).use(needs_s3=need_s3) as environment:
        _put(environment, home)
        yield


def running_servers() -> bool:
    """Set the variables of the servers in the environment, if they run; starts and stops nothing.

    Returns
    -------
    bool
        False if the servers are the embedded ones and none of them runs.
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


def reclaim_space() -> str:
    """Return the space of removed objects to the disk, inside `servers`; returns what to add to the command's line.

    Another store than the embedded one returns it by itself, sooner or later: nothing is said.
    """
    from heimdall_pipelines.settings import load_settings

    settings = load_settings()
    if settings.s3_folder is None:
        return ""
    from heimdall_pipelines.local.processes import LocalServerError
    from heimdall_pipelines.local.stack import Stack

    stack = Stack(settings.home)
    if stack.objects_folder.resolve() != settings.s3_folder.resolve():
        return ""
    try:
        num_bytes = stack.reclaim_space()
    except LocalServerError as error:
        return f"; the space of its objects is returned to the disk later: {error}"
    return "" if num_bytes is None else f"; {num_bytes / 1e6:.1f} MB were returned to the disk"


def _put(environment: dict[str, str], home: Path) -> None:
    from heimdall_pipelines.settings import ENV_PREFIX

    os.environ.update(environment)
    os.environ[f"{ENV_PREFIX}HOME"] = str(home)  # child processes use other working directories
    os.environ["DAGSTER_HOME"] = str(dagster_home(home))


def name_ui(address: str) -> None:
    """Set the address of the Dagster UI for child processes, unless it is already set."""
    from heimdall_pipelines.settings import ENV_PREFIX

    os.environ.setdefault(f"{ENV_PREFIX}UI_URL", address)


@contextmanager
def stores() -> Iterator[Stores]:
    """Open the stores, migrated to the schema of this version."""
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.changes import acting
    from heimdall_pipelines.store.stores import open_stores

    with servers(), open_stores(load_settings()) as opened, acting(_command()):
        prepare(opened)
        yield opened


def _command() -> str:
    """The words of this command, without what is given to it: that may be a secret."""
    words = takewhile(lambda word: not word.startswith("-"), sys.argv[1:3])
    return " ".join(["heimdall", *words])


@contextmanager
def reader() -> Iterator[Reader]:
    """Open the database for commands that only read it; migrates only if the schema is of another version."""
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
    """Migrate the database and create the buckets; returns the schema's revisions before and after."""
    from heimdall_pipelines.store.migrate import migrate

    revisions = migrate(opened.database)
    opened.objects.create_buckets()
    return revisions


def dagster_home(home: Path) -> Path:
    """Return DAGSTER_HOME of this stack, with copies of this version's configuration files."""
    folder = home / "dagster"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)  # logs of runs, and in folders of earlier versions
    for name in DAGSTER_FILES:
        content = Path(__file__).with_name(name).read_bytes()
        copy = folder / name
        if copy.is_symlink() or not copy.is_file() or copy.read_bytes() != content:
            draft = copy.with_name(f".{name}.{os.getpid()}")
            draft.write_bytes(content)
            draft.replace(copy)  # atomic: other processes may read it
    return folder
