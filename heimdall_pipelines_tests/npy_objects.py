"""IQ objects as older versions stored them: `.npy` files, and SigMF descriptions that name them."""

import hashlib
import io
import json
from dataclasses import dataclass

import numpy as np

from heimdall_pipelines.sessions.import_request import content_digest
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.datasets.support import execute, query
from heimdall_pipelines_tests.sealing import reseal


@dataclass(frozen=True)
class NpyObject:
    location: ObjectLocation
    sha256: str
    etag: str
    sidecar_sha256: str


def as_npy(stores: Stores, location: ObjectLocation) -> NpyObject:
    """Replace an object and its description by those that an older version would have stored."""
    stem = location.key.removesuffix(".sigmf-data")
    assert stem != location.key
    samples = np.frombuffer(read(stores, location), "<c8")
    npy = io.BytesIO()
    np.save(npy, samples)
    described = ObjectLocation(location.bucket, f"{stem}.sigmf-meta")
    sidecar = json.loads(read(stores, described))
    core: dict[str, object] = {}
    for name, value in sidecar["global"].items():
        core[name] = value
        if name == "core:num_channels":
            core["core:dataset"] = f"{stem.rsplit('/', 1)[1]}.npy"
    (capture,) = sidecar["captures"]
    capture = {"core:sample_start": 0, "core:header_bytes": len(npy.getvalue()) - samples.nbytes} | capture
    meta = json.dumps(sidecar | {"global": core, "captures": [capture]}, indent=2).encode()
    stores.objects.remove_keys(location.bucket, [location.key])
    old = ObjectLocation(location.bucket, f"{stem}.npy")
    content = npy.getvalue()
    etag = stores.objects.put(old, io.BytesIO(content), len(content), "application/octet-stream")
    stores.objects.put(described, io.BytesIO(meta), len(meta), "application/json")
    return NpyObject(old, hashlib.sha256(content).hexdigest(), etag, hashlib.sha256(meta).hexdigest())


def dataset_as_npy(stores: Stores, dataset_id: object) -> None:
    """Let all IQ of a dataset be as an older version stored it, rows and digests included."""
    rows = query(
        stores,
        "SELECT sample_idx, iq_storage_paths FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id",
        id=dataset_id,
    )
    for row in rows:
        bucket = stores.objects.synthetic_iq_bucket
        stored = {rx: as_npy(stores, ObjectLocation(bucket, key)) for rx, key in row["iq_storage_paths"].items()}
        metadata = {
            "format": "npy",
            "sha256": {rx: one.sha256 for rx, one in stored.items()},
            "etag": {rx: one.etag for rx, one in stored.items()},
            "sidecar_sha256": {rx: one.sidecar_sha256 for rx, one in stored.items()},
        }
        execute(
            stores,
            "UPDATE heimdall.synthetic_iq_samples SET iq_metadata = iq_metadata || CAST(:metadata AS jsonb),"
            " iq_storage_paths = CAST(:paths AS jsonb) WHERE dataset_id = :id AND sample_idx = :idx",
            id=dataset_id,
            idx=row["sample_idx"],
            metadata=json.dumps(metadata),
            paths=json.dumps({rx: one.location.key for rx, one in stored.items()}),
        )
    reseal(stores)


def session_as_npy(stores: Stores, session_id: object) -> None:
    """Let a session's recordings be as an older version stored them, its digest of their content included."""
    rows = query(
        stores,
        "SELECT m.id, s.rx_id, m.start_time_unix_ns, m.iq_data_location FROM heimdall.measurements m"
        " JOIN heimdall.websdr_stations s ON s.id = m.websdr_station_id WHERE m.recording_session_id = :id",
        id=session_id,
    )
    content = []
    for row in rows:
        stored = as_npy(stores, ObjectLocation(*row["iq_data_location"].split("/", 1)))
        content.append([row["rx_id"], row["start_time_unix_ns"], stored.sha256])
        execute(
            stores,
            "UPDATE heimdall.measurements SET iq_data_format = 'npy', iq_data_location = :location, sha256 = :sha256,"
            " etag = :etag, sidecar_sha256 = :sidecar WHERE id = :id",
            id=row["id"],
            location=str(stored.location),
            sha256=stored.sha256,
            etag=stored.etag,
            sidecar=stored.sidecar_sha256,
        )
    execute(
        stores,
        "UPDATE heimdall.recording_sessions SET content_sha256 = :content WHERE id = :id",
        id=session_id,
        content=content_digest(tuple(part) for part in content),
    )
    reseal(stores)


def read(stores: Stores, location: ObjectLocation) -> bytes:
    return stores.objects.read(location, 0, stores.objects.size_bytes(location))
