"""What the reference dataset is: roots, baselines, and some samples to compare with those of another machine."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.iq_files import iq_file
from heimdall_pipelines.datasets.samples import Recipe, draw_sample, make_sample
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from reference.specification import RESULT_FILE

NUM_COMPARED = 20  # samples whose regeneration a test compares
_ATTEMPTS = 1000


@dataclass(frozen=True)
class ReferenceSample:
    """A sample of the reference dataset.

    Attributes
    ----------
    sample_idx : int
    truth : dict
        As `model.truth.SampleTruth.to_json` gives it.
    iq_sha256 : dict of str to str
        By rx_id.
    features : dict of str to dict of str to float or None
        Mean of each feature by rx_id.
    """

    sample_idx: int
    truth: dict[str, Any]
    iq_sha256: dict[str, str]
    features: dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class ReferenceResult:
    """Content of result.json.

    Attributes
    ----------
    num_samples, generator_version, feature_version : int
    root : str
        Over everything; the last digits of features, and with them the root, depend on the processor.
    truth_root : str
        Over truth and stored IQ.
    baselines : dict
        As `learning.baselines.BaselineReport.to_json` gives it.
    splits : dict
        Sizes and leaks of each.
    samples : tuple of ReferenceSample
    seconds : dict of str to float
        Of each step, on the machine that made it.
    """

    num_samples: int
    generator_version: int
    feature_version: int
    root: str
    truth_root: str
    baselines: dict[str, Any]
    splits: dict[str, Any]
    samples: tuple[ReferenceSample, ...]
    seconds: dict[str, float]

    @property
    def ratio(self) -> float:
        """Time of all steps over that of making the samples."""
        return sum(self.seconds.values()) / self.seconds["making"]

    def to_text(self) -> str:
        """Content of the file."""
        values = asdict(self)
        samples = ",\n".join(f"  {json.dumps(sample)}" for sample in values.pop("samples"))
        return f'{json.dumps(values, indent=1)[:-2]},\n "samples": [\n{samples}\n ]\n}}\n'

    @classmethod
    def read(cls) -> Self:
        """Read result.json."""
        values = json.loads(RESULT_FILE.read_text())
        return cls(**values | {"samples": tuple(ReferenceSample(**one) for one in values["samples"])})


def compared_indices(num_samples: int) -> tuple[int, ...]:
    """Samples that a test regenerates: spread over all, the first and the last among them."""
    return tuple(sorted({int(index) for index in np.linspace(0, num_samples - 1, NUM_COMPARED)}))


def regenerate(recipe: Recipe, indices: Iterable[int]) -> tuple[ReferenceSample, ...]:
    """Make some samples from nothing but parameters and seed."""
    return tuple(_regenerated(recipe, index) for index in indices)


def _regenerated(recipe: Recipe, index: int) -> ReferenceSample:
    sums: dict[str, str] = {}

    def keep(site: ReceiverSite, iq: NDArray[np.complex64]) -> None:
        sums[site.rx_id] = hashlib.sha256(iq_file(recipe, index, site, iq).data).hexdigest()

    made = make_sample(recipe, draw_sample(recipe, index, _ATTEMPTS), keep)
    features = {}
    for receiver in made.receivers:
        element = receiver.to_json()
        features[element["rx_id"]] = {
            name: value["mean"] for name, value in element.items() if isinstance(value, dict) and "mean" in value
        }
    return ReferenceSample(index, made.truth.to_json(), sums, features)
