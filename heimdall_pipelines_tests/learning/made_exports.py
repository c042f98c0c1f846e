"""Exports for tests of learning, written without any server: levels and time differences of a simple propagation."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from heimdall_pipelines.learning.columns import schema_of
from heimdall_pipelines.learning.description import ExportDescription, SplitDescription
from heimdall_pipelines.learning.folder import ExportFolder
from heimdall_pipelines.learning.splits import RANDOM, REGION, labels_of, random_split, region_split
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S, distance_m

RECEIVERS = {
    "aosta": (45.74, 7.32),
    "cuneo": (44.39, 7.55),
    "genova": (44.41, 8.93),
    "milano": (45.46, 9.19),
    "torino": (45.07, 7.69),
}


def written_export(
    folder: Path, num_samples: int = 200, *, shadowing_db: float = 4.0, with_differences: bool = True, iq: bool = False
) -> ExportFolder:
    """Samples around five receivers, the last of which detects only every second one."""
    rng = np.random.default_rng(7)
    lats, lons = rng.uniform(44.3, 45.8, num_samples), rng.uniform(7.2, 9.3, num_samples)
    names = list(RECEIVERS)
    rx_lats, rx_lons = (np.array([RECEIVERS[name][axis] for name in names]) for axis in (0, 1))
    distances = np.stack([distance_m(lats, lons, lat, lon) for lat, lon in zip(rx_lats, rx_lons, strict=True)], axis=1)
    levels = -30 - 20 * np.log10(distances) + rng.normal(0, shadowing_db, distances.shape)
    detected = np.ones(distances.shape, bool)
    detected[1::2, -1] = False
    indices = np.arange(num_samples)
    codes = {"random": random_split(RANDOM, indices), "region": region_split(REGION, lats, lons)}
    samples = {
        "sample_idx": indices,
        "tx_latitude": lats,
        "tx_longitude": lons,
        "bound_semi_major_m": np.full(num_samples, 30.0),
        "bound_semi_minor_m": np.full(num_samples, 40.0),
        **{f"split_{kind}": labels_of(code).tolist() for kind, code in codes.items()},
    }
    num = len(names)
    links = {
        "sample_idx": np.repeat(indices, num),
        "receiver_idx": np.tile(np.arange(num), num_samples),
        "rx_id": names * num_samples,
        "rx_latitude": np.tile(rx_lats, num_samples),
        "rx_longitude": np.tile(rx_lons, num_samples),
        "rx_altitude_m": np.zeros(num * num_samples),
        "signal_present": detected.ravel(),
        "rssi_dbm": pa.array(np.where(detected, levels, np.nan).ravel(), from_pandas=True),
        "snr_db": pa.array(np.where(detected, levels + 140, np.nan).ravel(), from_pandas=True),
        "psd_dbm_per_hz": (levels - 40).ravel(),
        "frequency_offset_hz": rng.normal(0, 50, num * num_samples),
    }
    first, second = np.triu_indices(num, 1)
    delays = distances / SPEED_OF_LIGHT_M_PER_S * 1e6 + rng.normal(0, 0.05, distances.shape)
    known = (detected[:, first] & detected[:, second]).ravel()
    differences = {
        "sample_idx": np.repeat(indices, len(first)),
        "rx_a": [names[a] for a in first] * num_samples,
        "rx_b": [names[b] for b in second] * num_samples,
        "tdoa_us": pa.array(np.where(known, (delays[:, second] - delays[:, first]).ravel(), np.nan), from_pandas=True),
        "std_us": np.full(len(first) * num_samples, 0.07),
        "peak": np.full(len(first) * num_samples, 0.5),
    }
    folder.mkdir()
    _write(folder, "samples", samples, list(codes))
    _write(folder, "links", links, [])
    _write(folder, "time_differences", differences if with_differences else {"sample_idx": []}, [])
    _write(folder, "iq", _iq(folder, num_samples, names) if iq else {"sample_idx": []}, [])
    description = ExportDescription(
        name="made",
        kind="dataset",
        version=1,
        num_samples=num_samples,
        date="2026-01-01",
        licence="CC0-1.0",
        feature_version=2,
        iq="none",
        has_time_differences=with_differences,
        splits={"random": SplitDescription(RANDOM, ""), "region": SplitDescription(REGION, "")},
    )
    (folder / "release.json").write_text(description.to_text())
    (folder / "SHA256SUMS").write_text("")
    return ExportFolder.open(folder)


def _write(folder: Path, table: str, columns: dict, splits: list[str]) -> None:
    """Columns that are not given are null."""
    schema = schema_of(table, splits)
    num = len(columns["sample_idx"])
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(num, field.type)
        for field in schema
    ]
    pq.write_table(pa.table(arrays, schema=schema), folder / f"{table}.parquet")


def _iq(folder: Path, num_samples: int, names: list[str]) -> dict:
    """Values that say which sample and receiver they are of, behind 512 bytes of each."""
    rows = [(index, at) for index in range(0, num_samples, 2) for at in range(len(names))]
    (folder / "iq").mkdir()
    with (folder / "iq" / "iq-00000.tar").open("wb") as file:
        for index, at in rows:
            file.write(bytes(512) + np.full(64, index + 1j * at, "<c8").tobytes())
    return {
        "sample_idx": [index for index, _ in rows],
        "rx_id": [names[at] for _, at in rows],
        "num_samples": [64] * len(rows),
        "shard": ["iq/iq-00000.tar"] * len(rows),
        "offset_bytes": [512 + number * (512 + 512) for number in range(len(rows))],
    }


def changed(folder: Path, **values: object) -> None:
    """Change values of release.json."""
    path = folder / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
