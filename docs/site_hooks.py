"""Pages of the site that are not in docs/: top-level Markdown files and the API reference."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

TOP = Path(__file__).parents[1]
SOURCES = TOP / "heimdall_pipelines"
# Packages that a notebook or another program calls. Dagster and the command line have other pages.
PACKAGES = ("rf", "formats", "datasets", "sessions", "stations", "terrain", "releases", "learning")
AT_TOP = {"index.md": "README.md", **{name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the API to the navigation."""
    pages = [{package: [{path.stem: _page(path)} for path in _modules(package)]} for package in PACKAGES]
    config.nav = [*(config.nav or []), {"API": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for page, name in AT_TOP.items():
        files.append(File.generated(config, page, content=_moved_into_docs((TOP / name).read_text(encoding="utf-8"))))
    for path in (path for package in PACKAGES for path in _modules(package)):
        module = ".".join(path.relative_to(TOP).with_suffix("").parts)
        files.append(File.generated(config, _page(path), content=f"::: {module}\n"))
    return files


def _moved_into_docs(text: str) -> str:
    """Make links of a top-level page work in docs/; links to files outside the site become plain text."""
    text = text.replace("](docs/", "](").replace("](README.md", "](index.md")
    return re.sub(r"\[([^\]]+)\]\((?!https?:)(?:LICENSE|[\w./-]+\.(?:py|toml|yaml|yml|sql))\)", r"\1", text)


def _modules(package: str) -> list[Path]:
    return sorted((SOURCES / package).glob("[!_]*.py"))


def _page(path: Path) -> str:
    return f"api/{path.relative_to(SOURCES).with_suffix('.md').as_posix()}"
