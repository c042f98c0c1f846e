"""Validates a session: runs its checks and stores the resulting health with the session."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from heimdall_pipelines.model.checks import CheckOutcome, HealthStatus, health_status
from heimdall_pipelines.sessions.checks import check_session
from heimdall_pipelines.sessions.clock_estimates import ClockEstimates
from heimdall_pipelines.store.session_health import record_health
from heimdall_pipelines.store.sessions import RecordingSession, SessionKey
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress


@dataclass(frozen=True)
class SessionValidation:
    """Result of a validation.

    Attributes
    ----------
    session : RecordingSession
        As it was before.
    outcomes : tuple of CheckOutcome
    health_status : {"healthy", "warning", "critical"}
    num_affected, num_segments : int
        Number of segments with a problem, and number that exist or should exist.
    storage_size_bytes : int
        Of its objects and rows.
    validated_at : datetime
        By the database's clock.
    """

    session: RecordingSession
    outcomes: tuple[CheckOutcome, ...]
    health_status: HealthStatus
    num_affected: int
    num_segments: int
    storage_size_bytes: int
    validated_at: datetime

    def to_json(self) -> dict[str, Any]:
        """As ``heimdall session validate --json`` prints it."""
        return {
            "session_id": str(self.session.id),
            "slug": self.session.slug,
            "name": self.session.name,
            "revision": self.session.revision,
            "health_status": self.health_status,
            "num_affected": self.num_affected,
            "num_segments": self.num_segments,
            "storage_size_bytes": self.storage_size_bytes,
            "validated_at": self.validated_at.isoformat(),
            "checks": [outcome.to_json() for outcome in self.outcomes],
        }


def validate_session(
    stores: Stores,
    key: SessionKey,
    *,
    checksums: bool = False,
    progress: Progress | None = None,
    clocks: ClockEstimates | None = None,
) -> SessionValidation:
    """Check a completed session and store its health, its issues and its size with it.

    Parameters
    ----------
    stores, key, checksums, progress, clocks
        As of `check_session`.

    Raises
    ------
    SessionNotFoundError, SessionBeingDeletedError, SessionNotCompleteError
        There is nothing to check.
    SessionChangedError
        The session was completed again meanwhile.
    UnavailableError
        PostgreSQL or the S3 store could not be reached. After any error the stored health stays unchanged.
    """
    checked = check_session(stores, key, checksums=checksums, progress=progress, clocks=clocks)
    health = health_status(checked.outcomes, num_affected=checked.num_affected, num_all=checked.num_segments)
    validated_at = record_health(
        stores.database,
        checked.session,
        health_status=health,
        issues=[outcome.to_json() for outcome in checked.outcomes if not outcome.passed],
        storage_size_bytes=checked.size_bytes,
    )
    return SessionValidation(
        session=checked.session,
        outcomes=checked.outcomes,
        health_status=health,
        num_affected=checked.num_affected,
        num_segments=checked.num_segments,
        storage_size_bytes=checked.size_bytes,
        validated_at=validated_at,
    )
