"""The watchdog of recordings: closes sessions whose recorder was killed, so that none stays in progress forever."""

from heimdall_pipelines.sessions.limits import SILENT_FOR_S
from heimdall_pipelines.sessions.recording import close_recording
from heimdall_pipelines.store.recordings import AbandonedSession, abandoned_sessions
from heimdall_pipelines.store.stores import Stores


def close_abandoned_sessions(stores: Stores, *, silent_for_s: float = SILENT_FOR_S) -> list[AbandonedSession]:
    """Close abandoned recordings as failed and remove what they stored.

    A recording is abandoned if it sent no heartbeat for `silent_for_s`, or is past its deadline.
    A killed import stays as it is: importing the same files again completes it.

    Parameters
    ----------
    stores : Stores
    silent_for_s : float
        Time without a heartbeat after which a recorder counts as dead.

    Returns
    -------
    list of AbandonedSession
        The sessions that were closed or cleaned up.

    Raises
    ------
    UnavailableError
        PostgreSQL could not be reached.
    """
    found = abandoned_sessions(stores.database, silent_for_s)
    for session in found:
        close_recording(stores, session, session.error_message)
    return found
