"""Checks whether the objects of a session are those that its measurements name."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from heimdall_pipelines.model.checks import CheckOutcome
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.objects import ObjectLocation, ObjectNotFoundError, ObjectUnreadableError
from heimdall_pipelines.store.session_objects import session_entries, with_sidecar
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress, Throttle

READ_BYTES = 8 * 2**20
PROGRESS_INTERVAL_S = 2.0


@dataclass(frozen=True)
class CheckedObjects:
    """Size of a session's objects, and whether any station's IQ is missing or damaged."""

    size_bytes: int
    iq_is_damaged: bool


def check_objects(
    outcomes: Mapping[str, CheckOutcome],
    stores: Stores,
    session_id: UUID,
    recordings: Sequence[StationRecording],
    *,
    checksums: bool,
    progress: Progress,
) -> CheckedObjects:
    """Compare the objects in the store with those that measurements name: existence, sizes, optionally checksums.

    Results are added to the outcomes ``objects_agree`` and ``sidecars_as_committed``. An object whose ETag differs from
    that of its measurement is read, which other ones are only for checksums.

    Raises
    ------
    UnavailableError
        The S3 store could not be reached.
    """
    # A station that recorded nothing names no object: a failed station, not a missing object.
    outcome = outcomes["objects_agree"]
    named = {file for recording in recordings if recording.location for file in with_sidecar(recording.location)}
    sizes: dict[ObjectLocation, int] = {}
    etags: dict[ObjectLocation, str] = {}
    size_bytes = 0
    outcome.numbers["objects_listed"] = 0
    for location, entry in session_entries(stores.objects, session_id):
        outcome.count("objects_listed")
        size_bytes += entry.size_bytes
        if location in named:
            sizes[location] = entry.size_bytes
            etags[location] = entry.etag
        else:
            outcome.problem(f"{location}: an object that no measurement names")
    iq_is_damaged = False
    for recording in recordings:
        if recording.location is None:
            continue
        outcome.count("objects")
        is_sound = _check_iq(outcome, stores, recording)
        is_same = recording.etag is None or etags.get(recording.location, recording.etag) == recording.etag
        if is_sound and (checksums or not is_same):
            is_sound = _check_bytes(outcome, stores, recording, progress)
        iq_is_damaged |= not is_sound
        for sidecar in with_sidecar(recording.location)[1:]:
            size = _check_sidecar(outcome, stores, sidecar, sizes)
            if size:
                _check_sidecar_bytes(outcomes["sidecars_as_committed"], stores, recording, sidecar, size)
    sidecars = outcomes["sidecars_as_committed"]
    if sidecars.numbers.get("sidecars_without_checksum"):
        sidecars.note = (
            "measurements of before checksums of sidecars were kept have none; `heimdall db accept session` adds them"
        )
    elsewhere = named - sizes.keys()
    return CheckedObjects(size_bytes + sum(_size(stores, location) or 0 for location in elsewhere), iq_is_damaged)


def _check_iq(outcome: CheckOutcome, stores: Stores, recording: StationRecording) -> bool:
    try:
        StationIq(stores.objects, recording)
    except (ObjectUnreadableError, IqObjectError) as error:
        outcome.problem(str(error))
        return False
    return True


def _check_sidecar(
    outcome: CheckOutcome, stores: Stores, sidecar: ObjectLocation, sizes: dict[ObjectLocation, int]
) -> int | None:
    """Check that a sidecar exists and is not empty; returns its size."""
    outcome.count("sidecars")
    size = sizes[sidecar] if sidecar in sizes else _size(stores, sidecar)
    if size is None:
        outcome.problem(f"SigMF description not found: {sidecar}")
    elif size == 0:
        outcome.problem(f"SigMF description is empty: {sidecar}")
    return size


def _check_sidecar_bytes(
    outcome: CheckOutcome, stores: Stores, recording: StationRecording, sidecar: ObjectLocation, size: int
) -> None:
    """Read a sidecar, which is small, and compare it with what was stored."""
    if recording.sidecar_sha256 is None:
        outcome.count("sidecars_without_checksum")
        return
    outcome.count("sidecars_read")
    try:
        found = hashlib.sha256(stores.objects.read(sidecar, 0, size)).hexdigest()
    except ObjectNotFoundError:
        outcome.problem(f"{sidecar}: it is missing")
        return
    if found != recording.sidecar_sha256:
        outcome.problem(f"{sidecar}: its bytes are not those that were stored (SHA-256 differs)")


def _check_bytes(outcome: CheckOutcome, stores: Stores, recording: StationRecording, progress: Progress) -> bool:
    """Read an object again, block by block; without a stored checksum it is only counted."""
    assert recording.location is not None
    if recording.sha256 is None:
        outcome.count("objects_without_checksum")
        return True
    outcome.count("checksums_compared")
    size = _size(stores, recording.location) or 0
    digest = hashlib.sha256()
    throttle = Throttle(PROGRESS_INTERVAL_S)
    for offset in range(0, size, READ_BYTES):
        try:
            digest.update(stores.objects.read(recording.location, offset, min(READ_BYTES, size - offset)))
        except ObjectUnreadableError as error:
            outcome.problem(str(error))
            return False
        if throttle.is_due():
            progress(f"reading {recording.location}: {offset / size:.0%}")
    if digest.hexdigest() != recording.sha256:
        outcome.problem(f"{recording.location}: its bytes are not those that were stored (SHA-256 differs)")
        return False
    return True


def _size(stores: Stores, location: ObjectLocation) -> int | None:
    try:
        return stores.objects.size_bytes(location)
    except ObjectNotFoundError:
        return None
