"""The notebooks of docs/ run from top to bottom and give the pictures that their pages show.

With HEIMDALL_TEST_WRITE_PICTURES=1 (`make notebooks`) the pictures in docs/images/notebooks are written.
"""

import base64
import os
import re
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.timeout(1800)  # a kernel compiles what a test process has compiled before
PAGES = sorted((DOCS / "notebooks").glob("*.md"))
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def executed(page: Path, folder: Path):
    notebook = jupytext.read(page)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources).execute()
    return notebook


def pictures_of(notebook) -> list[bytes]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_notebook_runs_and_gives_its_pictures(page, environment, tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    pictures = pictures_of(executed(page, tmp_path))

    shown = re.findall(r"\]\(\.\./(images/notebooks/[\w.-]+)\)", page.read_text(encoding="utf-8"))
    assert shown == [f"images/notebooks/{page.stem}-{number}.png" for number in range(1, len(pictures) + 1)]
    for name, picture in zip(shown, pictures, strict=True):
        assert picture.startswith(PNG_SIGNATURE)
        if os.environ.get("HEIMDALL_TEST_WRITE_PICTURES"):
            (DOCS / name).write_bytes(picture)
        assert (DOCS / name).read_bytes().startswith(PNG_SIGNATURE)


def test_there_are_notebooks():
    assert [page.stem for page in PAGES] == ["dataset", "learning", "rf", "session"]
