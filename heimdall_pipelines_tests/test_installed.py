"""The wheel in an environment of its own and an empty folder outside any checkout: as root and as an ordinary user."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heimdall_pipelines.local.ports import free_port
from heimdall_pipelines.local.processes import servers_of
from heimdall_pipelines.settings import ENV_PREFIX
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.dev_server import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # a whole demonstration each
FIRST_PORTS = range(24_600, 24_700)
UNPRIVILEGED_ID = "65534"
# An ordinary user who may read whatever folder Python and its packages lie in, and write nowhere but at home.
UNPRIVILEGED = (
    "setpriv",
    f"--reuid={UNPRIVILEGED_ID}",
    f"--regid={UNPRIVILEGED_ID}",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=+dac_read_search",
)


@dataclass(frozen=True)
class Installed:
    """The program `heimdall` of the wheel, an empty folder, and the user who works there."""

    program: Path
    folder: Path
    prefix: tuple[str, ...]

    @property
    def home(self) -> Path:
        return self.folder / ".heimdall"

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith((ENV_PREFIX, "DAGSTER_"))}
        del outside["PATH"]
        return subprocess.Popen(
            [*self.prefix, str(self.program), *map(str, arguments)],
            cwd=self.folder,
            env=outside | {"PATH": os.defpath, "HOME": str(self.folder / "person"), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "output").open("wb"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: object) -> str:
        """Run a command that has to succeed, and give what it printed."""
        code = self.start(*arguments).wait()
        assert code == 0, self.printed()
        return self.printed()

    def printed(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def servers(self) -> list[int]:
        found = servers_of("postgres", self.home / "postgres" / "data") + servers_of("weed", self.home / "s3" / "data")
        return [process.pid for process in found]


@pytest.fixture(scope="module")
def environment_of_wheel() -> Iterator[Path]:
    """A virtual environment with the wheel alone, which sees the dependencies of the one that tests; no network."""
    folder = Path(tempfile.mkdtemp(prefix="heimdall-installed-"))
    folder.chmod(0o755)
    try:
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "wheel")]
        subprocess.run(build, cwd=PROJECT_FOLDER, check=True, capture_output=True)
        (wheel,) = (folder / "wheel").glob("*.whl")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        python = str(folder / "venv" / "bin" / "python")
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
        subprocess.run([*pip, str(wheel)], check=True)
        packages = sysconfig.get_path("purelib")  # its own .pth files, such as that of the checkout, are not read
        own = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
        (own / "dependencies.pth").write_text(f"{packages}\n")
        (folder / "venv" / "bin" / "weed").symlink_to(Path(sys.executable).parent / "weed")
        yield folder / "venv"
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["the present user", "an ordinary user"])
def installed(request, environment_of_wheel) -> Iterator[Installed]:
    prefix = ()
    if request.param == "an ordinary user":
        if os.geteuid() != 0:
            pytest.skip("not root: the present user is an ordinary one")
        if shutil.which("setpriv") is None:
            pytest.skip("there is no setpriv (util-linux) to become an ordinary user with")
        prefix = UNPRIVILEGED
    folder = Path(tempfile.mkdtemp(prefix="heimdall-empty-"))
    folder.chmod(0o755)
    (folder / "person").mkdir()
    if prefix:
        for path in (folder, folder / "person"):
            os.chown(path, int(UNPRIVILEGED_ID), int(UNPRIVILEGED_ID))
    made = Installed(environment_of_wheel / "bin" / "heimdall", folder, prefix)
    try:
        yield made
        assert made.servers() == []
    finally:
        for pid in made.servers():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_demonstration_works_in_an_empty_folder(installed):
    printed = installed.run("demo")
    assert "the counts agree" in printed
    assert "Warning" not in printed
    assert "WARNING" not in printed
    assert [path for path in installed.home.rglob("*") if path.is_symlink() and not path.exists()] == []


def test_a_dataset_is_made_in_an_empty_folder(installed):
    installed.run("dataset", "create", "night", "--num-samples", 2, "--local")
    assert "night" in installed.run("dataset", "list")


def test_dev_runs_in_an_empty_folder_until_sigterm(installed):
    dev = installed.start("dev", "--port", free_port(None, FIRST_PORTS))

    def is_ready() -> bool:
        assert dev.poll() is None, installed.printed()
        return "Dagster UI: " in installed.printed()

    wait_for("the address of the UI", is_ready, timeout_s=1800)
    # Until here: while it stops, Dagster's daemon may report that its code server has ended.
    assert "Traceback" not in installed.printed()
    dev.send_signal(signal.SIGTERM)
    assert dev.wait() == 0


def test_kernels_compile_where_no_folder_can_be_written(environment_of_wheel):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("a folder that cannot be written takes root and setpriv (util-linux)")
    program = "from heimdall_pipelines.rf.philox import philox_words; print(philox_words.stats.cache_path)"
    kernels = subprocess.run(
        [*UNPRIVILEGED, str(environment_of_wheel / "bin" / "python"), "-c", program],
        cwd="/",
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (kernels.returncode, kernels.stdout) == (0, "None\n"), kernels.stderr


def test_sigterm_ends_the_demonstration_where_sigint_is_ignored(installed):
    """As a script's `&` starts it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        demo = installed.start("demo")
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for("both servers", lambda: len(installed.servers()) >= 2 or demo.poll() is not None)
    demo.send_signal(signal.SIGTERM)
    assert demo.wait() != 0
    assert installed.servers() == []
