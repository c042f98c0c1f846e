"""Takes over edits of a session that were made by hand, so that validation trusts them from then on."""

from collections.abc import Iterator
from hashlib import sha256
from uuid import UUID

from heimdall_pipelines.store.accepting import accept_session_rows
from heimdall_pipelines.store.measurements import list_recordings
from heimdall_pipelines.store.objects import ObjectNotFoundError
from heimdall_pipelines.store.session_objects import with_sidecar
from heimdall_pipelines.store.sessions import SessionKey, get_session
from heimdall_pipelines.store.stores import Stores


def accept_session(stores: Stores, key: SessionKey, *, reason: str | None) -> Iterator[str]:
    """Find every edit of a session's rows, stations, source and sidecars, and take them over if there is a reason.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        The session's id or slug.
    reason : str or None
        None: nothing is changed.

    Yields
    ------
    str
        Each edit, in words. All are taken over in one transaction, at the end of the iteration.

    Raises
    ------
    SessionNotFoundError, UnavailableError
    """
    session = get_session(stores.database, key)
    sums = _sidecars(stores, session.id)
    with stores.database.transaction() as connection:
        yield from accept_session_rows(connection, session.id, reason, sums)


def _sidecars(stores: Stores, session_id: UUID) -> dict[str, str]:
    """Digests of the sidecars whose digests measurements do not have, by rx_id."""
    found = {}
    for recording in list_recordings(stores.database, session_id):
        for sidecar in with_sidecar(recording.location)[1:] if recording.location else ():
            try:
                content = stores.objects.read_whole(sidecar)
            except ObjectNotFoundError:
                continue  # missing: another check's subject
            digest = sha256(content).hexdigest()
            if digest != recording.sidecar_sha256:
                found[recording.station.rx_id] = digest
    return found
