"""The watchdog of recordings: closes sessions whose recorder was killed, so that none stays in progress for ever."""

from heimdall_pipelines.sessions.limits import SILENT_FOR_S
from heimdall_pipelines.sessions.recording import close_recording
from heimdall_pipelines.store.recordings import AbandonedSession, abandoned_sessions
from heimdall_pipelines.store.stores import Stores


def close_abandoned_sessions(stores: Stores, *, silent_for_s: float = SILENT_FOR_S) -> list[AbandonedSession]:
    """Close recordings that nobody makes any more as failed, and remove what they stored.

    Abandoned is what gave no heartbeat for a while, or is past the time at which it should have ended.
    An import that was killed is left as it is: importing the same files again completes it.

    Parameters
    ----------
    stores : Stores
    silent_for_s : float
        How long without a heartbeat.

    Returns
    -------
    list of AbandonedSession
        Those that were closed, or cleaned up after.

    Raises
    ------
    UnavailableError
        PostgreSQL could not be reached.
    """
    found = abandoned_sessions(stores.database, silent_for_s)
    for session in found:
        close_recording(stores, session, session.error_message)
    return found
