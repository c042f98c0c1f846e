"""Reads the parameters of the reference dataset, which never change: others are another dataset."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heimdall_pipelines.model.dataset_parameters import completed
from heimdall_pipelines.model.dataset_spec import DatasetSpec, parse_spec
from heimdall_pipelines.model.receiver_sites import sites_from_json
from heimdall_pipelines.rf.receiver_site import ReceiverSite

FOLDER = Path(__file__).parent
SPEC_FILE, RESULT_FILE = FOLDER / "spec.json", FOLDER / "result.json"


@dataclass(frozen=True)
class ReferenceSpec:
    """Content of spec.json.

    Attributes
    ----------
    name : str
    version, num_samples, seed, split_seed : int
    licence : str
    baselines : dict of str to int
        Arguments of `learning.baselines.evaluate_baselines`.
    parameters : dict
        Fields of a dataset's spec, all of them.
    receivers : list of dict
    terrain_tiles : list of str
        SHA-256 of tiles that the package ships.
    """

    name: str
    version: int
    num_samples: int
    seed: int
    split_seed: int
    licence: str
    baselines: dict[str, int]
    parameters: dict[str, Any]
    receivers: list[dict[str, Any]]
    terrain_tiles: list[str]

    @property
    def label(self) -> str:
        """Name with version, as commands take it."""
        return f"{self.name}@{self.version}"

    @property
    def spec(self) -> DatasetSpec:
        """Parameters as the generator takes them."""
        return parse_spec(completed(self.parameters))

    @property
    def sites(self) -> tuple[ReceiverSite, ...]:
        """Receivers as the generator takes them."""
        return tuple(sites_from_json(self.receivers))


def read_spec() -> ReferenceSpec:
    """Read spec.json."""
    return ReferenceSpec(**json.loads(SPEC_FILE.read_text()))
