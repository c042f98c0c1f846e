"""Pages of the site that are not Markdown below docs/: those at the top of the repository, and the API."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "heimdall_pipelines"
# What a notebook or another program calls; rooms of Dagster and of the command line have pages of their own.
ROOMS = ("rf", "formats", "datasets", "sessions", "stations")
AT_TOP = {"index.md": "README.md", **{name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the API to the navigation."""
    pages = [{room: [{path.stem: _page(path)} for path in _modules(room)]} for room in ROOMS]
    config.nav = [*(config.nav or []), {"API": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for page, name in AT_TOP.items():
        files.append(File.generated(config, page, content=_moved_into_docs((TOP / name).read_text(encoding="utf-8"))))
    for path in (path for room in ROOMS for path in _modules(room)):
        module = ".".join(path.relative_to(TOP).with_suffix("").parts)
        files.append(File.generated(config, _page(path), content=f"::: {module}\n"))
    return files


def _moved_into_docs(text: str) -> str:
    """Let links of a page at the top work below docs/; what the site does not have becomes plain text."""
    text = text.replace("](docs/", "](").replace("](README.md", "](index.md")
    return re.sub(r"\[([^\]]+)\]\((?!https?:)(?:LICENSE|[\w./-]+\.(?:py|toml|yaml|yml|sql))\)", r"\1", text)


def _modules(room: str) -> list[Path]:
    return sorted((PACKAGE / room).glob("[!_]*.py"))


def _page(path: Path) -> str:
    return f"api/{path.relative_to(PACKAGE).with_suffix('.md').as_posix()}"
