"""Exports of datasets that are not like most: random receivers, IQ that is not stored."""

import pyarrow.parquet as pq
import pytest

from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.model.dataset_spec import parse_spec
from heimdall_pipelines.releases.exporting import export_dataset
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines.releases.verifying import verify_export
from heimdall_pipelines.rf.receivers import standing_sites
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.datasets import DatasetNotFoundError, add_dataset
from heimdall_pipelines.terrain.shipped import shipped_sha256, shipped_terrain
from heimdall_pipelines_tests.datasets.support import SEED, SEVEN, SMALL, iq_sha256, make
from heimdall_pipelines_tests.releases.support import NAME, healthy


def test_iq_that_is_not_stored_is_regenerated(stores, tmp_path):
    dataset = healthy(stores, 3)
    stored = iq_sha256(stores, dataset)
    with stores.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM heimdall.synthetic_iq_samples WHERE sample_idx = 1")
    export_dataset(stores, NAME, tmp_path / "export", iq="all", force=True)
    table = pq.read_table(tmp_path / "export" / "iq.parquet").to_pylist()
    assert {f"{row['sample_idx']}/{row['rx_id']}.sigmf-data": row["sha256"] for row in table} == stored
    assert [row["in_release"] for row in table] == [True] * 7 + [False] * 7 + [True] * 7
    assert all(row["shard"] == "iq/iq-00000.tar" for row in table)


def test_an_unknown_dataset_leaves_no_folder(stores, tmp_path):
    with pytest.raises(DatasetNotFoundError):
        export_dataset(stores, "unknown", tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
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


@pytest.mark.slow
def test_datasets_over_terrain_have_a_split_by_valleys_and_are_verified(stores, tmp_path):
    add_dataset(
        stores.database,
        name=NAME,
        spec=parse_spec(SMALL | {"tx_power_dbm": 47.0}),
        receivers=standing_sites(SEVEN, shipped_terrain()),
        seed=SEED,
        target_num_samples=40,
        generator_version=GENERATOR_VERSION,
        terrain_tiles=[shipped_sha256()],
    )
    make(stores, NAME)
    validate_dataset(stores, NAME, seed=1)
    release_dataset(stores, NAME)
    report = export_dataset(stores, f"{NAME}@1", tmp_path / "export")
    assert list(report.description.splits) == ["random", "region", "terrain"]
    assert report.description.splits["terrain"].leaks["num_too_close"] == 0
    assert set(report.description.tile_sources) == {shipped_sha256()}
    found = verify_export(tmp_path / "export", share=0.1, seed=1)
    assert (found.problems, found.notes, found.num_regenerated) == ([], [], 4)
