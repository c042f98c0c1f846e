"""The documentation builds as a site: links and anchors lead somewhere, and every page and docstring can be read."""

import os
import subprocess
import sys

import pytest

from heimdall_pipelines_tests import PROJECT_FOLDER

pytestmark = pytest.mark.timeout(1800)  # all modules are read and 80 pages written, on however busy a machine


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=PROJECT_FOLDER, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in ("index.html", "CONTRIBUTING.html", "notebooks/rf.html", "api/rf/features.html"):
        assert (tmp_path / "site" / page).is_file()
