"""What an export says of itself: release.json, from which its samples can be regenerated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.learning.splits import SplitDefinition

FORMAT = 1
PARAMETERS = ("dataset_type", "spec", "receivers", "seed", "generator_version", "terrain_tiles")
RELEASE_FILE, MERKLE_FILE, SUMS_FILE = "release.json", "merkle.json", "SHA256SUMS"


class NotAnExportError(HeimdallError):
    """The folder is no complete export, or a file of it cannot be read."""


@dataclass(frozen=True)
class SplitDescription:
    """A split of a release.

    Attributes
    ----------
    definition : SplitDefinition
    labels_sha256 : str
        Of the samples' codes as bytes, in order: a release's labels never change.
    leaks : dict
        Of `leaks.Leaks`.
    """

    definition: SplitDefinition
    labels_sha256: str
    leaks: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As release.json and the database hold it."""
        return {
            "definition": self.definition.to_json(),
            "labels_sha256": self.labels_sha256,
            "leaks": self.leaks,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(SplitDefinition.from_json(value["definition"]), value["labels_sha256"], dict(value["leaks"]))


@dataclass(frozen=True, kw_only=True)
class ExportDescription:
    """Content of release.json.

    Attributes
    ----------
    name : str
        Of the dataset, or the sessions.
    kind : str
        dataset or sessions.
    version : int or None
        None for a dataset as it stood, without a release.
    num_samples : int
    date : str
        Of the release, or of the dataset's creation: an export contains no time of its own.
    licence : str
    dataset_type, spec, receivers, seed, generator_version, terrain_tiles
        What determines the samples of a dataset; None for sessions.
    feature_version : int
    root : str or None
        Root of the Merkle tree in hexadecimal; None for sessions.
    truth_root : str or None
        Root over truth and checksums of IQ without features, whose last digits depend on the processor; None for
        sessions, and in exports of before.
    splits : dict of str to SplitDescription
    iq : str
        none, stored, all or a number.
    has_time_differences : bool
    tile_sources : dict of str to str
        Source and licence of each terrain tile by its SHA-256.
    sessions : tuple of str
        Slugs, in the order of their samples.
    baselines : dict or None
    forced_because : str or None
        Why the release or export would have been refused without --force.
    """

    name: str
    kind: str
    version: int | None
    num_samples: int
    date: str
    licence: str
    feature_version: int
    iq: str
    has_time_differences: bool
    dataset_type: str | None = None
    spec: dict[str, Any] | None = None
    receivers: list[dict[str, Any]] | None = None
    seed: int | None = None
    generator_version: int | None = None
    terrain_tiles: list[str] | None = None
    root: str | None = None
    truth_root: str | None = None
    splits: dict[str, SplitDescription] = field(default_factory=dict)
    tile_sources: dict[str, str] = field(default_factory=dict)
    sessions: tuple[str, ...] = ()
    baselines: dict[str, Any] | None = None
    forced_because: str | None = None

    @property
    def label(self) -> str:
        """Name with version, as commands take it."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    def parameters(self) -> dict[str, Any]:
        """What determines the samples, by the names of `PARAMETERS`."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def to_text(self) -> str:
        """Content of the file."""
        values = asdict(self) | {
            "format": FORMAT,
            "splits": {kind: split.to_json() for kind, split in self.splits.items()},
        }
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the description of an export.

        Raises
        ------
        NotAnExportError
            There is none, it is malformed or of a newer format, or the export is not complete.
        """
        path = folder / RELEASE_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotAnExportError(f"{folder} {_why_no_export(folder, error)}") from error
        if not (folder / SUMS_FILE).is_file():
            raise NotAnExportError(f"{folder} is not a complete export: {SUMS_FILE} is missing; export it again")
        try:
            if values["format"] != FORMAT:
                raise NotAnExportError(f"{path}: format {values['format']}, this version reads format {FORMAT}")
            splits = {kind: SplitDescription.from_json(split) for kind, split in values["splits"].items()}
            known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
            return cls(**known | {"splits": splits, "sessions": tuple(values["sessions"])})
        except (KeyError, TypeError, AttributeError, HeimdallError) as error:
            if isinstance(error, NotAnExportError):
                raise
            raise NotAnExportError(f"{path} is malformed: {error!r}") from error


def _why_no_export(folder: Path, error: OSError | ValueError) -> str:
    if not folder.is_dir():
        return "is no folder" if folder.exists() else "does not exist"
    if isinstance(error, FileNotFoundError):
        return f"is not an export of heimdall: it has no {RELEASE_FILE}"
    why = error.strerror if isinstance(error, OSError) else error
    return f"is not an export of heimdall: {RELEASE_FILE} cannot be read: {why}"
