"""Objects of a session as listed in the store, independent of its measurements."""

from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.store.iq_objects import session_iq_prefix, sidecar_location
from heimdall_pipelines.store.objects import ObjectEntry, ObjectLocation, ObjectStore


def session_prefix(objects: ObjectStore, session_id: UUID) -> ObjectLocation:
    """Prefix of a session's objects, except those of older recordings."""
    return ObjectLocation(objects.raw_iq_bucket, session_iq_prefix(session_id))


def session_entries(objects: ObjectStore, session_id: UUID) -> Iterator[tuple[ObjectLocation, ObjectEntry]]:
    """Everything below a session's prefix, streamed."""
    prefix = session_prefix(objects, session_id)
    for entry in objects.entries(prefix.bucket, prefix.key):
        yield ObjectLocation(prefix.bucket, entry.key), entry


def with_sidecar(location: ObjectLocation) -> tuple[ObjectLocation, ...]:
    """An IQ object and its SigMF description; headerless objects of older recordings have none."""
    return (location, sidecar_location(location)) if IqForm.of_key(location.key).has_sidecar else (location,)


def remove_session_objects(
    objects: ObjectStore, session_id: UUID, named: Sequence[ObjectLocation], kept: Collection[ObjectLocation]
) -> None:
    """Remove everything below a session's prefix and the objects that it names, except `kept`.

    Parameters
    ----------
    objects : ObjectStore
    session_id : UUID
    named : sequence of ObjectLocation
        Objects that its measurements name.
    kept : collection of ObjectLocation
        Objects that other sessions need; their sidecars are kept too.
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
