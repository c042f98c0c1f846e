"""A deployment without containers: the services of docker-compose.yml as processes of this machine.

Each service of ours, and Redis, runs by its exact command, environment and health check, in a folder of its own that
stands for its container. PostgreSQL and the S3 store are the test's. Addresses are those that the file leaves to
variables. ::

    with Deployment(settings, folder, num_workers=2) as deployment:  # all of them; `services` chooses some
        deployment.run("heimdall", "dataset", "create", "night", "--num-samples", "100")
        deployment.wait_until(lambda: ..., "20 batches to be committed")
        deployment.kill("worker-1")      # as kill -9 of all that runs in its container
        deployment.restart("worker-1")   # as Docker's restart policy does; waits until it is healthy
        deployment.graphql("{ version }")
        deployment.add_worker("third")   # one more, for instance on a machine of its own
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import pytest
import yaml

from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.settings import ENV_PREFIX, Settings
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.conftest import environment_of
from heimdall_pipelines_tests.deployment.compose import OUR_IMAGE, load_compose
from heimdall_pipelines_tests.dev_server import ask_graphql
from heimdall_pipelines_tests.held_port import held_port, is_listening
from heimdall_pipelines_tests.redis_server import redis_program
from heimdall_pipelines_tests.run_guard import marker, open_folder
from heimdall_pipelines_tests.waiting import TIMEOUT_S

POLL_S = 0.25
LOG_TAIL_LINES = 25
_PORTS = {"redis": "HEIMDALL_REDIS_PORT", "code": "HEIMDALL_CODE_PORT", "webserver": "HEIMDALL_UI_PORT"}
_AT_WORK = {"daemon": "Instance is configured with the following daemons", "worker": "ready."}
_MARKER = "TEST_DEPLOYMENT_SERVICE"  # by which all processes of a "container" are found, in any process group
_SERVERS_OF_THE_TEST = {"postgres", "minio", "buckets"}
# Short intervals of Dagster, so that tests do not wait for minutes.
FAST: dict[str, Any] = {
    "run_launcher": {"config": {"worker_answer_timeout_seconds": 1}},
    "run_monitoring": {"poll_interval_seconds": 2},
    "run_coordinator": {"config": {"user_code_failure_retry_delay": 1}},
}

Found = TypeVar("Found")


@dataclass
class Service:
    """A service of the file, or one of several workers, and what runs of it.

    ``kind`` is the name in the file; ``prefix`` is put before the command, to run it on another machine.
    """

    name: str
    kind: str
    spec: Mapping[str, Any]
    folder: Path
    environment: dict[str, str]
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    logged_before: int = 0

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def is_one_shot(self) -> bool:
        return self.spec["restart"] == "no"


class Deployment:
    """All services on loopback; a context manager that ends everything it started.

    Parameters
    ----------
    settings
        The test's PostgreSQL, with two databases of its own that may be empty, and its S3 store.
    folder
        Where the services' folders and logs are made.
    num_workers
        As HEIMDALL_WORKER_REPLICAS; they are called worker-1, worker-2 and so on.
    variables
        More of what a file .env would say: of the compose file's own variables, such as HEIMDALL_WORKER_SLOTS.
    dagster_config
        Laid over dagster.yaml, for shorter intervals than production has: ``{"run_monitoring": {...}}``.
    services
        Services of the file, of those that run by default; the workers are ``worker``. Default: all.
    environment
        Set for every service, over what the file sets.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        num_workers: int = 2,
        variables: Mapping[str, str] | None = None,
        dagster_config: Mapping[str, Any] | None = None,
        services: Collection[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self._id = secrets.token_hex(8)
        self._folder = folder
        self._dagster_config = _merged(
            yaml.safe_load((PROJECT_FOLDER / "dagster.yaml").read_text()), dagster_config or {}
        )
        self._environment = dict(environment or {})
        self.variables = _variables(settings) | dict(variables or {})
        self.address = f"http://{LOOPBACK}:{self.variables['HEIMDALL_UI_PORT']}"
        self.services: dict[str, Service] = {}
        specs = load_compose(self.variables)["services"]
        self._worker_spec = specs["worker"]
        self._run = self._service("run", "worker", self._worker_spec)
        for name, spec in specs.items():
            if name in _SERVERS_OF_THE_TEST or "profiles" in spec or (services is not None and name not in services):
                continue
            assert name == "redis" or spec["image"].startswith(OUR_IMAGE), f"unknown how to run {name}"
            names = [f"{name}-{number}" for number in range(1, num_workers + 1)] if name == "worker" else [name]
            self.services |= {instance: self._service(instance, name, spec) for instance in names}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end_everything()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            self.end_everything()

    def start(self) -> None:
        """Start all services, each as soon as those that it waits for are healthy, or done."""
        for wave in self._waves():
            for name in wave:
                self._launch(self.services[name])
            for name in wave:
                self.wait_until_healthy(name)

    def stop(self) -> None:
        """Stop all as ``docker compose stop`` does, those first that wait for others; each must end when asked."""
        for wave in reversed(self._waves()):
            for name in wave:
                self._terminate(self.services[name])
            for name in wave:
                self._wait_until_stopped(self.services[name])

    def start_service(self, name: str) -> None:
        """Start a service and wait until it is healthy."""
        self._launch(self.services[name])
        self.wait_until_healthy(name)

    restart = start_service

    def add_worker(self, name: str, *, prefix: Sequence[str] = (), **environment: str) -> None:
        """Start one more worker, or start it again, and do not wait.

        Parameters
        ----------
        name
        prefix
            Before its command, such as ``ip netns exec machine``.
        **environment
            Over that of the other workers.
        """
        if name not in self.services:
            service = self._service(name, "worker", self._worker_spec)
            service.environment |= environment
            service.prefix = tuple(prefix)
            self.services[name] = service
        self._launch(self.services[name])

    def wait_until_up(self, name: str) -> None:
        """Wait until a service listens on its port or, without one, has logged that it is at work."""
        service = self.services[name]
        self.wait_until(lambda: self._has_not_ended(service) and self._is_up(service), f"{name} to be up", name)

    def is_running(self, name: str) -> bool:
        """Whether a service was started and has not ended."""
        process = self.services[name].process if name in self.services else None
        return process is not None and process.poll() is None

    def restart_ended(self) -> None:
        """Restart services that ended, as Docker's restart policy does; does not wait."""
        for service in self.services.values():
            if not service.is_one_shot and service.process is not None and service.process.poll() is not None:
                self._launch(service)

    def stop_service(self, name: str) -> None:
        """Ask a service to end, and wait as long as its ``stop_grace_period`` allows, and the stalls of a machine."""
        self._terminate(self.services[name])
        self._wait_until_stopped(self.services[name])

    def kill(self, name: str) -> None:
        """End every process of a service at once, as when its machine loses power."""
        self._kill(self.services[name])

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the first process of a service."""
        self._first_process(name).send_signal(number)

    def press_ctrl_c(self, name: str) -> None:
        """Do what a terminal does: the whole process group gets SIGINT."""
        os.killpg(self._first_process(name).pid, signal.SIGINT)

    def wait_until_ended(self, name: str) -> int:
        """Wait until a service has ended by itself, and give its exit code."""
        return self._first_process(name).wait(TIMEOUT_S)

    def delete_data(self, name: str) -> None:
        """Delete what a service that is not running has stored; its log and its configuration stay."""
        assert not self.is_running(name), f"{name} is running"
        for path in self.services[name].folder.iterdir():
            if path.is_dir() and path.name != "tmp":
                shutil.rmtree(path)
            elif path.is_file() and path.name not in {"log", "dagster.yaml", "workspace.yaml"}:
                path.unlink()  # Redis before version 7 has one file, later ones have a folder

    def processes(self, name: str) -> list[psutil.Process]:
        """Live processes of a service, its own and those that it started."""
        return self._processes(self.services[name])

    def run(self, *command: str, expect: int = 0) -> str:
        """Run a command as ``docker compose run --rm worker`` does, and give what it printed."""
        done = self._call(self._run, command)
        printed = f"{done.stdout}{done.stderr}"
        assert done.returncode == expect, f"{' '.join(command)} ended with exit code {done.returncode}:\n{printed}"
        return done.stdout

    @contextlib.contextmanager
    def environment_of_this_process(self) -> Iterator[None]:
        """Give this process the variables of the services, for `dagster.DagsterInstance.get` and `load_settings`."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._run.environment.items():
                if name.startswith((ENV_PREFIX, "DAGSTER_")):
                    patch.setenv(name, value)
            yield

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask the webserver what the UI asks it."""
        return ask_graphql(self.address, query, **variables)

    def is_healthy(self, name: str) -> bool:
        """Run the health check of a service; a busy machine may need longer than its ``timeout``."""
        service = self.services[name]
        check = service.spec["healthcheck"]
        form, *test = check["test"]
        command = {"CMD": test, "CMD-SHELL": ["sh", "-c", *test]}[form]
        return self._call(service, command).returncode == 0

    def wait_until_healthy(self, name: str) -> None:
        """Wait until a service passes its health check; one that runs once, until it is done."""
        service = self.services[name]
        if service.is_one_shot:
            assert service.process is not None
            exit_code = service.process.wait(TIMEOUT_S)
            assert exit_code == 0, self._told(f"{name} ended with exit code {exit_code}", name)
            return

        # A health check takes seconds of processor: one that would find nothing yet keeps the service from starting.
        self.wait_until_up(name)
        self.wait_until(lambda: self._has_not_ended(service) and self.is_healthy(name), f"{name} to be healthy", name)

    def _has_not_ended(self, service: Service) -> bool:
        assert self.is_running(service.name), self._told(f"{service.name} ended by itself", service.name)
        return True

    def _is_up(self, service: Service) -> bool:
        if service.kind in _PORTS:
            return is_listening(int(self.variables[_PORTS[service.kind]]))
        return _AT_WORK[service.kind] in self.log(service.name)[service.logged_before :]

    def wait_until(self, look: Callable[[], Found | None], what: str, *logs: str) -> Found:
        """Call ``look`` until it returns something true, and return that.

        The error after the timeout shows the last lines of the services ``logs``; default: of all.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := look()):
            assert time.monotonic() < deadline, self._told(f"waited {TIMEOUT_S:.0f} s in vain for {what}", *logs)
            time.sleep(POLL_S)
        return found

    def log(self, name: str) -> str:
        """All that a service has printed, through all its starts."""
        log = self.services[name].log
        return log.read_text(errors="replace") if log.exists() else ""

    def end_everything(self) -> None:
        """Kill all running services."""
        for service in [*self.services.values(), self._run]:
            self._kill(service)

    def _service(self, name: str, kind: str, spec: Mapping[str, Any]) -> Service:
        # Redis writes its title over its environment: the guard of the run knows it by its folder.
        folder = open_folder(name) if name == "redis" else self._folder / name
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        # Our programs are those of the tests' own Python, whose folder may hold another Redis.
        program = redis_program() if name == "redis" else sys.executable
        environment = {
            "PATH": os.pathsep.join([str(Path(program).parent), os.defpath]),
            "PYTHONPATH": str(PROJECT_FOLDER),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(folder / "tmp"),
            "TMPDIR": str(folder / "tmp"),
            "HOSTNAME": name,
            _MARKER: f"{self._id}/{name}",
            **marker(),
        }
        if name != "redis":  # what the image brings along: its working directory is DAGSTER_HOME
            (folder / "dagster.yaml").write_text(yaml.safe_dump(self._dagster_config))
            (folder / "workspace.yaml").write_text((PROJECT_FOLDER / "deploy" / "workspace.yaml").read_text())
            environment["DAGSTER_HOME"] = str(folder)
        for variable, value in spec.get("environment", {}).items():
            if value is not None:
                environment[variable] = value
            elif variable in self.variables:
                environment[variable] = self.variables[variable]
        return Service(name, kind, spec, folder, environment | self._environment)

    def _waves(self) -> list[list[str]]:
        """Services that can be started together, in the order in which that is possible."""
        waves: list[list[str]] = []
        started = set(_SERVERS_OF_THE_TEST)
        left = dict(self.services)
        while left:
            wave = [name for name, service in left.items() if set(service.spec.get("depends_on", {})) <= started]
            assert wave, f"{sorted(left)} wait for each other"
            waves.append(wave)
            for name in wave:
                started.add(left.pop(name).kind)
        return waves

    def _launch(self, service: Service) -> None:
        assert service.process is None or service.process.poll() is not None, f"{service.name} runs already"
        service.logged_before = len(self.log(service.name))
        with service.log.open("ab") as log:
            service.process = subprocess.Popen(
                [*service.prefix, *service.spec["command"]],
                cwd=service.folder,
                env=service.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _call(self, service: Service, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=service.folder,
            env=service.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )

    def _terminate(self, service: Service) -> None:
        if service.process is not None and service.process.poll() is None:
            service.process.send_signal(getattr(signal, service.spec.get("stop_signal", "SIGTERM")))

    def _wait_until_stopped(self, service: Service) -> None:
        if service.process is None:
            return
        try:
            service.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._told(f"{service.name} did not stop", service.name)) from None
        self._kill(service)  # a container ends with its first process

    def _first_process(self, name: str) -> subprocess.Popen[bytes]:
        process = self.services[name].process
        assert process is not None, f"{name} was not started"
        return process

    def _processes(self, service: Service) -> list[psutil.Process]:
        first = service.process.pid if service.process is not None and service.process.poll() is None else None
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                # Redis writes its title over its environment, so that the marker is lost: it is known by its id.
                ours = process.pid == first or process.environ().get(_MARKER) == service.environment[_MARKER]
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _kill(self, service: Service) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while processes := self._processes(service):  # again: one may have started another meanwhile
            assert time.monotonic() < deadline, f"{processes} cannot be killed"
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if service.process is not None:
                service.process.poll()
            time.sleep(0.01)
        if service.process is not None:
            service.process.wait(TIMEOUT_S)

    def _told(self, message: str, *logs: str) -> str:
        def tails() -> Iterator[str]:
            for name in logs or self.services:
                lines = self.log(name).splitlines()[-LOG_TAIL_LINES:]
                yield "\n".join([f"---- the last lines of {name}", *lines])

        return "\n".join([message, *tails()])


def _variables(settings: Settings) -> dict[str, str]:
    """What the file .env of this deployment would say."""
    ports = {name: str(held_port()) for name in ("REDIS", "CODE", "UI")}
    addresses = {"HEIMDALL_LISTEN": LOOPBACK, "HEIMDALL_REDIS_HOST": LOOPBACK, "HEIMDALL_CODE_HOST": LOOPBACK}
    return (
        environment_of(settings)
        | {"HEIMDALL_REDIS_PASSWORD": secrets.token_hex(24)}
        # The test's servers have one user.
        | {"HEIMDALL_PG_OWNER_USER": settings.pg_user}
        | {"HEIMDALL_PG_OWNER_PASSWORD": settings.pg_password.get_secret_value()}
        | dict.fromkeys(("HEIMDALL_PG_ADMIN_PASSWORD", "HEIMDALL_S3_ADMIN_PASSWORD"), "not-used")
        | {f"HEIMDALL_{name}_PORT": port for name, port in ports.items()}
        | addresses
    )


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, Mapping):
        return below | {key: _merged(below.get(key), value) for key, value in above.items()}
    return above
