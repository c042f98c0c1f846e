"""Verifies an export without any server: its files, its root, and samples regenerated from seed and parameters."""

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from heimdall_pipelines.datasets.iq_files import iq_file
from heimdall_pipelines.datasets.regeneration_checks import FEATURE_TOLERANCE, differences_agree
from heimdall_pipelines.datasets.samples import GeneratorVersionError, Recipe, draw_sample, make_sample
from heimdall_pipelines.datasets.stored_truth import agrees, from_stored_truth, truths_agree
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.npy import read_npy_header
from heimdall_pipelines.formats.recording import RecordingFormatError
from heimdall_pipelines.learning.description import (
    MERKLE_FILE,
    SUMS_FILE,
    ExportDescription,
    NotAnExportError,
)
from heimdall_pipelines.model.dataset_parameters import completed
from heimdall_pipelines.model.dataset_spec import parse_spec
from heimdall_pipelines.model.receiver_sites import sites_from_json
from heimdall_pipelines.model.time_differences import read_time_differences
from heimdall_pipelines.model.truth import MalformedTruthError, SampleTruth
from heimdall_pipelines.releases.ahead import ahead
from heimdall_pipelines.releases.leaves import iq_digest, parameters_hash
from heimdall_pipelines.releases.merkle import GROUP_SIZE, group_hashes, root_hash, truth_root_hash
from heimdall_pipelines.releases.reading import groups_of_export
from heimdall_pipelines.rf.feature_registry import TIME_DIFFERENCES_SINCE
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.features import ReceiverFeatures
from heimdall_pipelines.store.iq_form import NEW_FORM
from heimdall_pipelines.terrain.ground import Ground, ground_of

_SAMPLES_PER_TASK = 5
_MAX_PROBLEMS = 100


class ShareError(HeimdallError):
    """The share of samples to regenerate is invalid."""


@dataclass
class Verification:
    """What a verification found.

    Attributes
    ----------
    label : str
    num_files, num_samples, num_regenerated : int
        Compared.
    root, truth_root : str or None
        As the rows give them; None where they were not computed.
    problems : list of str
        What is wrong, and where; at most 100.
    notes : list of str
        What was not verified, and why.
    """

    label: str
    num_files: int = 0
    num_samples: int = 0
    num_regenerated: int = 0
    root: str | None = None
    truth_root: str | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Note a problem, unless there are too many."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


@dataclass(frozen=True)
class RegenerationTask:
    """Samples to regenerate, as the export has them.

    Attributes
    ----------
    recipe : Recipe
    rows : tuple of dict
        Columns of measurement_features.
    iq_sha256 : dict of int to dict of str to str
        By sample_idx and rx_id; also of IQ that is not part of the release.
    """

    recipe: Recipe
    rows: tuple[dict[str, object], ...]
    iq_sha256: dict[int, dict[str, str]]


def verify_export(
    folder: Path,
    *,
    share: float = 0.01,
    seed: int | None = None,
    expected_root: str | None = None,
    num_workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compare an export's files, rows and a random share of its samples with what they must be.

    Parameters
    ----------
    folder : Path
    share : float, optional
        Of the samples, which are regenerated; at least one, unless 0.
    seed : int, optional
        Of the choice of samples; random if None.
    expected_root : str, optional
        Root that the release is known by, or its root of truth, in hexadecimal. The latter also vouches for an export
        of the same samples that another processor has made: features are then compared by regeneration alone.
    num_workers : int, optional
        Processes that regenerate samples.
    progress : callable, optional
        Called with a line at each step.

    Raises
    ------
    NotAnExportError
        The folder is no complete export.
    ShareError
        The share is not between 0 and 1.
    """
    description = ExportDescription.read(folder)
    found = Verification(description.label)
    chosen = chosen_samples(description.num_samples, share, seed)
    progress(f"verifying files of {folder}")
    _verify_files(folder, found)
    if expected_root is not None and expected_root not in (description.root, description.truth_root):
        found.add(f"release.json: the root is {description.root}, {expected_root} is expected")
    elif expected_root is not None and expected_root == description.truth_root:
        found.notes.append("truth and IQ are those of the expected root; features were compared where regenerated")
    if description.kind != "dataset":
        found.notes.append("sessions have no root and no seed: only the checksums of the files were compared")
        return found
    try:
        progress(f"verifying rows of {folder}")
        rows = _verify_rows(folder, description, found, chosen)
        _verify_iq(folder, found)
    except (NotAnExportError, MalformedTruthError) as error:
        found.add(str(error))
        return found
    if chosen:
        progress(f"regenerating {len(chosen)} samples")
        _verify_regenerated(folder, description, rows, num_workers, found)
    return found


def chosen_samples(num_samples: int, share: float, seed: int | None) -> frozenset[int]:
    """Samples to regenerate; raises ShareError."""
    if not 0 <= share <= 1:
        raise ShareError(f"a share of {share:g} of the samples cannot be regenerated: 0 to 100 % are possible")
    if share == 0 or num_samples == 0:
        return frozenset()
    number = min(num_samples, max(1, round(share * num_samples)))
    return frozenset(random.Random(seed).sample(range(num_samples), number))  # noqa: S311 (no secret)


def _verify_files(folder: Path, found: Verification) -> None:
    sums = _read_sums(folder)
    for name in sorted(_files(folder) - sums.keys() - {SUMS_FILE}):
        found.add(f"{name}: is not part of the export ({SUMS_FILE} does not list it)")
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            found.add(f"{name}: is missing")
            continue
        found.num_files += 1
        if _sha256(path) != expected:
            found.add(f"{name}: was changed: its SHA-256 is not that of {SUMS_FILE}")


def _read_sums(folder: Path) -> dict[str, str]:
    sums = {}
    try:
        lines = (folder / SUMS_FILE).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise NotAnExportError(f"{folder / SUMS_FILE} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        digest, separator, name = line.partition("  ")
        is_inside = name and not Path(name).is_absolute() and ".." not in Path(name).parts
        if not separator or len(digest) != 64 or not is_inside:
            raise NotAnExportError(f"{folder / SUMS_FILE}: line {number} is malformed: {line[:100]!r}")
        sums[name] = digest
    return sums


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify_rows(
    folder: Path, description: ExportDescription, found: Verification, chosen: frozenset[int]
) -> dict[int, dict[str, object]]:
    """Compare the rows with the root; returns those of the chosen samples."""
    groups = _groups_of_file(folder, found)
    rows: dict[int, dict[str, object]] = {}
    computed: list[bytes] = []
    truths: list[bytes] = []
    iq = []
    num_samples = 0
    read = groups_of_export(folder, has_differences=description.has_time_differences)
    for group in ahead(read):
        expected = range(num_samples, num_samples + len(group.samples))
        if group.samples["sample_idx"].to_pylist() != list(expected):
            found.add(f"samples.parquet: samples are missing or doubled between {expected[0]} and {expected[-1]}")
            break
        try:
            computed += group_hashes(group.leaves())
            truths += group.truth_leaves()
        except (ValueError, TypeError, IndexError, KeyError) as error:
            found.add(f"samples {expected[0]} to {expected[-1]}: the rows are malformed: {error!r}")
            computed += [b""] * -(-len(expected) // GROUP_SIZE)
        else:
            iq.append(group.iq)
            rows |= {row["sample_idx"]: row for row in group.chosen(chosen.intersection(expected))}
        num_samples += len(expected)
    for number, (one, other) in enumerate(zip(groups, computed, strict=False)):
        if one != other:
            first, end = number * GROUP_SIZE, min((number + 1) * GROUP_SIZE, num_samples)
            found.add(f"samples {first} to {end - 1}: the rows are not those of the root")
    found.num_samples = num_samples
    if num_samples != description.num_samples:
        found.add(f"samples.parquet: has {num_samples} samples, release.json {description.num_samples}")
    parameters = parameters_hash(description.parameters())
    root = root_hash(parameters, computed).hex()
    found.root = root
    if root != description.root:
        is_of_rows = computed == groups
        what = "parameters or seed in release.json" if is_of_rows else "the rows"
        found.add(f"release.json: the root is {description.root}, {what} give {root}")
    found.truth_root = truth_root_hash(parameters, truths, iq_digest(iq)).hex()
    if description.truth_root not in (None, found.truth_root):
        found.add(f"release.json: the root of truth is {description.truth_root}, the rows give {found.truth_root}")
    return rows


def _groups_of_file(folder: Path, found: Verification) -> list[bytes]:
    try:
        values = json.loads((folder / MERKLE_FILE).read_text())
        if values["group_size"] != GROUP_SIZE:
            raise ValueError(f"group_size is {values['group_size']}, not {GROUP_SIZE}")
        return [bytes.fromhex(group) for group in values["groups"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.add(f"{MERKLE_FILE}: cannot be read: {error}")
        return []


def _verify_iq(folder: Path, found: Verification) -> None:
    """Compare every .npy of the shards with its checksum in the table."""
    expected: dict[str, dict[str, str]] = {}
    for row in _iq_rows(folder):
        if row["shard"] is not None:
            name = f"{row['sample_idx']:07d}.{row['rx_id']}.npy"
            expected.setdefault(row["shard"], {})[name] = row["sha256"]
    for shard, members in sorted(expected.items()):
        path = folder / shard
        if not path.is_file():
            continue  # named before
        try:
            _verify_shard(path, shard, members, found)
        except (tarfile.TarError, OSError, EOFError) as error:
            found.add(f"{shard}: cannot be read: {error}")


def _verify_shard(path: Path, shard: str, members: dict[str, str], found: Verification) -> None:
    seen = set()
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if not member.name.endswith(".npy"):
                continue
            seen.add(member.name)
            file = archive.extractfile(member)
            content = b"" if file is None else file.read()
            if member.name not in members:
                found.add(f"{shard}: {member.name} is not in iq.parquet")
            elif not _has_sum(content, members[member.name]):
                found.add(f"{shard}: {member.name} was changed: its SHA-256 is not that of iq.parquet")
    for name in sorted(members.keys() - seen):
        found.add(f"{shard}: {name} is missing")


def _has_sum(npy: bytes, sha256: str) -> bool:
    """Whether a .npy has the checksum of an object in the store: of its values, in old datasets of the whole file."""
    try:
        header_bytes = read_npy_header(io.BytesIO(npy)).header_bytes
    except RecordingFormatError:
        return False
    return sha256 in (hashlib.sha256(memoryview(npy)[header_bytes:]).hexdigest(), hashlib.sha256(npy).hexdigest())


def _iq_rows(folder: Path) -> Iterator[dict[str, Any]]:
    try:
        for batch in pq.ParquetFile(folder / "iq.parquet").iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise NotAnExportError(f"iq.parquet cannot be read: {error}") from error


def recipe_of(description: ExportDescription) -> Recipe:
    """What determines the samples, from the description alone; terrain tiles must be shipped or cached here.

    Raises
    ------
    GeneratorVersionError
        Another version of the generator made the samples.
    TerrainMissingError
        A tile is not on this machine.
    InvalidSpecError
        The parameters are invalid.
    """
    if description.generator_version != GENERATOR_VERSION:
        raise GeneratorVersionError(
            f"{description.label} was made by generator version {description.generator_version}, this is version "
            f"{GENERATOR_VERSION}, which gives other samples: install the version of heimdall that made it"
        )
    sites: tuple[ReceiverSite, ...] = sites_from_json(description.receivers or [])
    ground: Ground = ground_of(description.terrain_tiles or [], None)
    spec = parse_spec(completed(description.spec or {}))
    return Recipe(UUID(int=0), description.seed or 0, spec, sites, ground)


def _verify_regenerated(
    folder: Path,
    description: ExportDescription,
    rows: dict[int, dict[str, object]],
    num_workers: int,
    found: Verification,
) -> None:
    try:
        recipe = recipe_of(description)
    except HeimdallError as error:
        found.notes.append(f"no sample was regenerated: {error}")
        return
    sums: dict[int, dict[str, str]] = {}
    for row in _iq_rows(folder):
        if row["sample_idx"] in rows:
            sums.setdefault(row["sample_idx"], {})[row["rx_id"]] = row["sha256"]
    ordered = [rows[index] for index in sorted(rows)]
    tasks = [
        RegenerationTask(recipe, tuple(some), {i: sums[i] for row in some if (i := _index(row)) in sums})
        for start in range(0, len(ordered), _SAMPLES_PER_TASK)
        if (some := ordered[start : start + _SAMPLES_PER_TASK])
    ]
    with Workers(num_workers if len(tasks) > 1 else 1) as workers:
        regenerate_rows(tasks, workers, found)


def regenerate_rows(tasks: Sequence[RegenerationTask], workers: Workers, found: Verification) -> None:
    """Regenerate the samples of tasks and note how they differ."""
    for result in workers.map(regeneration_problems, tasks):
        for problem in result or ():
            found.add(problem)
    found.num_regenerated = sum(len(task.rows) for task in tasks)


def regeneration_problems(task: RegenerationTask) -> list[str]:
    """Regenerate samples; returns how they differ: IQ to the last bit, features within the tolerance."""
    problems = []
    for row in task.rows:
        problems += [f"sample {_index(row)}: {what}" for what in _differences(task, row)]
    return problems


def _differences(task: RegenerationTask, row: dict[str, object]) -> Iterator[str]:
    index = _index(row)
    truth = SampleTruth.from_json(row["truth"])
    attempts = row["extraction_metadata"]["attempts"]  # type: ignore[index]
    drawn = from_stored_truth(draw_sample(task.recipe, index, max(1, int(attempts))), truth)
    if drawn.scene is None:
        yield "the seed gives no acceptable scene in the sample's attempts"
        return
    sums: dict[str, set[str]] = {}

    def keep(site: ReceiverSite, iq: NDArray[np.complex64]) -> None:
        sums[site.rx_id] = {iq_file(task.recipe, index, site, iq, form).sha256 for form in NEW_FORM.then_others()}

    expected = task.iq_sha256.get(index, {})
    made = make_sample(task.recipe, drawn, keep if expected else None)
    if not truths_agree(truth, made.truth, FEATURE_TOLERANCE):
        yield "its truth is not what the seed gives"
    receivers: Sequence[dict[str, object]] = row["receiver_features"]  # type: ignore[assignment]
    if len(receivers) != len(made.receivers):
        yield f"it has {len(receivers)} receivers, the seed gives {len(made.receivers)}"
    version = int(str(row["feature_version"]))
    for stored, again in zip(receivers, made.receivers, strict=False):
        element = ReceiverFeatures.from_json(stored).to_json()
        if not agrees(element, again.of_version(version).to_json(), FEATURE_TOLERANCE):
            yield f"features of {again.rx_id} are not those of its IQ"
    pairs = read_time_differences(row["time_differences"]) or ()
    if version >= TIME_DIFFERENCES_SINCE and not differences_agree(pairs, made.time_differences or ()):
        yield "its time differences are not those of its IQ"
    for rx_id, sha256 in expected.items():
        if sha256 not in sums.get(rx_id, ()):
            yield f"IQ of {rx_id} is not what the seed gives"


def _index(row: dict[str, object]) -> int:
    return int(str(row["sample_idx"]))
