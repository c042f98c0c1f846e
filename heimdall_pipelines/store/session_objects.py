"""Objects of a session as the store lists them, whatever its measurements name."""

from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

from heimdall_pipelines.store.iq_objects import sidecar_location
from heimdall_pipelines.store.objects import ObjectEntry, ObjectLocation, ObjectStore


def session_prefix(objects: ObjectStore, session_id: UUID) -> ObjectLocation:
    """Below which a session's objects lie, those of older recordings excepted."""
    return ObjectLocation(objects.raw_iq_bucket, f"sessions/{session_id}/")


def session_entries(objects: ObjectStore, session_id: UUID) -> Iterator[tuple[ObjectLocation, ObjectEntry]]:
    """Everything below a session's prefix, streamed."""
    prefix = session_prefix(objects, session_id)
    for entry in objects.entries(prefix.bucket, prefix.key):
        yield ObjectLocation(prefix.bucket, entry.key), entry


def with_sidecar(location: ObjectLocation) -> tuple[ObjectLocation, ...]:
    """An IQ object and its SigMF description; a headerless one, of an older recording, has none."""
    return (location, sidecar_location(location)) if location.key.endswith(".npy") else (location,)


def remove_session_objects(
    objects: ObjectStore, session_id: UUID, named: Sequence[ObjectLocation], kept: Collection[ObjectLocation]
) -> None:
    """Remove everything below a session's prefix and the objects that it names, but for those that are kept.

    Parameters
    ----------
    objects : ObjectStore
    session_id : UUID
    named : sequence of ObjectLocation
        By its measurements.
    kept : collection of ObjectLocation
        What other sessions need of these; their sidecars are kept too.
    """
    spared = {file for location in kept for file in with_sidecar(location)}
    below = session_prefix(objects, session_id)
    objects.remove_keys(
        below.bucket,
        (location.key for location, _ in session_entries(objects, session_id) if location not in spared),
    )
    for location in named:
        if location not in kept:
            objects.remove_keys(location.bucket, [file.key for file in with_sidecar(location)])
