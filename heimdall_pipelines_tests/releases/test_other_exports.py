"""Exports of datasets that are not like most: random receivers, IQ that is not stored."""

import pyarrow.parquet as pq
import pytest

from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines.store.datasets import DatasetNotFoundError
from heimdall_pipelines_tests.datasets.support import iq_sha256
from heimdall_pipelines_tests.releases.support import NAME, healthy


def test_iq_that_is_not_stored_is_regenerated(stores, tmp_path):
    dataset = healthy(stores, 3)
    stored = iq_sha256(stores, dataset)
    with stores.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM heimdall.synthetic_iq_samples WHERE sample_idx = 1")
    export_dataset(stores, NAME, tmp_path / "export", iq="all", force=True)
    table = pq.read_table(tmp_path / "export" / "iq.parquet").to_pylist()
    assert {f"{row['sample_idx']}/{row['rx_id']}.npy": row["sha256"] for row in table} == stored
    assert [row["in_release"] for row in table] == [True] * 7 + [False] * 7 + [True] * 7
    assert all(row["shard"] == "iq/iq-00000.tar" for row in table)


def test_an_unknown_dataset_leaves_no_folder(stores, tmp_path):
    with pytest.raises(DatasetNotFoundError):
        export_dataset(stores, "unknown", tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_random_networks_have_a_split_by_receivers(stores, tmp_path):
    healthy(stores, 60, use_random_receivers=True, min_receivers_count=5, max_receivers_count=8, tx_power_dbm=47.0)
    release_dataset(stores, NAME, split_seed=3)
    report = export_dataset(stores, f"{NAME}@1", tmp_path / "export")
    assert list(report.description.splits) == ["random", "region", "receivers"]
    found = report.description.splits["receivers"]
    assert found.leaks["receivers_on_both_sides"] == []
    assert found.leaks["sizes"]["train"] > 0
    assert found.leaks["sizes"]["test"] > 0
    assert found.definition.seed == 3
    links = pq.read_table(tmp_path / "export" / "links.parquet")
    assert set(links["split_receivers"].to_pylist()) == {"train", "test", "none"}
