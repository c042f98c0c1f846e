"""Opens an export: its description, tables, and the labels of its splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.learning.columns import SPLIT_PREFIX, TABLES
from heimdall_pipelines.learning.description import ExportDescription, NotAnExportError

if TYPE_CHECKING:
    import pyarrow as pa


class UnknownPartError(HeimdallError):
    """The export has no such split, part, table or column."""


@dataclass(frozen=True)
class ExportFolder:
    """A complete export.

    Attributes
    ----------
    path : Path
    description : ExportDescription
    """

    path: Path
    description: ExportDescription

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open an export; raises NotAnExportError."""
        return cls(Path(path), ExportDescription.read(Path(path)))

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table, or some of its columns.

        Parameters
        ----------
        name : str
            samples, links, time_differences or iq.
        columns : sequence of str, optional

        Raises
        ------
        UnknownPartError
            There is no such table or column.
        NotAnExportError
            The file cannot be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if name not in TABLES:
            raise UnknownPartError(f"{self.path}: there is no table {name}; there are {', '.join(TABLES)}")
        try:
            file = pq.ParquetFile(self.path / f"{name}.parquet", memory_map=True)
            known = file.schema_arrow.names
            unknown = [column for column in columns or () if column not in known]
            if unknown:
                raise UnknownPartError(f"{self.path}: {name} has no column {', '.join(unknown)}")
            return file.read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError) as error:
            raise NotAnExportError(f"{self.path / name}.parquet cannot be read: {error}") from error

    def labels(self, split: str) -> NDArray[np.str_]:
        """Part of each sample: train, validation, test or none, shape (num_samples,)."""
        if split not in self.description.splits:
            known = ", ".join(self.description.splits) or "none"
            raise UnknownPartError(f"{self.path}: there is no split {split}; there are: {known}")
        column = self.table("samples", [SPLIT_PREFIX + split])[SPLIT_PREFIX + split]
        return np.asarray(column.to_pylist(), dtype=np.str_)
