"""Deletes a session in an order that survives a crash at any point: the same call again finishes the deletion."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from heimdall_pipelines.store.alerts import close_alerts_of_deleted
from heimdall_pipelines.store.objects import ObjectLocation, ObjectNotFoundError
from heimdall_pipelines.store.session_deletion import (
    begin_deletion,
    delete_session_rows,
    find_session_to_delete,
    named_by_other_sessions,
)
from heimdall_pipelines.store.session_import import ImportInProgressError, import_lock
from heimdall_pipelines.store.session_objects import (
    remove_session_objects,
    session_entries,
    session_prefix,
    with_sidecar,
)
from heimdall_pipelines.store.session_slugs import as_uuid
from heimdall_pipelines.store.sessions import SessionKey, SessionNotFoundError, get_session
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress

_POLL_S = 0.5


@dataclass(frozen=True)
class SessionContents:
    """What a deletion of a session removes.

    Attributes
    ----------
    slug, name : str or None
        None where only objects are left, of an interrupted deletion.
    num_stations, num_segments : int
        Rows of measurements and of measurement_features.
    num_objects, size_bytes : int
        Objects, and their bytes.
    """

    session_id: UUID
    slug: str | None
    name: str | None
    num_stations: int
    num_segments: int
    num_objects: int
    size_bytes: int

    @property
    def is_empty(self) -> bool:
        """Whether neither rows nor objects are left."""
        return self.name is None and self.num_objects == 0


def session_contents(stores: Stores, key: SessionKey) -> SessionContents:
    """Count what a deletion of a session removes.

    Raises
    ------
    SessionNotFoundError
        No session has this slug. An unknown id counts as a session of which nothing is left.
    """
    session_id = _session_id(stores, key)
    to_delete = find_session_to_delete(stores.database, session_id)
    named, kept = _objects(stores, session_id)
    spared = {file for location in kept for file in with_sidecar(location)}
    elsewhere = {file for location in named for file in with_sidecar(location)}
    num_objects = size_bytes = 0
    for location, entry in session_entries(stores.objects, session_id):
        elsewhere.discard(location)
        if location not in spared:
            num_objects += 1
            size_bytes += entry.size_bytes
    for location in elsewhere - spared:
        with suppress(ObjectNotFoundError):
            size_bytes += stores.objects.size_bytes(location)
            num_objects += 1
    return SessionContents(
        session_id=session_id,
        slug=to_delete.slug if to_delete else None,
        name=to_delete.name if to_delete else None,
        num_stations=to_delete.num_stations if to_delete else 0,
        num_segments=to_delete.num_segments if to_delete else 0,
        num_objects=num_objects,
        size_bytes=size_bytes,
    )


def delete_session(
    stores: Stores, key: SessionKey, remove_partition: Callable[[str], None], progress: Progress
) -> None:
    """Delete a session: its objects, its partition, its rows; or finish an interrupted deletion.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        The session's id or slug.
    remove_partition : callable
        Removes a key from Dagster's partitions: the slug, and the id, which was the key before slugs existed.
    progress : callable
        Called with a line before each step.

    Raises
    ------
    SessionNotFoundError
        No session has this slug.
    UnavailableError
        PostgreSQL or the S3 store could not be reached; the same call finishes the deletion.
    """
    session_id = _session_id(stores, key)
    progress("marking the session as being deleted")
    begin_deletion(stores.database, session_id)
    _wait_for_import(stores, session_id, progress)
    progress("removing its objects")
    named, kept = _objects(stores, session_id)
    remove_session_objects(stores.objects, session_id, named, kept)
    progress("removing its partition")
    to_delete = find_session_to_delete(stores.database, session_id)
    partitions = [to_delete.slug, str(session_id)] if to_delete else [str(session_id)]
    for partition in partitions:
        remove_partition(partition)
    progress("deleting its rows")
    delete_session_rows(stores.database, session_id)
    close_alerts_of_deleted(stores.database)  # after a crash before this line, the sensor of alerts does it
    progress("removing objects that were stored meanwhile")
    remove_session_objects(stores.objects, session_id, (), kept)
    # The sensor may have added the partition again meanwhile. A session imported since may have the slug.
    for partition in partitions:
        if not _is_of_a_session(stores, partition):
            remove_partition(partition)


def _session_id(stores: Stores, key: SessionKey) -> UUID:
    """The id of a session: the key itself (the session may be gone), or that of the session with this slug."""
    return as_uuid(key) or get_session(stores.database, key).id


def _is_of_a_session(stores: Stores, key: SessionKey) -> bool:
    try:
        get_session(stores.database, key)
    except SessionNotFoundError:
        return False
    return True


def _objects(stores: Stores, session_id: UUID) -> tuple[tuple[ObjectLocation, ...], set[ObjectLocation]]:
    """Objects that a session names, and which of them and of those below its prefix have to be kept."""
    to_delete = find_session_to_delete(stores.database, session_id)
    named = to_delete.locations if to_delete else ()
    below = session_prefix(stores.objects, session_id)
    return named, named_by_other_sessions(stores.database, session_id, named, below)


def _wait_for_import(stores: Stores, session_id: UUID, progress: Progress) -> None:
    """Wait for a running import to end: it can no longer complete the session, but it can still store objects."""
    to_delete = find_session_to_delete(stores.database, session_id)
    if to_delete is None or to_delete.content_sha256 is None:
        return
    is_reported = False
    while True:
        try:
            with import_lock(stores.database, to_delete.content_sha256):
                return
        except ImportInProgressError:
            if not is_reported:
                progress("waiting for an import of its files to end (it will fail)")
            is_reported = True
            time.sleep(_POLL_S)
