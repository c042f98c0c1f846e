"""One sample of a dataset: its scene, what each receiver hears, the features of that, and the truth beside them.

Everything here is a function of the dataset's seed, the sample's index and the frozen spec.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.limits import NUM_KEPT_IQ
from heimdall_pipelines.datasets.spec import DatasetSpec, parse_spec
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.philox import Purpose, generator
from heimdall_pipelines.rf.receivers import ReceiverSite, draw_receiver_sites
from heimdall_pipelines.rf.scene import Scene, draw_scene, rejection_reason
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION, Reception, receptions
from heimdall_pipelines.store.batches import SampleFeatureRow
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.features import ReceiverAggregate, ReceiverFeatures

FULL_SCALE_DBM = 30.0  # samples are in square roots of watts
_PROCESSOR_DEPENDENT_VERSION = 1
_EPOCH_UNIX_NS = 946_684_800 * 10**9  # 2000-01-01: synthetic samples have no time, so all have the same made-up one
_SAMPLE_SPACING_NS = 10**9

KeepIq = Callable[[ReceiverSite, NDArray[np.complex64]], None]


def what_of_other_version(dataset: Dataset) -> str:
    """Say what can and cannot be done with a dataset of another generator version than this one."""
    about = ""
    if dataset.generator_version == _PROCESSOR_DEPENDENT_VERSION:
        about = (
            f"The bytes of version {_PROCESSOR_DEPENDENT_VERSION} depended on the processor that made them, so not "
            "even its own code gives them again on every machine. "
        )
    return (
        f"{about}The dataset can be kept: read, summarised, validated as far as that needs no samples, deleted. It "
        f"cannot be expanded, completed or regenerated. To have it as version {GENERATOR_VERSION}, create a new "
        f"dataset with the same parameters and seed: heimdall dataset show {dataset.name}"
    )


class GeneratorVersionError(HeimdallError):
    """The dataset was made by another version of the generator, which gives other samples."""


@dataclass(frozen=True)
class Recipe:
    """What determines the samples of a dataset.

    Attributes
    ----------
    dataset_id : UUID
        Names rows and objects; no number depends on it.
    seed : int
    spec : DatasetSpec
    sites : tuple of ReceiverSite
        The dataset's receivers or, if they are random, those around which they are drawn.
    """

    dataset_id: UUID
    seed: int
    spec: DatasetSpec
    sites: tuple[ReceiverSite, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> "Recipe":
        """Read the recipe of a stored dataset.

        Raises
        ------
        GeneratorVersionError
            This version of the code would make other samples of it.
        """
        if dataset.generator_version != GENERATOR_VERSION:
            raise GeneratorVersionError(
                f"dataset {dataset.name} was made by generator version {dataset.generator_version}, this is version "
                f"{GENERATOR_VERSION}, which gives other samples. {what_of_other_version(dataset)}"
            )
        sites = tuple(ReceiverSite(**vars(receiver)) for receiver in dataset.receivers)
        return cls(dataset.id, dataset.seed, parse_spec(dataset.spec), sites)


@dataclass(frozen=True)
class DrawnSample:
    """The first acceptable scene of a sample, and the attempts that it took.

    `scene` is None where `max_attempts` gave none; `attempts` counts the accepted one too.
    """

    sample_idx: int
    sites: tuple[ReceiverSite, ...]
    scene: Scene | None
    attempts: int
    rejections: dict[str, int] = field(default_factory=dict)


def draw_sample(recipe: Recipe, sample_idx: int, max_attempts: int) -> DrawnSample:
    """Draw scenes until one is accepted: rejected attempts never use up an index."""
    spec = recipe.spec
    scene_spec = spec.scene_spec()
    rejections: dict[str, int] = {}
    for attempt in range(max_attempts):
        rng = generator(seed=recipe.seed, sample_idx=sample_idx, purpose=Purpose.SCENE, attempt=attempt)
        sites = recipe.sites
        if spec.use_random_receivers:
            sites = draw_receiver_sites(
                sites, min_count=spec.min_receivers_count, max_count=spec.max_receivers_count, rng=rng
            )
        scene = draw_scene(scene_spec, sites, rng)
        reason = rejection_reason(scene_spec, scene)
        if reason is None:
            return DrawnSample(sample_idx, sites, scene, attempt + 1, rejections)
        rejections[reason] = rejections.get(reason, 0) + 1
    return DrawnSample(sample_idx, recipe.sites, None, max_attempts, rejections)


def make_sample(recipe: Recipe, drawn: DrawnSample, keep_iq: KeepIq | None = None) -> SampleFeatureRow:
    """Synthesise what each receiver hears and extract its features.

    Parameters
    ----------
    recipe : Recipe
    drawn : DrawnSample
        With a scene.
    keep_iq : callable, optional
        Is given each receiver's samples, complex64 in square roots of watts, to keep; without it they are made in one
        array again and again.

    Returns
    -------
    SampleFeatureRow
    """
    assert drawn.scene is not None
    spec = recipe.spec
    elements = []
    links = []
    audio = ""
    reused = None if keep_iq else np.empty((1, spec.num_iq_samples), np.complex64)
    for site, link, reception in zip(
        drawn.sites, drawn.scene.links, sample_receptions(recipe, drawn, out=reused), strict=True
    ):
        if keep_iq is not None:
            keep_iq(site, reception.iq)
        elements.append(_element(spec, site, reception.iq))
        links.append(_link_truth(site, link, reception))
        audio = reception.audio
    receivers = tuple(elements)
    truth = _truth(drawn.scene, links, audio)
    return SampleFeatureRow(
        sample_idx=drawn.sample_idx,
        truth=truth,
        start_time_unix_ns=start_time_unix_ns(drawn.sample_idx),
        receivers=receivers,
        tx_latitude=drawn.scene.tx_latitude,
        tx_longitude=drawn.scene.tx_longitude,
        tx_altitude_m=drawn.scene.tx_altitude_m,
        tx_power_dbm=drawn.scene.tx_power_dbm,
        extraction_metadata={
            "bandwidth_hz": spec.bandwidth_hz,
            "segment_ms": spec.duration_ms,
            "chunk_ms": spec.chunk_duration_ms,
            "num_chunks": spec.num_chunks,
            "attempts": drawn.attempts,
            "rejections": drawn.rejections,
        },
        **vars(ReceiverAggregate.of(receivers, (drawn.scene.tx_latitude, drawn.scene.tx_longitude))),
    )


def sample_receptions(
    recipe: Recipe,
    drawn: DrawnSample,
    *,
    receiver_indices: list[int] | None = None,
    out: NDArray[np.complex64] | None = None,
) -> Iterator[Reception]:
    """What the receivers of a sample hear, or some of them alone, in turn; see `rf.synthesis.receptions`."""
    assert drawn.scene is not None
    spec = recipe.spec
    indices = list(range(len(drawn.sites))) if receiver_indices is None else receiver_indices
    return receptions(
        [drawn.scene.links[index] for index in indices],
        seed=recipe.seed,
        sample_idx=drawn.sample_idx,
        sample_rate_hz=float(spec.sample_rate_hz),
        duration_s=spec.duration_s,
        channel_bandwidth_hz=float(spec.bandwidth_hz),
        num_chunks=spec.num_chunks,
        receiver_indices=indices,
        impairments=[spec.impairments()] * len(indices),
        out=out,
    )


def keeps_iq(spec: DatasetSpec, sample_idx: int) -> bool:
    """Whether the IQ of a sample is stored."""
    return spec.dataset_type == "iq_raw" or sample_idx < NUM_KEPT_IQ


def start_time_unix_ns(sample_idx: int) -> int:
    """Made-up time of a sample's first value: 2000-01-01 UTC and a second for each sample."""
    return _EPOCH_UNIX_NS + sample_idx * _SAMPLE_SPACING_NS


def _element(spec: DatasetSpec, site: ReceiverSite, iq: NDArray[np.complex64]) -> ReceiverFeatures:
    extracted = extract_features(
        iq.reshape(spec.num_chunks, -1),
        sample_rate_hz=float(spec.sample_rate_hz),
        channel_bandwidth_hz=float(spec.bandwidth_hz),
        full_scale_dbm=FULL_SCALE_DBM,
    )
    return ReceiverFeatures(
        rx_id=site.rx_id,
        rx_lat=site.latitude,
        rx_lon=site.longitude,
        rx_alt_m=site.altitude_m,
        signal_present=extracted.signal_present,
        features=extracted.summary(),
        flags=extracted.flags,
    )


def scene_truth(drawn: DrawnSample) -> dict[str, Any]:
    """What of a sample's truth its scene alone tells, without any IQ: all but the audio and what fading makes of it."""
    assert drawn.scene is not None
    links = [_link_truth(site, link) for site, link in zip(drawn.sites, drawn.scene.links, strict=True)]
    return _truth(drawn.scene, links)


def _truth(scene: Scene, links: list[dict[str, Any]], audio: str | None = None) -> dict[str, Any]:
    return {
        "tx_latitude": scene.tx_latitude,
        "tx_longitude": scene.tx_longitude,
        "tx_altitude_m": scene.tx_altitude_m,
        "tx_antenna_height_m": _rounded(scene.tx_antenna_height_m),
        "tx_kind": scene.tx_kind,
        "tx_power_dbm": scene.tx_power_dbm,
        "tx_antenna_gain_dbi": _rounded(scene.tx_antenna_gain_dbi),
        **({} if audio is None else {"audio": audio}),
        "gdop": _rounded(scene.gdop),
        "mean_snr_db": _rounded(scene.mean_snr_db),
        "receivers": [
            link | {"line_of_sight": line_of_sight, "detected": detected}
            for link, line_of_sight, detected in zip(links, scene.line_of_sight, scene.detected, strict=True)
        ],
    }


def _link_truth(site: ReceiverSite, link: Link, reception: Reception | None = None) -> dict[str, Any]:
    """What is true of one receiver; powers and SNR are those of this draw of the fading, mean of the chunks' decibels.

    The link's own numbers are stored as they are: `link_of_truth` gives the link again, to the last bit. The Rice
    factor is there as a plain ratio, 0 for Rayleigh fading and None for no fading, and in dB where that is finite.
    """
    power, snr = {}, {}
    if reception is not None:
        signal_power_dbm = float(reception.signal_power_dbm.mean())
        power = {"signal_power_dbm": _rounded(signal_power_dbm)}
        snr = {"snr_db": _rounded(signal_power_dbm - link.noise_power_dbm)}
    return {
        "rx_id": site.rx_id,
        "delay_s": link.delay_s,
        "mean_received_power_dbm": link.received_power_dbm,
        **power,
        "noise_power_dbm": link.noise_power_dbm,
        **snr,
        "frequency_offset_hz": link.frequency_offset_hz,
        "rice_k": None if link.rice_k_db == math.inf else _rounded(10 ** (link.rice_k_db / 10)),
        "rice_k_db": link.rice_k_db if math.isfinite(link.rice_k_db) else None,
        "doppler_hz": link.doppler_hz,
        "rms_delay_spread_s": link.rms_delay_spread_s,
    }


def link_of_truth(truth: Mapping[str, Any]) -> Link:
    """Read the link from which a receiver's samples were made; of a truth of generator version 2 or later."""
    rice_k_db = truth["rice_k_db"]
    if rice_k_db is None:
        rice_k_db = math.inf if truth["rice_k"] is None else -math.inf
    return Link(
        delay_s=float(truth["delay_s"]),
        received_power_dbm=float(truth["mean_received_power_dbm"]),
        noise_power_dbm=float(truth["noise_power_dbm"]),
        rice_k_db=float(rice_k_db),
        doppler_hz=float(truth["doppler_hz"]),
        rms_delay_spread_s=float(truth["rms_delay_spread_s"]),
        frequency_offset_hz=float(truth["frequency_offset_hz"]),
    )


def scene_of_truth(truth: Mapping[str, Any]) -> Scene:
    """Read the scene of which `scene_truth` was stored; of a truth of generator version 2 or later."""
    receivers = truth["receivers"]
    return Scene(
        tx_latitude=truth["tx_latitude"],
        tx_longitude=truth["tx_longitude"],
        tx_altitude_m=truth["tx_altitude_m"],
        tx_antenna_height_m=truth["tx_antenna_height_m"],
        tx_kind=truth["tx_kind"],
        tx_power_dbm=truth["tx_power_dbm"],
        tx_antenna_gain_dbi=truth["tx_antenna_gain_dbi"],
        links=tuple(link_of_truth(receiver) for receiver in receivers),
        line_of_sight=tuple(receiver["line_of_sight"] for receiver in receivers),
        detected=tuple(receiver["detected"] for receiver in receivers),
        mean_snr_db=truth["mean_snr_db"],
        gdop=truth["gdop"],
    )


def _rounded(value: float) -> float:
    """Nine significant digits: a picosecond of 500 us."""
    return float(f"{value:.9g}")
