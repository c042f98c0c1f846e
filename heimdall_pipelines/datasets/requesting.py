"""Requests for datasets. A request states the total number of samples, so that repeating it changes nothing."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from heimdall_pipelines.datasets.generating import rejection_table
from heimdall_pipelines.datasets.samples import Recipe, draw_sample
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.batches import BatchGrid, check_name, total_rejections
from heimdall_pipelines.model.dataset_spec import (
    MAX_SEED,
    DatasetSpec,
    InvalidSpecError,
    check_num_samples,
    check_seed,
    parse_spec,
)
from heimdall_pipelines.rf.geodesy import distance_and_azimuth
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import bounding_box, standing_sites
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.datasets import (
    Dataset,
    DatasetExistsError,
    add_dataset,
    find_living_dataset,
    get_living_dataset,
    lower_target,
    raise_target,
)
from heimdall_pipelines.store.stations import list_stations
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.terrain.altitudes import altitude_misfits
from heimdall_pipelines.terrain.choosing import ChosenGround, choose_ground
from heimdall_pipelines.terrain.ground import SMOOTH_EARTH

PROBE_ATTEMPTS = 1000
REFUSED_BELOW = 0.005
WARNED_BELOW = 0.05
ADVISED_BELOW = 0.2
MAX_BATCHES = 20_000  # Dagster manages some 100,000 partitions of all datasets together
SAMPLE_CORE_S = 14.5e-3  # docs/performance.md, Scale: seven receivers, all steps
SAMPLE_BYTES = 7200  # a feature row with its indexes
_COMPLEX64_BYTES = 8
MAX_DISTANCE_KM = 2900  # a sample's delays go up to 10 ms, echoes included

_RELAX = {
    "too_few_receivers": "lower min_receivers or min_snr_db, raise tx_power_dbm, lower area_margin_deg, or add "
    "stations on high ground",
    "mean_snr_too_low": "lower min_snr_db or raise tx_power_dbm",
    "gdop_too_high": "raise max_gdop or inside_ratio, or lower area_margin_deg",
}


class NoReceiversError(HeimdallError):
    """There is no active station."""


class UnacceptableSpecError(HeimdallError):
    """Too few of the drawn scenes would be accepted."""


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of the scenes that are drawn before a dataset is created."""

    attempts: int
    rejections: dict[str, int]

    @property
    def ratio(self) -> float:
        """Share of accepted scenes."""
        return 1 - sum(self.rejections.values()) / self.attempts

    def table(self) -> str:
        """Why scenes were rejected, as a table."""
        return rejection_table(self.attempts, self.rejections)

    def reasons(self) -> str:
        """Why scenes were rejected, and which parameters to change."""
        advice = [
            f"{reason}: {_RELAX[reason]}" for reason, _ in sorted(self.rejections.items(), key=lambda item: -item[1])
        ]
        return "\n".join([self.table(), "To accept more:", *advice])


@dataclass(frozen=True)
class RequestOutcome:
    """Result of a request.

    Attributes
    ----------
    dataset : Dataset
        As stored now.
    num_samples_before : int
        Target before the request; 0 for a new dataset.
    acceptance : Acceptance or None
        Of a new dataset.
    notes : tuple of str
        Of a new dataset: its ground, and stations whose altitude does not fit it.
    """

    dataset: Dataset
    num_samples_before: int
    acceptance: Acceptance | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether the dataset was created."""
        return self.num_samples_before == 0

    @property
    def num_samples_added(self) -> int:
        """Increase of the target."""
        return self.dataset.target_num_samples - self.num_samples_before

    @property
    def warning(self) -> str | None:
        """Warning about a low acceptance, with what would help."""
        if self.acceptance is None or self.acceptance.ratio >= ADVISED_BELOW:
            return None
        slow = "batches will be slow, or stop at 20 attempts per sample"
        if self.acceptance.ratio >= WARNED_BELOW:
            slow = "batches take longer than with more"
        return (
            f"only {self.acceptance.ratio:.1%} of the scenes drawn for {self.dataset.name} are accepted: {slow}\n"
            f"{self.acceptance.reasons()}"
        )


def request_dataset(
    stores: Stores,
    name: str,
    *,
    target_num_samples: int | None,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> RequestOutcome:
    """Create a dataset, or raise the target of an existing one.

    Parameters
    ----------
    stores : Stores
    name : str
        A slug.
    target_num_samples : int or None
        Target; None keeps that of an existing dataset.
    parameters : mapping, optional
        Fields of `DatasetSpec`. Omitted ones take the defaults or those of the existing dataset; a different value
        for an existing dataset is an error.
    seed : int, optional
        Drawn at random and stored if None; must equal that of an existing dataset.

    Returns
    -------
    RequestOutcome

    Raises
    ------
    InvalidNameError, InvalidSpecError
        A field is invalid; the message has its name, value and allowed range. Or the stations are too far apart for one
        sample.
    UnacceptableSpecError
        Less than 0.5 % of 1000 drawn scenes were accepted; the message has the reasons and what to relax.
    NoReceiversError
        No station is active.
    TerrainGapError
        Terrain covers only a part of the area; the message says where there is none and what to do.
    GeneratorVersionError
        The dataset cannot be expanded by this version.
    DatasetDeletedError
        The dataset is being deleted.
    """
    check_name(name)
    if target_num_samples is not None:
        check_num_samples(target_num_samples)
    if seed is not None:
        check_seed(seed)
    given = parameters or {}
    existing = find_living_dataset(stores.database, name)
    if existing is None:
        if target_num_samples is None:
            raise InvalidSpecError(f"dataset {name}: target_num_samples is missing; a new dataset needs it")
        try:
            return _create(stores, name, target_num_samples, parse_spec(given), seed)
        except DatasetExistsError:  # created by another process at the same moment
            existing = get_living_dataset(stores.database, name)
    return _expand(stores, existing, target_num_samples, given, seed)


def expand_dataset(stores: Stores, name: str, by: int) -> RequestOutcome:
    """Raise a dataset's target by a number of samples.

    Raises
    ------
    DatasetNotFoundError, InvalidSpecError, GeneratorVersionError
    """
    if by < 1:
        raise InvalidSpecError(f"expansion by {by} samples: 1 or more are allowed")
    dataset = get_living_dataset(stores.database, name)
    return request_dataset(stores, name, target_num_samples=dataset.target_num_samples + by)


def shrink_dataset(stores: Stores, name: str, to: int) -> RequestOutcome:
    """Lower a dataset's target, to take an expansion back; samples that exist stay.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset, or it is being deleted.
    InvalidSpecError
        The number is not allowed, or above the present target.
    SamplesExistError
        Samples at or after the new target exist; the message has the lowest possible target.
    """
    check_num_samples(to)
    dataset = get_living_dataset(stores.database, name)
    before = dataset.target_num_samples
    if to > before:
        raise InvalidSpecError(
            f"dataset {name} has the target {before}, below {to}; to raise it: heimdall dataset expand {name} --to {to}"
        )
    return RequestOutcome(lower_target(stores.database, dataset, to), before)


def growth_cost(dataset: Dataset, target_num_samples: int) -> str:
    """Describe what generating the missing samples up to a new target costs on this machine, in round numbers."""
    num_missing = max(target_num_samples - dataset.num_samples, 0)
    num_batches = BatchGrid(dataset.name, dataset.grid.batch_size, target_num_samples).num_batches
    hours = num_missing * SAMPLE_CORE_S / 3600
    size_gb = num_missing * SAMPLE_BYTES / 1e9
    if dataset.dataset_type == "iq_raw":
        spec = dataset.spec
        size_gb += num_missing * len(dataset.receivers) * spec.num_iq_samples * _COMPLEX64_BYTES / 1e9
    return (
        f"{num_missing} samples to generate in {num_batches} batches, about {hours:.2g} h of one core "
        f"and {size_gb:.2g} GB (docs/performance.md, Scale)"
    )


def probe_acceptance(recipe: Recipe, attempts: int = PROBE_ATTEMPTS) -> Acceptance:
    """Draw one scene for each of the first samples and count the rejections."""
    drawn = (draw_sample(recipe, sample_idx, max_attempts=1) for sample_idx in range(attempts))
    return Acceptance(attempts, total_rejections(sample.rejections for sample in drawn))


def _create(stores: Stores, name: str, target_num_samples: int, spec: DatasetSpec, seed: int | None) -> RequestOutcome:
    _check_num_batches(name, spec, target_num_samples)
    receivers = tuple(
        ReceiverSite(station.rx_id, station.latitude, station.longitude, station.altitude_m, station.antenna_height_m)
        for station in list_stations(stores.database)
        if station.is_active
    )
    _check_receivers(spec, receivers)
    chosen = _choose_ground(stores, spec, receivers)
    notes = [chosen.note]
    if chosen.ground.terrain is not None:
        notes += [str(misfit) for misfit in altitude_misfits(receivers, chosen.ground.terrain)]
        receivers = standing_sites(receivers, chosen.ground.terrain)
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
    acceptance = probe_acceptance(Recipe(UUID(int=0), seed, spec, receivers, chosen.ground))
    if acceptance.ratio < REFUSED_BELOW:
        raise UnacceptableSpecError(
            f"dataset {name} was not created: {acceptance.ratio:.1%} of {acceptance.attempts} drawn scenes are "
            f"accepted, {REFUSED_BELOW:.1%} are needed\n{acceptance.reasons()}"
        )
    dataset = add_dataset(
        stores.database,
        name=name,
        spec=spec,
        receivers=receivers,
        seed=seed,
        target_num_samples=target_num_samples,
        generator_version=GENERATOR_VERSION,
        terrain_tiles=[tile.sha256 for tile in chosen.tiles],
    )
    return RequestOutcome(dataset, 0, acceptance, tuple(notes))


def _choose_ground(stores: Stores, spec: DatasetSpec, receivers: Sequence[ReceiverSite]) -> ChosenGround:
    if spec.terrain == "none":
        return ChosenGround((), SMOOTH_EARTH, "terrain: none, scenes are over a smooth Earth")
    return choose_ground(stores, bounding_box(receivers, spec.area_margin_deg))


def _expand(
    stores: Stores, dataset: Dataset, target_num_samples: int | None, given: Mapping[str, Any], seed: int | None
) -> RequestOutcome:
    frozen = dataset.spec
    asked = parse_spec(frozen.to_json() | dict(given))
    differing = [
        f"  {name} {getattr(asked, name)!r}: the dataset has {getattr(frozen, name)!r}"
        for name in given
        if getattr(asked, name) != getattr(frozen, name)
    ]
    if seed is not None and seed != dataset.seed:
        differing.append(f"  seed {seed}: the dataset has {dataset.seed}")
    if differing:
        raise InvalidSpecError(
            f"dataset {dataset.name} exists and its parameters are frozen; an expansion keeps them:\n"
            + "\n".join(differing)
            + "\nOmit them, or create a dataset with another name"
        )
    before = dataset.target_num_samples
    if target_num_samples is None or target_num_samples == before:
        return RequestOutcome(dataset, before)
    if target_num_samples < before:
        raise InvalidSpecError(
            f"target_num_samples {target_num_samples}: dataset {dataset.name} already has the target {before}, "
            f"which an expansion does not lower; to lower it: heimdall dataset shrink {dataset.name} "
            f"--to {target_num_samples}"
        )
    _check_num_batches(dataset.name, frozen, target_num_samples)
    Recipe.of(dataset, stores.objects)  # raises if this version cannot make samples of it
    return RequestOutcome(raise_target(stores.database, dataset, target_num_samples), before)


def _check_num_batches(name: str, spec: DatasetSpec, target_num_samples: int) -> None:
    num_batches = BatchGrid(name, spec.batch_size, target_num_samples).num_batches
    if num_batches > MAX_BATCHES:
        raise InvalidSpecError(
            f"target_num_samples {target_num_samples} at batch_size {spec.batch_size} are {num_batches} batches, "
            f"up to {MAX_BATCHES} are allowed"
        )


def _check_receivers(spec: DatasetSpec, receivers: Sequence[ReceiverSite]) -> None:
    if not receivers:
        raise NoReceiversError("no station is active; see: heimdall station list")
    if not spec.use_random_receivers and spec.min_receivers > len(receivers):
        raise InvalidSpecError(
            f"min_receivers {spec.min_receivers}: 1 to {len(receivers)}, the number of active stations, is allowed"
        )
    farthest_km = _farthest_m(spec, receivers) / 1e3
    if farthest_km > MAX_DISTANCE_KM:
        raise InvalidSpecError(
            f"the area of the {len(receivers)} active stations with area_margin_deg {spec.area_margin_deg} has places "
            f"{farthest_km:.0f} km apart, up to {MAX_DISTANCE_KM} km are allowed: lower area_margin_deg, or leave out "
            "stations with: heimdall station disable RX_ID"
        )


def _farthest_m(spec: DatasetSpec, receivers: Sequence[ReceiverSite]) -> float:
    """Longest possible path: transmitters, and random receivers, can be anywhere in the area."""
    area = bounding_box(receivers, spec.area_margin_deg)
    corners = [area.position(across, up) for across in (0.0, 1.0) for up in (0.0, 1.0)]
    places = [*corners, *((receiver.latitude, receiver.longitude) for receiver in receivers)]
    pairs = [(*place, *corner) for place in places for corner in corners]
    return float(distance_and_azimuth(*zip(*pairs, strict=True))[0].max())
