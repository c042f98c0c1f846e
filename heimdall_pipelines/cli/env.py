"""`heimdall env`: the environment for Dagster's own commands, `dg` and `dagster`, as lines for a shell."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import typer

from heimdall_pipelines.cli.environment import running_servers
from heimdall_pipelines.errors import HeimdallError

# Commands that need these options in a folder without pyproject.toml and workspace.yaml.
_WITH_WORKSPACE = (
    *("JOB_LIST", "JOB_PRINT", "JOB_LAUNCH", "JOB_BACKFILL"),
    *("SCHEDULE_LIST", "SCHEDULE_PREVIEW", "SCHEDULE_START", "SCHEDULE_STOP", "SCHEDULE_LOGS", "SCHEDULE_RESTART"),
    *("SENSOR_LIST", "SENSOR_PREVIEW", "SENSOR_START", "SENSOR_STOP", "SENSOR_CURSOR"),
    "DEFINITIONS_VALIDATE",
)
_WITH_TARGET_PATH = ("LIST_DEFS", "LAUNCH")  # not CHECK_DEFS, which also looks for the package in that folder


class NothingRunsError(HeimdallError):
    """The embedded servers of this folder do not run."""


def env() -> None:
    """Print the variables for `dg` and `dagster` to use the running servers: eval "$(heimdall env)".

    The output contains secrets: passwords of PostgreSQL and the S3 store. Keep it out of logs.
    """
    from heimdall_pipelines.settings import ENV_PREFIX, load_local_settings

    before = dict(os.environ)
    local = load_local_settings()
    if not running_servers():
        raise NothingRunsError(
            f"the servers of {local.home.resolve()} are not running; start them: heimdall dev (make dev)"
        )
    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    if not local.has_other_servers:
        changed[f"{ENV_PREFIX}EMBEDDED"] = "true"
        changed |= _project_options(Path(os.environ["DAGSTER_HOME"]))
    programs = Path(sys.executable).parent
    if Path(shutil.which("dagster") or "").parent != programs:
        changed["PATH"] = os.pathsep.join([str(programs), before.get("PATH", os.defpath)])
    for name, value in sorted(changed.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")


def _project_options(folder: Path) -> dict[str, str]:
    """Variables that set the options of commands: workspace and project."""
    workspace, target = str(folder / "workspace.yaml"), str(folder)
    return {f"DAGSTER_CLI_{command}_WORKSPACE": workspace for command in _WITH_WORKSPACE} | {
        f"DAGSTER_DG_{command}_TARGET_PATH": target for command in _WITH_TARGET_PATH
    }
