"""What an export costs: the modules that it loads, the rows that it holds, and its requests to the store."""

import os
import subprocess
import sys

from heimdall_pipelines.releases import iq_choice, stored_rows
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.folder_writing import new_folder
from heimdall_pipelines.store.dataset_snapshot import open_snapshot
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines_tests.conftest import environment_of
from heimdall_pipelines_tests.releases.support import NAME, content

# 15 to 200 MB each; what an export has no use for. Of pandas Arrow loads what it finds when it makes its first array.
HEAVY = {"dagster", "datasets", "duckdb", "matplotlib", "mlcroissant", "polars", "sklearn", "torch"}
HEAVY |= {"scipy.signal", "scipy.stats"}
LOADED = """
import sys
from pathlib import Path
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores
with open_stores(load_settings()) as stores:
    export_dataset(stores, sys.argv[1], Path(sys.argv[2]), iq="2")
print(*sys.modules)
"""


def test_an_export_loads_no_module_that_it_has_no_use_for(exported, tmp_path):
    command = [sys.executable, "-c", LOADED, f"{NAME}@1", str(tmp_path / "export")]
    environment = os.environ | environment_of(exported.settings)
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    loaded = set(answer.stdout.split())
    assert "pyarrow.parquet" in loaded  # the list is that of what was loaded
    assert not loaded & HEAVY


def test_rows_are_fetched_only_a_little_ahead(exported, monkeypatch):
    fetched = 0
    original = stored_rows.rows_as_text

    def counted(*arguments):
        nonlocal fetched
        for row in original(*arguments):
            fetched += 1
            yield row

    monkeypatch.setattr(stored_rows, "rows_as_text", counted)
    held = []
    with open_snapshot(exported.stores.database, NAME) as snapshot:
        for number, group in enumerate(stored_rows.stored_groups(snapshot, 12, size=2), 1):
            assert len(group.tables.samples) == 2
            held.append(fetched - 2 * number)
    assert len(held) == 6
    assert max(held) <= 2


def test_stored_iq_takes_one_request_an_object(exported, tmp_path, monkeypatch):
    read = []
    original = ObjectStore._read

    def counted(self, location, offset, length):
        read.append(location.key)
        return original(self, location, offset, length)

    monkeypatch.setattr(ObjectStore, "_read", counted)
    export_dataset(exported.stores, f"{NAME}@1", tmp_path / "export", iq="2")
    assert sorted(read) == sorted(set(read))
    assert len(read) == 2 * 7


def test_a_sidecar_that_cannot_be_written_again_is_read(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(iq_choice, "iq_sidecar", lambda *_: {"global": {}, "captures": [{}], "annotations": []})
    export_dataset(exported.stores, f"{NAME}@1", tmp_path / "export", iq="2")
    assert content(tmp_path / "export") == content(exported.folder)


def test_a_large_file_that_a_thread_hashes_has_the_sum_of_its_bytes(tmp_path):
    pieces = [bytes([number]) * (1000 * number) for number in range(40)]
    with new_folder(tmp_path / "export") as files:
        for name in ("large", "usual"):
            with files.file(name, is_large=name == "large") as file:
                for piece in pieces:
                    file.write(piece)
        assert files.sha256("large") == files.sha256("usual")
    assert (tmp_path / "export" / "large").read_bytes() == b"".join(pieces)
