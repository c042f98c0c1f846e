"""Headless Chromium, where there is one: opens a page, and gives its content and a picture of it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from heimdall_pipelines_tests.waiting import TIMEOUT_S

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars"
)


def opened_in_browser(page: Path, folder: Path) -> str:
    """Open a file in a headless browser and return the page as its scripts have left it; skips without a browser."""
    return _run(page, folder, "--virtual-time-budget=5000", "--dump-dom")


def screenshot(page: Path, folder: Path, png: Path) -> None:
    """Write a picture of a page."""
    _run(page, folder, f"--screenshot={png}", "--window-size=1000,4200")


def browser_command(profile: Path) -> list[str]:
    """Give the command of a headless browser with a profile folder of its own; skips without a browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    return [chromium, *_FLAGS.split(), f"--user-data-dir={profile}"]


def _run(page: Path, folder: Path, *flags: str) -> str:
    # Whatever it asks the network for goes nowhere.
    command = [*browser_command(folder / "profile"), "--host-resolver-rules=MAP * ~NOTFOUND"]
    shown = subprocess.run(
        [*command, *flags, page.as_uri()], capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    return shown.stdout
