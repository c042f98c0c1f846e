"""Downloads from a public bucket with the layout of Copernicus GLO-30: resumed, checked, and nothing twice."""

import hashlib
import io

import numpy as np
import pytest
from minio.error import S3Error

from heimdall_pipelines.rf.receivers import BoundingBox
from heimdall_pipelines.store.objects import ObjectNotFoundError, ObjectsUnavailableError
from heimdall_pipelines.store.public_bucket import PublicBucket
from heimdall_pipelines.store.terrain_tiles import list_tiles
from heimdall_pipelines.terrain import downloading
from heimdall_pipelines.terrain.downloading import DownloadError, download_terrain, tile_names
from heimdall_pipelines_tests.s3_server import S3Server

from ..formats.tiff_files import POINT, tiff_bytes

BUCKET = "dem"
AREA = BoundingBox(south=60.1, north=60.9, west=10.2, east=11.7)
LAND, SEA = (name for name, _, _ in tile_names(AREA))


def glo30(south, west, side=120):
    """A GeoTIFF as of GLO-30: float32 points from the north-west corner on, without the southern and eastern edge."""
    heights_m = np.random.default_rng(0).uniform(100, 400, (side, side)).astype(np.float32)
    return heights_m, tiff_bytes(
        heights_m, tie=(float(west), south + 1.0), scale=(1 / side, 1 / side), raster=POINT, order="<"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    public = {"name": "anonymous", "actions": [f"Read:{BUCKET}"]}
    with S3Server(tmp_path_factory.mktemp("public"), [public]) as started:
        started.admin().make_bucket(BUCKET)
        yield started


@pytest.fixture
def land(server, monkeypatch):
    """Heights of the only tile that the server has."""
    monkeypatch.setenv("HEIMDALL_TERRAIN_ENDPOINT", f"http://{server.endpoint}")
    monkeypatch.setenv("HEIMDALL_TERRAIN_BUCKET", BUCKET)
    heights_m, content = glo30(60, 10)
    server.admin().put_object(BUCKET, f"{LAND}/{LAND}.tif", io.BytesIO(content), len(content))
    return heights_m, content


def test_names_are_those_of_the_layout():
    names = [name for name, _, _ in tile_names(BoundingBox(south=-0.5, north=0.5, west=179.5, east=180.5))]
    assert names == [
        "Copernicus_DSM_COG_10_S01_00_E179_00_DEM",
        "Copernicus_DSM_COG_10_S01_00_W180_00_DEM",
        "Copernicus_DSM_COG_10_N00_00_E179_00_DEM",
        "Copernicus_DSM_COG_10_N00_00_W180_00_DEM",
    ]


def test_a_public_bucket_is_read_without_credentials(server, land):
    bucket = PublicBucket(f"http://{server.endpoint}", BUCKET)
    key = f"{LAND}/{LAND}.tif"
    entry = bucket.entry(key)
    assert (entry.size_bytes, entry.etag) == (len(land[1]), hashlib.md5(land[1]).hexdigest())
    assert bucket.read(key, 10, 20) == land[1][10:30]
    with pytest.raises(ObjectNotFoundError):
        bucket.entry("nothing")
    with pytest.raises(ObjectsUnavailableError):
        PublicBucket(f"http://{server.endpoint}", "ready").entry("ready")  # not public
    with pytest.raises(S3Error):
        bucket._client.put_object(BUCKET, "mine", io.BytesIO(b"x"), 1)


def test_an_area_is_downloaded_once_and_absent_tiles_are_sea(stores, land):
    pytest.importorskip("rasterio")
    tiles = {tile.name: tile for tile in download_terrain(stores, AREA)}
    assert tiles[LAND].added.is_new
    assert tiles[SEA].is_sea
    fine, sea = list_tiles(stores.database)
    assert (fine.source, fine.resolution_arcsec) == ("Copernicus DEM GLO-30", pytest.approx(30))
    assert "Copernicus" in fine.licence
    assert (fine.north_deg, fine.west_deg) == pytest.approx((61, 10))
    assert (sea.west_deg, sea.east_deg) == (11, 12)
    assert {tile.added is None or not tile.added.is_new for tile in download_terrain(stores, AREA)} == {True}


def test_an_interrupted_download_goes_on_where_it_was(stores, land, server, monkeypatch):
    pytest.importorskip("rasterio")
    monkeypatch.setattr(downloading, "_PART_BYTES", 16_384)
    offsets, read = [], PublicBucket.read

    def counting(bucket, key, offset, length):
        offsets.append(offset)
        if len(offsets) == 3:
            raise ObjectsUnavailableError("cut")
        return read(bucket, key, offset, length)

    monkeypatch.setattr(PublicBucket, "read", counting)
    with pytest.raises(ObjectsUnavailableError):
        list(download_terrain(stores, AREA))
    assert offsets == [0, 16_384, 32_768]
    list(download_terrain(stores, AREA))
    assert offsets[3] == 32_768
    assert len(offsets) == 2 + len(range(0, len(land[1]), 16_384)) - 2 + 1
    assert len(list_tiles(stores.database)) == 2


def test_what_was_damaged_on_its_way_is_not_added(stores, land, monkeypatch):
    read = PublicBucket.read

    def damaging(bucket, key, offset, length):
        content = read(bucket, key, offset, length)
        return content[:-1] + bytes([content[-1] ^ 1])

    monkeypatch.setattr(PublicBucket, "read", damaging)
    with pytest.raises(DownloadError, match="was damaged on its way, its checksum differs"):
        list(download_terrain(stores, AREA))
    assert list_tiles(stores.database) == []
