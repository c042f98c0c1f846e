"""Tiles are content: stored under their hash, fetched by any machine, and never taken for what they are not."""

import io

import numpy as np
import pytest
from sqlalchemy import text

from heimdall_pipelines.formats.terrain_file import TerrainFileError
from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.store.terrain_tiles import list_tiles, remove_tile, tile_location
from heimdall_pipelines.terrain.adding import (
    TerrainTileError,
    add_sea,
    add_terrain_file,
    find_by_prefix,
    remove_terrain_tile,
)
from heimdall_pipelines.terrain.cache import TerrainFolderError, TerrainMissingError, cached_tile, terrain_folder
from heimdall_pipelines.terrain.choosing import TerrainGapError, choose_ground, known_tiles
from heimdall_pipelines.terrain.ground import ground_of, terrain_if_there
from heimdall_pipelines.terrain.shipped import SHIPPED_TILE, shipped_sha256

from .support import hilly, write_hgt

WITHIN = BoundingBox(south=60.2, north=60.8, west=10.2, east=10.8)
AT = [60.5], [10.5]


def replace_object(stores, tile, content):
    location = tile_location(stores.objects, tile.sha256)
    stores.objects.put(location, io.BytesIO(content), len(content), "application/octet-stream")


def test_a_file_becomes_a_tile_that_any_machine_gets(stores, tmp_path, tile_folder):
    added = add_terrain_file(stores, write_hgt(tmp_path))
    assert added.is_new
    (tile,) = list_tiles(stores.database)
    assert (tile.south_deg, tile.north_deg, tile.west_deg, tile.east_deg) == pytest.approx((60, 61, 10, 11))
    assert tile.resolution_arcsec == pytest.approx(3)
    assert (tile.source, tile.licence, tile.file_name) == ("SRTM, NASA", "public domain", "N60E010.hgt")
    assert stores.objects.size_bytes(tile_location(stores.objects, tile.sha256)) == tile.size_bytes
    assert not tile_folder.exists()
    terrain = ground_of([tile.sha256], stores.objects).terrain
    assert terrain.heights_m(*AT)[0] == hilly()[600, 600]
    assert [path.name for path in tile_folder.iterdir()] == [f"{tile.sha256}.tile"]
    assert ground_of([tile.sha256], None).terrain is terrain  # mapped once, and no store is needed any more


def test_the_same_file_again_changes_nothing_but_brings_back_a_lost_object(stores, tmp_path):
    path = write_hgt(tmp_path)
    tile = add_terrain_file(stores, path).tile
    location = tile_location(stores.objects, tile.sha256)
    stores.objects.remove_keys(location.bucket, [location.key])
    with pytest.raises(TerrainMissingError, match=f"terrain tile {tile.sha256} is not in the S3 store .* terrain add"):
        cached_tile(tile.sha256, stores.objects)
    again = add_terrain_file(stores, path, source="somebody else")
    assert not again.is_new
    assert again.tile.sha256 == tile.sha256
    assert len(list_tiles(stores.database)) == 1
    assert cached_tile(tile.sha256, stores.objects).is_file()


def test_a_tile_whose_hash_is_wrong_is_not_used(stores, tmp_path, tile_folder):
    tile = add_terrain_file(stores, write_hgt(tmp_path)).tile
    location = tile_location(stores.objects, tile.sha256)
    content = stores.objects.read(location, 0, tile.size_bytes)
    replace_object(stores, tile, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TerrainMissingError, match=r"is damaged in the S3 store .* its bytes have another hash"):
        cached_tile(tile.sha256, stores.objects)
    assert list(tile_folder.iterdir()) == []
    replace_object(stores, tile, content)
    path = cached_tile(tile.sha256, stores.objects)
    path.write_bytes(content[:-2])  # damaged on this machine: fetched anew
    assert cached_tile(tile.sha256, stores.objects).read_bytes() == content


def test_a_tile_that_is_nowhere_is_named_with_the_command_that_brings_it(stores):
    for objects in (stores.objects, None):
        with pytest.raises(TerrainMissingError, match=f"terrain tile {'0' * 64} .* heimdall terrain add FILE"):
            cached_tile("0" * 64, objects)
    assert terrain_if_there(["0" * 64], stores.objects) is None


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEIMDALL_TERRAIN_FOLDER", str(tmp_path / "file" / "below"))
    with pytest.raises(TerrainFolderError, match=r"cannot be written: .*; see HEIMDALL_TERRAIN_FOLDER"):
        terrain_folder()
    monkeypatch.delenv("HEIMDALL_TERRAIN_FOLDER")
    monkeypatch.setenv("HEIMDALL_HOME", str(tmp_path / "file"))
    assert terrain_folder().is_dir()  # of the system's temporary files


def test_equally_fine_tiles_with_other_heights_are_told_and_the_newest_wins(stores, tmp_path):
    old = add_terrain_file(stores, write_hgt(tmp_path)).tile
    higher = np.where(hilly() > 300, hilly() + 40, hilly())
    added = add_terrain_file(stores, write_hgt(tmp_path, higher, "N60E010_new.hgt"))
    (note,) = added.notes
    assert note.startswith(f"overlaps N60E010.hgt ({old.sha256[:12]}), whose heights differ by up to 40 m")
    chosen = choose_ground(stores, WITHIN)
    assert [tile.sha256 for tile in chosen.tiles] == [added.tile.sha256, old.sha256]
    row, column = np.unravel_index(np.argmax(higher[400:800, 400:800]), (400, 400))
    place = [61 - (400 + row) / 1200], [10 + (400 + column) / 1200]
    assert chosen.ground.terrain.heights_m(*place)[0] == pytest.approx(higher[400:800, 400:800].max())


def test_neighbours_that_share_an_edge_are_no_overlap_worth_a_word(stores, tmp_path):
    add_terrain_file(stores, write_hgt(tmp_path))
    beside = np.full_like(hilly(), 7)
    beside[:, 0] = hilly()[:, -1]
    assert add_terrain_file(stores, write_hgt(tmp_path, beside, "N60E011.hgt")).notes == ()


def test_voids_are_told(stores, tmp_path):
    heights_m = hilly()
    heights_m[:12] = -32768
    (note,) = add_terrain_file(stores, write_hgt(tmp_path, heights_m)).notes
    assert note == "1.00% of the values are void: a coarser tile fills them, if any"


def test_a_sea_floor_is_refused_or_set_to_0_if_asked_for(stores, tmp_path):
    heights_m = hilly()
    heights_m[:600] = -2000
    path = write_hgt(tmp_path, heights_m)
    with pytest.raises(TerrainFileError, match=r"heights down to -2000 m, which is sea floor.* With --sea-floor"):
        add_terrain_file(stores, path)
    added = add_terrain_file(stores, path, sea_floor=True)
    assert added.notes == ("720600 negative heights, down to -2000 m, are set to 0, land among them too",)
    terrain = ground_of([added.tile.sha256], stores.objects).terrain
    assert terrain.heights_m([60.9], [10.5])[0] == 0
    assert not terrain.is_land([60.9], [10.5])[0]


def test_the_shore_of_the_dead_sea_is_land(stores, tmp_path):
    added = add_terrain_file(stores, write_hgt(tmp_path, hilly() - 540, "N31E035.hgt"))
    assert added.notes == ()
    assert ground_of([added.tile.sha256], stores.objects).terrain.is_land([31.5], [35.5])[0]


def test_what_is_missing_or_unreadable_adds_nothing(stores, tmp_path):
    with pytest.raises(TerrainFileError, match=r"N60E010\.hgt: cannot be read: No such file"):
        add_terrain_file(stores, tmp_path / "N60E010.hgt")
    cut = write_hgt(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(TerrainFileError, match="a whole tile has"):
        add_terrain_file(stores, cut)
    assert list_tiles(stores.database) == []


def test_the_package_alone_is_enough_for_its_area(stores):
    chosen = choose_ground(stores, BoundingBox(south=44.2, north=45.7, west=7.0, east=9.3))
    assert [tile.sha256 for tile in chosen.tiles] == [shipped_sha256()]
    assert chosen.ground.files == (SHIPPED_TILE,)
    assert chosen.note.startswith("terrain: 1 tile of 30 arc seconds, GLOBE")


def test_finer_tiles_come_before_the_grid_of_the_package(stores, tmp_path):
    tile = add_terrain_file(stores, write_hgt(tmp_path, name="N45E008.hgt")).tile
    chosen = choose_ground(stores, BoundingBox(south=44.5, north=45.5, west=8.2, east=8.8))
    assert [known.sha256 for known in chosen.tiles] == [tile.sha256, shipped_sha256()]
    terrain = chosen.ground.terrain
    assert terrain.heights_m([45.5], [8.5])[0] == hilly()[600, 600]
    assert terrain.heights_m([44.6], [8.5])[0] > 0


def test_where_nothing_covers_the_earth_is_smooth_and_that_is_said(stores):
    chosen = choose_ground(stores, WITHIN)
    assert chosen.tiles == ()
    assert chosen.ground.terrain is None
    assert "over a smooth Earth. For real ground: heimdall terrain download --area 60.1" in chosen.note


def test_an_area_that_is_covered_in_part_is_refused_with_a_place(stores, tmp_path):
    add_terrain_file(stores, write_hgt(tmp_path))
    beyond = BoundingBox(south=60.2, north=60.8, west=10.2, east=11.4)
    with pytest.raises(TerrainGapError) as caught:
        choose_ground(stores, beyond)
    for part in (
        "terrain covers 6",
        "longitude 11.0",
        "terrain download --area",
        "add --sea S,W,N,E",
        "--terrain none",
    ):
        assert part in str(caught.value)
    assert choose_ground(stores, beyond, partly=True).tiles
    add_sea(stores, BoundingBox(south=60.0, north=61.0, west=11.0, east=12.0))
    whole = choose_ground(stores, beyond)
    assert len(whole.tiles) == 2
    assert whole.ground.terrain.heights_m([60.5], [11.2])[0] == 0
    assert not whole.ground.terrain.is_land([60.5], [11.2])[0]


def test_sea_given_twice_is_one_tile(stores):
    area = BoundingBox(south=-34.0, north=-33.0, west=179.0, east=181.0)
    assert add_sea(stores, area).is_new
    assert not add_sea(stores, area).is_new
    (tile,) = list_tiles(stores.database)
    assert tile.overlaps(-33.6, -179.5, -33.4, -179.4)


def test_tiles_are_found_by_the_beginning_of_their_hash(stores, tmp_path):
    tile = add_terrain_file(stores, write_hgt(tmp_path)).tile
    assert find_by_prefix(stores, tile.sha256[:8]) == list_tiles(stores.database)[0]
    with pytest.raises(TerrainTileError, match="terrain tile 0000000 is unknown"):
        find_by_prefix(stores, "0000000")
    with pytest.raises(TerrainTileError, match="give 6 or more digits"):
        find_by_prefix(stores, tile.sha256[:3])
    with pytest.raises(TerrainTileError, match="is part of the package"):
        find_by_prefix(stores, shipped_sha256()[:12])


def test_a_tile_is_removed_with_its_object_but_not_below_a_dataset(stores, tmp_path):
    tile = add_terrain_file(stores, write_hgt(tmp_path)).tile
    with stores.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO heimdall.synthetic_datasets (name, dataset_type, spec, receivers, seed,"
                " target_num_samples, generator_version, terrain_tiles)"
                " VALUES ('hills', 'iq_raw', '{}', '[]', 0, 10, 2, jsonb_build_array(CAST(:sha256 AS text)))"
            ),
            {"sha256": tile.sha256},
        )
    with pytest.raises(TerrainTileError, match=r"\(N60E010\.hgt\) is part of hills, .* with --force"):
        remove_terrain_tile(stores, tile)
    assert remove_terrain_tile(stores, tile, force=True) == ["hills"]
    assert list_tiles(stores.database) == []
    assert list(stores.objects.entries(stores.objects.synthetic_iq_bucket, "terrain/")) == []
    remove_tile(stores, tile.sha256)  # once more is no error


def test_all_tiles_are_listed_finest_first(stores, tmp_path):
    add_sea(stores, BoundingBox(south=10.0, north=11.0, west=10.0, east=11.0))
    tile = add_terrain_file(stores, write_hgt(tmp_path)).tile
    resolutions = [known.resolution_arcsec for known in known_tiles(stores)]
    assert resolutions == pytest.approx([3, 30, 3600])
    assert known_tiles(stores)[0].sha256 == tile.sha256
