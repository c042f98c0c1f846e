"""A released dataset and its export, made once for each module."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.releases import Release
from heimdall_pipelines.store.stores import Stores, open_stores
from heimdall_pipelines_tests.datasets.support import database_of_module
from heimdall_pipelines_tests.releases.support import NAME, healthy


@dataclass(frozen=True)
class Exported:
    """A release in the database, and its export."""

    settings: Settings
    stores: Stores
    release: Release
    folder: Path

    def copy(self, target: Path) -> Path:
        """A copy of the export, to change."""
        return Path(shutil.copytree(self.folder, target))


@pytest.fixture(scope="module")
def exported(server_settings, _template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / NAME
    with database_of_module(server_settings) as settings, open_stores(settings) as stores:
        healthy(stores, 12)
        release = release_dataset(stores, NAME)
        export_dataset(stores, f"{NAME}@1", folder, iq="2")
        yield Exported(settings, stores, release, folder)
        stores.objects.remove(stores.objects.synthetic_iq_bucket, "")


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export, to change."""
    return exported.copy(tmp_path / "export")
