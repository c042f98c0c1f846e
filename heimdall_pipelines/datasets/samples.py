"""One sample of a dataset: its scene, the signal at each receiver, its features, and the truth.

Everything here is a function of the dataset's seed, the sample's index and the frozen spec.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.datasets.limits import NUM_KEPT_IQ
from heimdall_pipelines.datasets.position_bounds import with_bound
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.model.row_metadata import SampleExtraction
from heimdall_pipelines.model.time_differences import PairTimeDifference
from heimdall_pipelines.model.truth import SampleTruth
from heimdall_pipelines.rf.features import SegmentFeatures, extract_features
from heimdall_pipelines.rf.philox import Purpose, generator
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import draw_receiver_sites
from heimdall_pipelines.rf.scene import Scene, draw_scene, rejection_reason
from heimdall_pipelines.rf.segment_tdoa import largest_delays_s, segment_time_differences
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION, Reception, receptions
from heimdall_pipelines.store.datasets import Dataset
from heimdall_pipelines.store.features import ReceiverAggregate, ReceiverFeatures, mean_of
from heimdall_pipelines.store.objects import ObjectStore
from heimdall_pipelines.store.sample_rows import SampleFeatureRow
from heimdall_pipelines.terrain.ground import SMOOTH_EARTH, Ground, ground_of

FULL_SCALE_DBM = 30.0  # samples are in square roots of watts
_PROCESSOR_DEPENDENT_VERSION = 1
_EPOCH_UNIX_NS = 946_684_800 * 10**9  # 2000-01-01: synthetic samples have no time, so they get an arbitrary one
_SAMPLE_SPACING_NS = 10**9

KeepIq = Callable[[ReceiverSite, NDArray[np.complex64]], None]


def what_of_other_version(dataset: Dataset) -> str:
    """Describe what can be done with a dataset of another generator version."""
    about = ""
    if dataset.generator_version == _PROCESSOR_DEPENDENT_VERSION:
        about = (
            f"The bytes of version {_PROCESSOR_DEPENDENT_VERSION} depended on the processor that made them, so "
            "that even its own code does not regenerate them on every machine. "
        )
    return (
        f"{about}The dataset can be kept: read, summarised, validated except for regenerated samples, deleted. "
        f"It cannot be expanded, completed or regenerated. To have it as version {GENERATOR_VERSION}, create a new "
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
        Identifies rows and objects; no number depends on it.
    seed : int
    spec : DatasetSpec
    sites : tuple of ReceiverSite
        The dataset's receivers; random receivers are drawn around them.
    ground : Ground
        On which transmitters and receivers stand.
    """

    dataset_id: UUID
    seed: int
    spec: DatasetSpec
    sites: tuple[ReceiverSite, ...]
    ground: Ground = SMOOTH_EARTH

    @classmethod
    def of(cls, dataset: Dataset, objects: ObjectStore | None = None) -> "Recipe":
        """Read the recipe of a stored dataset, and have its terrain tiles on this machine.

        Parameters
        ----------
        dataset : Dataset
        objects : ObjectStore, optional
            Where tiles that this machine does not have are fetched from.

        Raises
        ------
        GeneratorVersionError
            This version of the code would make other samples.
        TerrainMissingError
            A tile is missing or damaged.
        """
        if dataset.generator_version != GENERATOR_VERSION:
            raise GeneratorVersionError(
                f"dataset {dataset.name} was made by generator version {dataset.generator_version}, this is version "
                f"{GENERATOR_VERSION}, which gives other samples. {what_of_other_version(dataset)}"
            )
        ground = ground_of(dataset.terrain_tiles, objects)
        return cls(dataset.id, dataset.seed, dataset.spec, dataset.receivers, ground)


@dataclass(frozen=True)
class DrawnSample:
    """The first acceptable scene of a sample, and the number of attempts.

    `scene` is None if none of `max_attempts` was acceptable; `attempts` includes the accepted one.
    """

    sample_idx: int
    sites: tuple[ReceiverSite, ...]
    scene: Scene | None
    attempts: int
    rejections: dict[str, int] = field(default_factory=dict)


def draw_sample(recipe: Recipe, sample_idx: int, max_attempts: int) -> DrawnSample:
    """Draw scenes until one is accepted: rejected attempts do not use an index."""
    rejections: dict[str, int] = {}
    for attempt in range(max_attempts):
        drawn = draw_attempt(recipe, sample_idx, attempt)
        if drawn.scene is not None:
            return replace(drawn, rejections=rejections)
        for reason in drawn.rejections:
            rejections[reason] = rejections.get(reason, 0) + 1
    return DrawnSample(sample_idx, recipe.sites, None, max_attempts, rejections)


def draw_attempt(recipe: Recipe, sample_idx: int, attempt: int) -> DrawnSample:
    """Draw the scene of one attempt, counted from 0; without those before it, whose rejections it does not have."""
    spec = recipe.spec
    scene_spec = spec.scene_spec()
    terrain = recipe.ground.terrain
    rng = generator(seed=recipe.seed, sample_idx=sample_idx, purpose=Purpose.SCENE, attempt=attempt)
    sites = recipe.sites
    if spec.use_random_receivers:
        sites = draw_receiver_sites(
            sites, min_count=spec.min_receivers_count, max_count=spec.max_receivers_count, rng=rng, terrain=terrain
        )
    scene = draw_scene(scene_spec, sites, rng, terrain)
    reason = rejection_reason(scene_spec, scene)
    if reason is not None:
        return DrawnSample(sample_idx, recipe.sites, None, attempt + 1, {reason: 1})
    return DrawnSample(sample_idx, sites, scene, attempt + 1)


def make_sample(recipe: Recipe, drawn: DrawnSample, keep_iq: KeepIq | None = None) -> SampleFeatureRow:
    """Synthesise the signal at each receiver and extract its features.

    Parameters
    ----------
    recipe : Recipe
    drawn : DrawnSample
        With a scene.
    keep_iq : callable, optional
        Called with each receiver's samples, complex64 in square roots of watts. Without it one array is reused for
        all receivers.

    Returns
    -------
    SampleFeatureRow
    """
    assert drawn.scene is not None
    spec = recipe.spec
    extracted = []
    powers_dbm = []
    audio = ""
    reused = None if keep_iq else np.empty((1, spec.num_iq_samples), np.complex64)
    for site, reception in zip(drawn.sites, sample_receptions(recipe, drawn, out=reused), strict=True):
        if keep_iq is not None:
            keep_iq(site, reception.iq)
        extracted.append(extract_sample_iq(spec, reception.iq))
        powers_dbm.append(float(reception.signal_power_dbm.mean()))
        audio = reception.audio
    receivers = tuple(_element(site, found) for site, found in zip(drawn.sites, extracted, strict=True))
    truth = SampleTruth.of(drawn.scene, [site.rx_id for site in drawn.sites], powers_dbm, audio)
    truth = with_bound(truth, [(site.latitude, site.longitude) for site in drawn.sites], spec)
    return SampleFeatureRow(
        sample_idx=drawn.sample_idx,
        truth=truth,
        start_time_unix_ns=start_time_unix_ns(drawn.sample_idx),
        receivers=receivers,
        time_differences=sample_time_differences(spec, receivers, extracted),
        tx_latitude=drawn.scene.tx_latitude,
        tx_longitude=drawn.scene.tx_longitude,
        tx_altitude_m=drawn.scene.tx_altitude_m,
        tx_power_dbm=drawn.scene.tx_power_dbm,
        extraction_metadata=SampleExtraction(
            bandwidth_hz=spec.bandwidth_hz,
            segment_ms=spec.duration_ms,
            chunk_ms=spec.chunk_duration_ms,
            num_chunks=spec.num_chunks,
            attempts=drawn.attempts,
            rejections=drawn.rejections,
        ),
        **vars(ReceiverAggregate.of(receivers, (drawn.scene.tx_latitude, drawn.scene.tx_longitude))),
    )


def sample_receptions(
    recipe: Recipe,
    drawn: DrawnSample,
    *,
    receiver_indices: list[int] | None = None,
    out: NDArray[np.complex64] | None = None,
) -> Iterator[Reception]:
    """Signals at the receivers of a sample, or at some of them, one at a time; see `rf.synthesis.receptions`."""
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
    """Arbitrary time of a sample's first value: 2000-01-01 UTC plus a second for each sample."""
    return _EPOCH_UNIX_NS + sample_idx * _SAMPLE_SPACING_NS


def extract_sample_iq(spec: DatasetSpec, iq: NDArray[np.complex64]) -> SegmentFeatures:
    """Features of a receiver's samples, as generated or as stored."""
    return extract_features(
        iq.reshape(spec.num_chunks, -1),
        sample_rate_hz=float(spec.sample_rate_hz),
        channel_bandwidth_hz=float(spec.bandwidth_hz),
        full_scale_dbm=FULL_SCALE_DBM,
    )


def sample_time_differences(
    spec: DatasetSpec, receivers: Sequence[ReceiverFeatures], extracted: Sequence[SegmentFeatures]
) -> tuple[PairTimeDifference, ...]:
    """Time differences of the receivers that detected: the samples of all begin at the same time by their clocks."""
    present = [index for index, receiver in enumerate(receivers) if receiver.signal_present]
    if len(present) < 2:
        return ()
    detected = [receivers[index] for index in present]
    strengths = [float(extracted[index].detection_statistic.sum()) for index in present]
    reference = strengths.index(max(strengths))
    frequencies_hz = [mean_of(receiver, "frequency_offset_hz") for receiver in detected]
    assumed_hz = frequencies_hz[reference] or 0.0
    found = segment_time_differences(
        [extracted[index].channel_signal for index in present],
        rate_hz=extracted[present[0]].channel_rate_hz,
        bandwidth_hz=float(spec.bandwidth_hz),
        max_delays_s=largest_delays_s(
            [receiver.rx_lat for receiver in detected],
            [receiver.rx_lon for receiver in detected],
            [receiver.rx_alt_m for receiver in detected],
        ),
        reference=reference,
        frequencies_hz=[assumed_hz if frequency_hz is None else frequency_hz for frequency_hz in frequencies_hz],
    )
    rx_ids = [receiver.rx_id for receiver in detected]
    return tuple(PairTimeDifference.of(rx_ids, difference) for difference in found)


def _element(site: ReceiverSite, extracted: SegmentFeatures) -> ReceiverFeatures:
    return ReceiverFeatures(
        rx_id=site.rx_id,
        rx_lat=site.latitude,
        rx_lon=site.longitude,
        rx_alt_m=site.altitude_m,
        signal_present=extracted.signal_present,
        features=extracted.summary(),
        flags=extracted.flags,
    )


def scene_truth(drawn: DrawnSample) -> SampleTruth:
    """Truth of a sample's scene, without any IQ: all but the audio and the powers that fading decides."""
    assert drawn.scene is not None
    return SampleTruth.of(drawn.scene, [site.rx_id for site in drawn.sites])
