"""Datasets over terrain: frozen with their tiles, the same on every machine, and honest when a tile is gone."""

import json
import shutil

import pytest
from sqlalchemy import text

from heimdall_pipelines.datasets.checks import check_dataset
from heimdall_pipelines.datasets.generating import make_batch
from heimdall_pipelines.datasets.requesting import request_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.errors import UnavailableError
from heimdall_pipelines.store.datasets import get_dataset
from heimdall_pipelines.store.stations import Station, add_station, list_stations
from heimdall_pipelines.terrain.adding import add_terrain_file, remove_terrain_tile
from heimdall_pipelines.terrain.cache import TerrainMissingError
from heimdall_pipelines.terrain.ground import ground_of
from heimdall_pipelines.terrain.shipped import shipped_sha256, shipped_terrain
from heimdall_pipelines_tests.datasets.support import SMALL, execute, feature_rows, iq_sha256, make
from heimdall_pipelines_tests.sealing import reseal

from .support import SITES, hilly, write_hgt

PARAMETERS = SMALL | {"area_margin_deg": 0.1, "max_gdop": 1000, "min_receivers": 1, "batch_size": 10}


@pytest.fixture
def hills(stores, tmp_path):
    """A tile and a network on it, beyond the grid of the package."""
    for site in SITES:
        add_station(stores.database, Station(site.rx_id, site.rx_id, site.latitude, site.longitude, 130.0))
    return add_terrain_file(stores, write_hgt(tmp_path)).tile


def request(stores, name="hills", total=6, **more):
    return request_dataset(stores, name, target_num_samples=total, parameters=PARAMETERS | more, seed=5)


def failed(findings):
    return {name: outcome.examples for name, outcome in findings.outcomes.items() if not outcome.passed}


@pytest.mark.slow
def test_a_dataset_is_frozen_with_its_tiles_and_stays_so(stores, hills, tmp_path):
    outcome = request(stores)
    dataset = get_dataset(stores.database, "hills")
    assert dataset.terrain_tiles == (hills.sha256,)
    assert outcome.notes[0] == "terrain: 1 tile of 3 arc seconds, SRTM, NASA"
    terrain = ground_of(dataset.terrain_tiles, stores.objects).terrain
    ground_m = terrain.heights_m([at.latitude for at in dataset.receivers], [at.longitude for at in dataset.receivers])
    assert [at.altitude_m for at in dataset.receivers] == pytest.approx((ground_m + 10).tolist())
    make(stores, "hills")
    add_terrain_file(stores, write_hgt(tmp_path, hilly(seed=1), "N60E010_new.hgt"))
    request(stores, total=9)
    make(stores, "hills")
    assert get_dataset(stores.database, "hills").terrain_tiles == (hills.sha256,)
    assert failed(check_dataset(stores, "hills", checksums=True)) == {}
    assert len(request(stores, "newer").dataset.terrain_tiles) == 2


@pytest.mark.slow
@pytest.mark.programs
def test_samples_are_the_same_from_1_and_2_workers_with_tiles_from_cache_and_from_the_store(
    stores, hills, tile_folder, monkeypatch, tmp_path
):
    dataset = request(stores).dataset
    make(stores, "hills")  # tiles are in the cache since the request
    rows, checksums = feature_rows(stores, dataset), iq_sha256(stores, dataset)
    assert len(rows) == 6
    assert len(checksums) == 18
    monkeypatch.setenv("HEIMDALL_TERRAIN_FOLDER", str(tmp_path / "of another machine"))
    with Workers(2) as workers:
        make_batch(stores, "hills", 0, workers)  # all are there, so all are regenerated
    assert (feature_rows(stores, dataset), iq_sha256(stores, dataset)) == (rows, checksums)
    assert [path.stem for path in (tmp_path / "of another machine").iterdir()] == [hills.sha256]


@pytest.mark.fault("a terrain tile of a dataset is removed")
def test_a_dataset_whose_tile_is_gone_says_so_and_has_not_failed(stores, hills, tile_folder, tmp_path, fault):
    dataset = request(stores).dataset
    make(stores, "hills")
    rows = feature_rows(stores, dataset)
    remove_terrain_tile(stores, hills, force=True)
    shutil.rmtree(tile_folder)
    assert issubclass(TerrainMissingError, UnavailableError)  # as an outage: no check fails or passes
    for attempt in (lambda: check_dataset(stores, "hills"), lambda: make(stores, "hills")):
        with pytest.raises(TerrainMissingError, match=f"terrain tile {hills.sha256} .* heimdall terrain add FILE"):
            attempt()
    assert feature_rows(stores, dataset) == rows
    add_terrain_file(stores, write_hgt(tmp_path))
    assert failed(check_dataset(stores, "hills", checksums=True)) == {}
    fault.record(
        detected_by="`TerrainMissingError`",
        result="nothing is checked or regenerated, no check fails; after the same file is added again all checks pass",
    )


@pytest.mark.slow
def test_a_truth_that_another_ground_would_give_is_found(stores, hills, tmp_path):
    dataset = request(stores).dataset
    make(stores, "hills")
    other = add_terrain_file(stores, write_hgt(tmp_path, hilly(seed=1), "N60E010_new.hgt")).tile
    execute(
        stores,
        "UPDATE heimdall.synthetic_datasets SET terrain_tiles = CAST(:tiles AS jsonb) WHERE id = :id",
        id=dataset.id,
        tiles=json.dumps([other.sha256]),
    )
    reseal(stores)  # as if it had been created so
    assert set(failed(check_dataset(stores, "hills"))) == {"truths_agree"}


def test_truth_tells_the_loss_the_sight_and_the_clock_of_each_link(stores, hills):
    request(stores)
    make(stores, "hills")
    with stores.database.transaction() as connection:
        truths = connection.execute(text("SELECT truth FROM heimdall.measurement_features")).scalars().all()
    links = [link for truth in truths for link in truth["receivers"]]
    assert len(links) == 18
    assert all(link["path_loss_db"] > 60 and link["diffraction_loss_db"] >= 0 for link in links)
    assert any(abs(link["clock_offset_ns"]) > 5 for link in links)
    assert {link["line_of_sight"] for link in links} <= {True, False}


def test_the_package_and_its_network_need_nothing_more_and_misfits_are_told(stores, network):
    outcome = request_dataset(stores, "shipped", target_num_samples=3, parameters=SMALL, seed=1)
    assert outcome.dataset.terrain_tiles == (shipped_sha256(),)
    misfits = [note.partition(":")[0] for note in outcome.notes[1:]]
    assert misfits == ["aquila-di-giaveno", "coazze"]
    torino = next(at for at in outcome.dataset.receivers if at.rx_id == "torino")
    assert torino.altitude_m == pytest.approx(float(shipped_terrain().heights_m(45.044, 7.672)[0]) + 10)
    assert 0.6 < outcome.acceptance.ratio < 0.9  # in 25 kHz there is 9 dB less noise than in 200 kHz
    make(stores, "shipped")
    assert failed(check_dataset(stores, "shipped", checksums=True)) == {}


def test_no_terrain_where_none_is_asked_for(stores, hills):
    outcome = request(stores, terrain="none")
    assert outcome.dataset.terrain_tiles == ()
    assert [at.altitude_m for at in outcome.dataset.receivers] == [130.0] * 3
    assert outcome.notes == ("terrain: none, scenes are over a smooth Earth",)


def test_a_dataset_of_before_has_a_smooth_earth_and_true_clocks(stores, network):
    dataset = request_dataset(stores, "old", target_num_samples=3, parameters=SMALL | {"terrain": "none"}).dataset
    execute(stores, "UPDATE heimdall.synthetic_datasets SET spec = spec - 'terrain' - 'receiver_clock_ns'")
    reseal(stores)  # as an older version created it
    spec = get_dataset(stores.database, "old").spec
    assert (spec.terrain, spec.receiver_clock_ns) == ("none", 0.0)
    make(stores, "old")
    with stores.database.transaction() as connection:
        (truth, *_) = connection.execute(text("SELECT truth FROM heimdall.measurement_features")).scalars().all()
    assert {link["clock_offset_ns"] for link in truth["receivers"]} == {0}
    assert dataset.terrain_tiles == ()


@pytest.fixture
def network(stores):
    from heimdall_pipelines.stations.network import load_network, sync_network

    sync_network(stores.database, load_network())
    assert list_stations(stores.database)[0].antenna_height_m == 10
