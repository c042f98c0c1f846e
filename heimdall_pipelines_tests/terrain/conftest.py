"""Each test has its own folder of tiles, as a machine of its own."""

import pytest


@pytest.fixture(autouse=True)
def tile_folder(monkeypatch, tmp_path):
    folder = tmp_path / "tiles"
    monkeypatch.setenv("HEIMDALL_TERRAIN_FOLDER", str(folder))
    return folder
