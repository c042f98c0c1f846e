"""`heimdall dev`: the stack with Dagster's webserver and daemon until Ctrl-C; `heimdall stop`: ends a killed one."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.environment import dagster_home, name_ui, prepare, servers
from heimdall_pipelines.cli.signals import stop_on_signals

if TYPE_CHECKING:
    import dagster as dg

FIRST_PORT = 3000
PORTS_TRIED = 100
LAST_PORT = 65_535
_LOCK_FILE = "dev.lock"
LAUNCHED_BY_CODE_SERVER_TAG = ".dagster/grpc_info"


def dev(
    port: Annotated[int, typer.Option(help="First port tried for the Dagster UI", min=1, max=LAST_PORT)] = FIRST_PORT,
) -> None:
    """Start the stack, the Dagster UI and its daemon on this machine, until Ctrl-C."""
    from heimdall_pipelines.cli.dagster_dev import end_remaining_processes
    from heimdall_pipelines.local.stack import Stack  # not installed in a deployment
    from heimdall_pipelines.settings import load_local_settings

    local = load_local_settings()
    home = local.home.resolve()
    Stack(home, pg_bindir=local.pg_bindir).make_home()
    with _only_one(home) as lock:
        if lock is None:
            output.print(f"already running in this folder: {_running_address(home)}")
            return
        lock.truncate(0)  # the address of an earlier process
        end_remaining_processes(home)
        try:
            with servers():
                _run(home, port, lock)
        except KeyboardInterrupt:
            output.print("stopped before Dagster was started")


def _run(home: Path, port: int, lock: IO[str]) -> None:
    from heimdall_pipelines.cli.dagster_dev import running_dagster
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.stores import open_stores

    with open_stores(load_settings()) as opened:
        prepare(opened)
        sync_network(opened.database, load_network())
    _report_to_dagster()
    address = f"http://127.0.0.1:{_free_port(port)}"
    json.dump(asdict(_RunningDev(os.getpid(), address)), lock)
    lock.flush()
    name_ui(address)
    stopping = stop_on_signals()
    with running_dagster(home, dagster_home(home), address) as dagster:
        if dagster.wait_until_ready(stopping):
            output.print(f"\n[bold]Dagster UI: {address}[/]   (Ctrl-C stops everything; data are kept)\n", markup=True)
            dagster.wait_until_stopped(stopping)


def stop() -> None:
    """End processes that a killed `heimdall dev` left running in this folder; data are kept."""
    from heimdall_pipelines.cli.dagster_dev import end_remaining_processes
    from heimdall_pipelines.local.stack import Stack  # not installed in a deployment
    from heimdall_pipelines.settings import load_local_settings

    local = load_local_settings()
    home = local.home.resolve()
    if not home.is_dir():
        output.print("nothing is running: the stack was never started here")
        return
    with _only_one(home) as lock:
        if lock is None:
            output.print(f"running in this folder: {_running_address(home)}; stop it with Ctrl-C in its terminal")
            raise typer.Exit(1)
        ended = end_remaining_processes(home)
        stack = Stack(home, pg_bindir=local.pg_bindir)
        status = stack.status()
        if status.postgres.running or status.s3.running:
            with stack.use():
                pass  # the last user stops the servers
    output.print(f"stopped ({ended} remaining Dagster processes ended)")


def _report_to_dagster() -> None:
    """Record in Dagster what happened while it was not running: dead runs, and the sync of stations."""
    import dagster as dg  # takes a second to load

    from heimdall_pipelines.cli.dagster_instance import open_instance
    from heimdall_pipelines.cluster.pools import begin_event_cursors, set_pool_limits
    from heimdall_pipelines.defs.stations import websdr_stations
    from heimdall_pipelines.settings import load_local_settings

    with open_instance() as instance:
        set_pool_limits(instance, load_local_settings())
        begin_event_cursors(instance)
        _close_dead_runs(instance)
        # Otherwise the UI warns of a missing asset before the first dataset is requested.
        if instance.get_latest_materialization_event(websdr_stations.key) is None:
            instance.report_runless_asset_event(dg.AssetMaterialization(websdr_stations.key))


def _close_dead_runs(instance: "dg.DagsterInstance") -> None:
    """Mark runs as failed whose process ended with an earlier `heimdall dev`; the daemon retries each once.

    Dagster queries a run's code server for its state, and theirs has ended: they would count as
    running forever, and block later runs.
    """
    import dagster as dg

    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        if LAUNCHED_BY_CODE_SERVER_TAG in run.tags:  # other runs execute in a command, such as heimdall session extract
            instance.report_run_failed(run, "The process of this run ended with its `heimdall dev`.")


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[IO[str] | None]:
    """Lock this folder for one `heimdall dev`; None while another process has the lock. It ends with its process."""
    lock = os.open(home / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(lock, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file


@dataclass(frozen=True)
class _RunningDev:
    """What `heimdall dev` writes into its lock file once it has an address."""

    pid: int
    address: str


def _running(home: Path) -> _RunningDev | None:
    try:
        return _RunningDev(**json.loads((home / _LOCK_FILE).read_text()))
    except (OSError, json.JSONDecodeError):  # never started, or it is starting
        return None


def running_ui(home: Path) -> str | None:
    """Return the address of the Dagster UI of this folder's `heimdall dev`, None if it does not run."""
    running = _running(home)
    if running is None:
        return None
    import psutil  # with the embedded stack

    return running.address if psutil.pid_exists(running.pid) else None


def _running_address(home: Path) -> str:
    running = _running(home)
    return "it is starting" if running is None else f"{running.address} (process {running.pid})"


def _free_port(first: int) -> int:
    last = min(first + PORTS_TRIED - 1, LAST_PORT)
    for port in range(first, last + 1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    from heimdall_pipelines.cli.dagster_dev import DevFailedError

    raise DevFailedError(f"no free port from {first} to {last}; give another one with --port")
