"""Exports of datasets: the same to the byte, complete or absent, and their rows are those of the database."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
from io import BytesIO

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from heimdall_pipelines.learning.columns import COLUMNS, LINK_TRUTH, TABLES, columns_of
from heimdall_pipelines.learning.description import NotAnExportError
from heimdall_pipelines.model.truth import LinkTruth
from heimdall_pipelines.releases import export_tables
from heimdall_pipelines.releases.arrow_rows import BOUND_FIELDS
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.folder_writing import ExportError, NewFolder, new_folder
from heimdall_pipelines.releases.iq_choice import IqChoiceError
from heimdall_pipelines.releases.reading import groups_of_export
from heimdall_pipelines.releases.scoring import with_baselines
from heimdall_pipelines.releases.table_rows import values_of_tables
from heimdall_pipelines.releases.verifying import verify_export
from heimdall_pipelines.rf.positioning import Receiver
from heimdall_pipelines.store.digest_rows import digested_columns
from heimdall_pipelines.store.digests import counted_columns, digest_of
from heimdall_pipelines.store.releases import set_baselines
from heimdall_pipelines_tests.conftest import environment_of
from heimdall_pipelines_tests.datasets.support import execute, iq_sha256
from heimdall_pipelines_tests.releases.support import BASELINES, NAME, content
from heimdall_pipelines_tests.straight_bound import assert_is_bound


def test_a_release_is_exported_twice_to_the_same_bytes(exported, tmp_path):
    export_dataset(exported.stores, f"{NAME}@1", tmp_path / "again", iq="2")
    assert content(tmp_path / "again") == content(exported.folder)
    assert sorted(content(exported.folder)) == [
        "LICENSE", "README.md", "SHA256SUMS", "croissant.json", "iq.parquet", "iq/iq-00000.tar", "links.parquet",
        "merkle.json", "release.json", "samples.parquet", "time_differences.parquet",
    ]  # fmt: skip


def test_a_dataset_as_it_stands_has_the_root_of_its_release(exported, tmp_path):
    report = export_dataset(exported.stores, NAME, tmp_path / "export")
    assert report.description.root == exported.release.root.hex()
    assert report.description.version is None


def test_an_export_has_everything_that_the_database_has(exported):
    stores, dataset_id = exported.stores, exported.release.dataset_id
    (group,) = groups_of_export(exported.folder, has_differences=True)
    bounds = group.samples.select([f"bound_{name}" for name in BOUND_FIELDS]).to_pylist()
    values = list(values_of_tables(group.samples, group.links, group.differences))
    with stores.database.transaction() as connection:
        stored = connection.execute(
            text(
                f"SELECT {digested_columns('measurement_features')} FROM heimdall.measurement_features"
                " WHERE dataset_id = :id ORDER BY sample_idx"
            ),
            {"id": dataset_id},
        ).mappings()
        rows = [dict(row) for row in stored]
    assert len(rows) == len(values) == 12
    left_out = {"id", "dataset_id", "recording_session_id", "segment_idx", "session_revision"}
    exported_columns = {column.name for column in counted_columns("measurement_features")} - left_out
    for row, ours, its_bound in zip(rows, values, bounds, strict=True):
        stored_bound = row["truth"].pop("position_bound")  # in columns of its own
        assert its_bound == {f"bound_{name}": stored_bound[name] for name in BOUND_FIELDS}
        assert set(ours) == exported_columns
        for name in exported_columns:
            one, other = (digest_of([name], "measurement_features", given) for given in (ours, row))
            assert one == other, name


def test_links_have_a_column_for_each_field_of_their_truth():
    assert {"rx_id", *LINK_TRUTH} == set(LinkTruth.__dataclass_fields__)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_its_unit_and_meaning_in_the_file(exported, table):
    schema = pq.read_schema(exported.folder / f"{table}.parquet")
    expected = columns_of(table, ["random", "region"])
    assert schema.names == [column.name for column in expected]
    for column in expected:
        metadata = schema.field(column.name).metadata
        assert metadata[b"unit"].decode() == column.unit
        assert metadata[b"definition"].decode() == column.definition


def test_names_of_columns_end_with_their_units():
    suffixes = {"Hz": "_hz", "dB": "_db", "dBm": "_dbm", "m": "_m", "us": "_us", "ms": "_ms", "ns": "_ns", "s": "_s"}
    for column in (*COLUMNS["samples"], *COLUMNS["links"], *COLUMNS["time_differences"]):
        name = column.name
        for statistic in ("_std", "_min", "_max"):
            name = name.removesuffix(statistic)
        assert name.endswith(suffixes.get(column.unit, "")), column


def test_iq_in_shards_is_that_of_the_store(exported):
    stored = iq_sha256(exported.stores, _dataset(exported))
    table = pq.read_table(exported.folder / "iq.parquet").to_pylist()
    assert len(table) == 12 * 7
    assert {f"{row['sample_idx']}/{row['rx_id']}.sigmf-data": row["sha256"] for row in table} == stored
    with tarfile.open(exported.folder / "iq/iq-00000.tar") as archive:
        names = archive.getnames()
        assert len(names) == 2 * 7 * 2
        for row in table[:14]:
            npy = archive.extractfile(f"{row['sample_idx']:07d}.{row['rx_id']}.npy").read()
            samples = np.load(BytesIO(npy))
            assert hashlib.sha256(samples.tobytes()).hexdigest() == row["sha256"]
            mapped = np.memmap(exported.folder / row["shard"], "<c8", "r", row["offset_bytes"], (row["num_samples"],))
            assert np.array_equal(samples, mapped)
    assert [row["shard"] for row in table[14:]] == [None] * (len(table) - 14)


def _dataset(exported):
    from heimdall_pipelines.store.datasets import get_dataset

    return get_dataset(exported.stores.database, NAME)


@pytest.mark.parametrize("choice", ["some", "-1", "1.5", ""])
def test_an_unknown_choice_of_iq_is_refused(exported, tmp_path, choice):
    with pytest.raises(IqChoiceError, match="none, stored, all or a number"):
        export_dataset(exported.stores, NAME, tmp_path / "export", iq=choice)


def test_bounds_are_those_of_positioning(exported):
    samples = pq.read_table(exported.folder / "samples.parquet").to_pylist()
    links = pq.read_table(exported.folder / "links.parquet").to_pylist()
    spec = _dataset(exported).spec
    for row in samples:
        own = [link for link in links if link["sample_idx"] == row["sample_idx"] and link["truth_detected"]]
        receivers = [Receiver(link["rx_id"], link["rx_latitude"], link["rx_longitude"]) for link in own]
        snr_db = [link["truth_snr_db"] for link in own]
        found = row["bound_semi_major_m"], row["bound_semi_minor_m"], row["bound_azimuth_deg"]
        assert_is_bound(found, (row["tx_latitude"], row["tx_longitude"]), receivers, snr_db, spec)


def test_a_folder_that_is_taken_is_refused(exported, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ExportError, match="exists already and is not an empty folder"):
        export_dataset(exported.stores, NAME, tmp_path / "taken")
    with pytest.raises(ExportError, match="exists already"):
        export_dataset(exported.stores, NAME, tmp_path / "taken" / "file")
    (tmp_path / "empty").mkdir()
    export_dataset(exported.stores, NAME, tmp_path / "empty")
    assert (tmp_path / "empty" / "SHA256SUMS").is_file()


@pytest.mark.fault("the disk is full while a dataset is exported")
def test_a_full_disk_leaves_nothing(exported, tmp_path, monkeypatch, fault):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(export_tables, "write_samples", full)
    monkeypatch.setattr("heimdall_pipelines.releases.exporting.write_samples", full)
    with pytest.raises(ExportError, match="no room is left on the device; the export was removed"):
        export_dataset(exported.stores, NAME, tmp_path / "export")
    assert list(tmp_path.iterdir()) == []
    fault.record(detected_by=["ExportError"], result="the export is removed; nothing has its name")


KILLED = """
import os, signal, sys
from pathlib import Path
from heimdall_pipelines.releases import exporting, folder_writing
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

owner, name = {
    "tables": (exporting, "write_samples"),
    "IQ": (exporting.ShardWriter, "close"),
    "card": (exporting, "card_text"),
    "checksums": (folder_writing.NewFolder, "write_sums"),
    "name": (Path, "rename"),
}[sys.argv[1]]
setattr(owner, name, kill)
with open_stores(load_settings()) as stores:
    exporting.export_dataset(stores, sys.argv[2], Path(sys.argv[3]), iq="2")
"""


@pytest.mark.slow
@pytest.mark.fault("an export is killed")
def test_a_killed_export_never_looks_complete_and_is_started_clean(exported, tmp_path, fault):
    target, label = tmp_path / "export", f"{NAME}@1"
    for step in ("tables", "IQ", "card", "checksums", "name"):
        command = [sys.executable, "-c", KILLED, step, label, str(target)]
        ended = subprocess.run(command, check=False, env=os.environ | environment_of(exported.settings))
        assert ended.returncode == -signal.SIGKILL, step
        assert [path.name for path in tmp_path.iterdir()] == [".export.partial"]
        with pytest.raises(NotAnExportError):
            verify_export(target)
    (tmp_path / ".export.partial" / "samples.parquet").write_bytes(b"half")
    export_dataset(exported.stores, label, target, iq="2")
    assert content(target) == content(exported.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    fault.record(detected_by="its name, which it gets last", result="the next export starts clean and is complete")


def test_two_exports_to_one_name_do_not_mix(tmp_path):
    with new_folder(tmp_path / "export") as first:
        first.write("a", "1")
        with pytest.raises(ExportError, match="being written by another export"), new_folder(tmp_path / "export"):
            pass
        assert (tmp_path / ".export.partial" / "a").read_text() == "1"
    assert (tmp_path / "export" / "a").read_text() == "1"


def test_an_interrupted_export_leaves_nothing(tmp_path):
    def interrupted(folder: NewFolder) -> None:
        folder.write("a", "1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "export") as folder:
        interrupted(folder)
    assert list(tmp_path.iterdir()) == []


def test_an_export_with_baselines_is_that_of_the_scored_release(exported, tmp_path):
    release = exported.release
    description = with_baselines(exported.folder, tmp_path / "scored", BASELINES)
    set_baselines(exported.stores.database, release.dataset_id, release.version, BASELINES)
    try:
        export_dataset(exported.stores, f"{NAME}@1", tmp_path / "again", iq="2")
    finally:
        execute(exported.stores, "UPDATE heimdall.dataset_releases SET baselines = NULL")
    assert content(tmp_path / "scored") == content(tmp_path / "again")
    assert description.root == release.root.hex()


def test_the_gap_between_splits_is_at_the_top_of_the_card(exported, tmp_path):
    with_baselines(exported.folder, tmp_path / "scored", BASELINES)
    before_files = (tmp_path / "scored" / "README.md").read_text().partition("## Files")[0]
    assert (
        "**trees, levels: median 2000 m on the random split, 5000 m on the region split (2.50 times)**" in before_files
    )
