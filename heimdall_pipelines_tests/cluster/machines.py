"""Machines for tests: network namespaces that reach the servers by a bridge and nothing else."""

import contextlib
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from heimdall_pipelines_tests.deployment.services import Deployment
from heimdall_pipelines_tests.tcp_link import TcpLink


@dataclass(frozen=True)
class Machine:
    """Where a worker runs: what its command begins with, and the variables by which it reaches the servers."""

    name: str
    prefix: Sequence[str]
    environment: Mapping[str, str]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def namespaces_are_allowed() -> bool:
    """Whether this user may make network namespaces."""
    if shutil.which("ip") is None:
        return False
    probe = f"heimdall-probe-{os.getpid()}"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except subprocess.CalledProcessError:
        return False
    return True


@contextlib.contextmanager
def two_machines(deployment: Deployment) -> Iterator[list[Machine]]:
    """Two machines on one bridge; PostgreSQL, S3 and Redis listen at the bridge's address, by forwarders.

    Where namespaces are not allowed, they are plain process groups of this machine.
    """
    if not namespaces_are_allowed():
        warnings.warn("no network namespaces here: process groups stand for machines", stacklevel=3)
        yield [Machine(name, (), {}) for name in ("alpha", "beta")]
        return
    tag = f"{os.getpid() % 0xFFFF:04x}"
    network = f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
    bridge, here = f"hd{tag}br", f"{network}.1"
    with contextlib.ExitStack() as undo:
        _ip("link", "add", bridge, "type", "bridge")
        undo.callback(_ip, "link", "delete", bridge)
        _ip("addr", "add", f"{here}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        settings, variables = deployment.settings, deployment.variables
        ports = (settings.pg_port, settings.s3_endpoint.rpartition(":")[2], variables["HEIMDALL_REDIS_PORT"])
        postgres, s3, queue = (undo.enter_context(TcpLink(int(port), here)) for port in ports)
        environment = {
            "HEIMDALL_PG_HOST": here,
            "HEIMDALL_PG_PORT": str(postgres.port),
            "HEIMDALL_S3_ENDPOINT": f"{here}:{s3.port}",
            "HEIMDALL_REDIS_URL": f"redis://:{variables['HEIMDALL_REDIS_PASSWORD']}@{here}:{queue.port}/0",
        }
        machines = []
        for number, name in enumerate(("alpha", "beta"), start=2):
            namespace, outer, inner = f"heimdall-{tag}-{name}", f"hd{tag}o{number}", f"hd{tag}i{number}"
            _ip("netns", "add", namespace)
            undo.callback(_ip, "netns", "delete", namespace)
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", namespace)
            _ip("link", "set", outer, "master", bridge, "up")
            _ip("-n", namespace, "addr", "add", f"{network}.{number}/24", "dev", inner)
            _ip("-n", namespace, "link", "set", inner, "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            machines.append(Machine(name, (shutil.which("ip") or "ip", "netns", "exec", namespace), environment))
        yield machines
