"""What tests of releases share: a small dataset that is healthy, and changes of files."""

from pathlib import Path

from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.store.datasets import Dataset, get_dataset
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.datasets.support import SEVEN, add, make

NAME = "night"


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
