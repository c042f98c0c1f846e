"""What is released: sdist and wheel hold the package and nothing else, and their version is the changelog's.

HEIMDALL_TEST_DIST names a folder with both, as `make release` does; without it they are built here.
"""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from heimdall_pipelines_tests import PROJECT_FOLDER

PACKAGE = PROJECT_FOLDER / "heimdall_pipelines"
VERSION = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
BESIDE_PACKAGE = {
    *("CHANGELOG.md", "LICENSE", "README.md", "dagster.yaml", "pyproject.toml", "workspace.yaml"),
    *(".gitignore", "PKG-INFO"),  # hatchling's own
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    if given := os.environ.get("HEIMDALL_TEST_DIST"):
        return PROJECT_FOLDER / given
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(PROJECT_FOLDER)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def package_files() -> set[str]:
    return {
        path.relative_to(PROJECT_FOLDER).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def names_in_wheel(dist: Path) -> set[str]:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.mark.long
def test_the_wheel_is_the_package_alone(dist):
    info = f"heimdall_pipelines-{VERSION}.dist-info/"
    own = {name for name in names_in_wheel(dist) if not name.startswith(info)}
    assert own == package_files()
    assert f"{info}licenses/LICENSE" in names_in_wheel(dist)


def test_type_checkers_find_py_typed(dist):
    assert "heimdall_pipelines/py.typed" in names_in_wheel(dist)


def test_the_sdist_has_no_tests_and_no_data(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - package_files() == BESIDE_PACKAGE
    assert package_files() <= names


def test_version_is_the_first_of_the_changelog(dist):
    changelog = (PROJECT_FOLDER / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((unreleased|\d{4}-\d{2}-\d{2})\)$", changelog, re.MULTILINE)
    assert newest is not None, "CHANGELOG.md has no heading such as '## 0.1.0 (unreleased)' or '## 0.1.0 (2026-01-31)'"
    assert newest[1] == VERSION
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"heimdall_pipelines-{VERSION}-py3-none-any.whl"
