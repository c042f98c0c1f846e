"""Keeps the layers: imports go downwards only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "heimdall_pipelines"
# Rooms by layer, the highest first; rooms of one layer may import each other where listed in SIDEWAYS.
LAYERS = [
    {"cli", "definitions", "defs", "cluster"},
    {"datasets", "sessions", "stations", "terrain", "alerts", "status", "releases"},
    {"store", "local", "pictures", "report_page", "receivers", "learning"},
    {"model"},
    {"rf", "formats"},
    {"throttle", "field_problems"},
]
SIDEWAYS = {
    ("cli", "definitions"),
    ("cli", "defs"),
    ("cli", "cluster"),
    ("cluster", "defs"),
    ("definitions", "cluster"),
    ("definitions", "defs"),
    ("datasets", "terrain"),
    ("formats", "rf"),
    ("releases", "datasets"),
    ("releases", "terrain"),
    ("sessions", "stations"),
    ("sessions", "terrain"),
    ("stations", "terrain"),
    ("status", "datasets"),
    ("status", "sessions"),
}
EVERYWHERE = {"errors"}
NO_SETTINGS = {"rf", "formats", "model"}
# What a room may not touch, whatever it is called there.
FOREIGN = {
    "rf": {"dagster", "sqlalchemy", "psycopg2", "minio", "os", "time", "datetime", "pathlib", "logging", "random"},
    "formats": {"dagster", "sqlalchemy", "psycopg2", "minio", "time"},
    "model": {"dagster", "sqlalchemy", "psycopg2", "minio", "os", "time", "pathlib", "logging"},
    "store": {"dagster"},
    "local": {"dagster"},
    "pictures": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "receivers": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "datasets": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "sessions": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "stations": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "terrain": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "alerts": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "releases": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "learning": {"dagster", "sqlalchemy", "psycopg2", "minio", "os", "time"},
    "status": {"dagster", "sqlalchemy", "psycopg2", "minio"},
    "defs": {"sqlalchemy", "psycopg2", "minio", "numpy", "scipy"},
    "cli": {"sqlalchemy", "psycopg2", "minio"},
    "cluster": {"sqlalchemy", "psycopg2", "minio"},
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(name: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if name in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_room_and_from_below(path):
    here = room(path)
    if here in EVERYWHERE | {"__init__", "settings"}:
        return
    for name in imported(path):
        top, _, rest = name.partition(".")
        there = rest.split(".")[0]
        if top != "heimdall_pipelines":
            assert top not in FOREIGN.get(here, set()), f"{here} imports {name}"
        elif there == "settings":
            assert here not in NO_SETTINGS, f"{here} reads the settings"
        elif there not in EVERYWHERE | {here}:
            assert layer(here) < layer(there) or (here, there) in SIDEWAYS, f"{here} imports {name}"


def test_every_room_belongs_to_a_layer():
    rooms = {room(path) for path in modules()} - EVERYWHERE - {"__init__", "settings"}
    assert rooms == set().union(*LAYERS)


def test_only_the_settings_read_the_environment():
    # The command line sets variables for Dagster's processes, and the embedded servers get theirs.
    allowed = {"settings.py", "cli/environment.py", "cli/dagster_dev.py", "cli/env.py"}
    for path in modules():
        text = path.read_text()
        if "os.environ" in text or "getenv" in text:
            name = str(path.relative_to(PACKAGE))
            assert name in allowed or name.startswith("local/"), f"{name} touches the environment"
