"""Exports of sessions: features of segments, split by day."""

import pyarrow.parquet as pq
import pytest

from heimdall_pipelines.releases.folder_writing import ExportError
from heimdall_pipelines.releases.session_exports import export_sessions
from heimdall_pipelines.releases.verifying import verify_export
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines_tests.datasets.support import query
from heimdall_pipelines_tests.releases.support import content
from heimdall_pipelines_tests.sessions.support import import_files, quiet


def test_a_session_is_exported_with_its_features(stores, example_recordings, tmp_path):
    imported = import_files(stores, example_recordings)
    with pytest.raises(ExportError, match="has no features; to extract them"):
        export_sessions(stores, [imported.slug], tmp_path / "export")
    extract_session(stores, imported.session_id, quiet)
    report = export_sessions(stores, [imported.slug], tmp_path / "export")
    export_sessions(stores, [str(imported.session_id)], tmp_path / "again")
    assert content(tmp_path / "export") == content(tmp_path / "again")
    stored = query(
        stores,
        "SELECT segment_idx, rx_id, snr_db, snr_db_std FROM heimdall.receiver_features"
        " WHERE recording_session_id = :id ORDER BY segment_idx, receiver_idx",
        id=imported.session_id,
    )
    links = pq.read_table(tmp_path / "export" / "links.parquet").to_pylist()
    assert len(links) == len(stored) == report.rows["links"] > 3
    for row, link in zip(stored, links, strict=True):
        assert (row["segment_idx"], row["rx_id"], row["snr_db"], row["snr_db_std"]) == (
            link["sample_idx"],
            link["rx_id"],
            link["snr_db"],
            link["snr_db_std"],
        )
    samples = pq.read_table(tmp_path / "export" / "samples.parquet")
    assert len(set(samples["split_day"].to_pylist())) == 1  # one day is in one part
    found = verify_export(tmp_path / "export")
    assert (found.problems, found.num_files) == ([], 8)
    assert "sessions have no root" in found.notes[0]
    with pytest.raises(ExportError, match="given twice"):
        export_sessions(stores, [imported.slug, imported.slug], tmp_path / "twice")


def test_truths_of_links_are_null_in_sessions(stores, example_recordings, tmp_path):
    imported = import_files(stores, example_recordings)
    extract_session(stores, imported.session_id, quiet)
    export_sessions(stores, [imported.slug], tmp_path / "export")
    table = pq.read_table(tmp_path / "export" / "links.parquet")
    for name in table.column_names:
        if name.startswith("truth_"):
            assert table[name].null_count == len(table)
