"""Only completed sessions are extracted, located, corrected and reported."""

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.sessions import RecordingSession, SessionBeingDeletedError


class NotCompletedError(HeimdallError):
    """The session is being recorded or imported, or has failed."""


def require_completed(session: RecordingSession, verb: str) -> None:
    """Refuse a session that is not completed, or is being deleted.

    Parameters
    ----------
    session : RecordingSession
    verb : str
        What is to be done with it, such as "extract".

    Raises
    ------
    NotCompletedError
        It is not completed.
    SessionBeingDeletedError
        Its deletion has begun.
    """
    if session.deletion_began_at is not None:
        raise SessionBeingDeletedError(session.slug)
    if session.status != "completed":
        raise NotCompletedError(f"session {session.slug} is {session.status}; {verb} it when it is completed")
