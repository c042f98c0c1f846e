"""What tests of releases share: a small dataset that is healthy, and changes of files."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.datasets.support import SEVEN, add, make

NAME = "night"
_MEDIANS_M = {"random": 2000.0, "region": 5000.0}
BASELINES = {
    "seed": 0,
    "learned": ["trees, levels"],
    "rows": [
        {
            "split": split,
            "baseline": "trees, levels",
            "num": 100,
            "median_m": median_m,
            "p90_m": 9000.0,
            "mean_m": 3000.0,
            "within_1km": 0.1,
            "reason": "",
        }
        for split, median_m in _MEDIANS_M.items()
    ],
}


def healthy(stores: Stores, num_samples: int = 12, name: str = NAME, **parameters) -> Dataset:
    """A dataset with all its samples, validated."""
    add(stores, name, num_samples, sites=parameters.pop("sites", SEVEN), **parameters)
    make(stores, name)
    validate_dataset(stores, name, seed=1)
    return get_dataset(stores.database, name)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def flip_byte(path: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def resum(folder: Path) -> None:
    """Write the checksums of the files as they are, as somebody would who hides a change."""
    names = sorted(content(folder).keys() - {"SHA256SUMS"})
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def change_table(folder: Path, table: str, column: str, at: int, value: object) -> None:
    """Change a value of an exported table."""
    path = folder / f"{table}.parquet"
    read = pq.read_table(path)
    values = read[column].to_pylist()
    values[at] = value
    number = read.schema.get_field_index(column)
    pq.write_table(
        read.set_column(number, read.schema.field(number), pa.array(values, read.schema.types[number])), path
    )


def change_json(folder: Path, name: str, **values: object) -> None:
    """Change values of a JSON file."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
