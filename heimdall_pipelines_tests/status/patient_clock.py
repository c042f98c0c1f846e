"""A clock for reads with a timeout, so that a busy machine makes none of them late."""

import threading

_PREFIX = "read "  # as `collect_with_timeout` names its threads
_LONGER_THAN_ANY_BOUND_S = 86_400.0


class PatientClock:
    """Replaces the module ``time`` in `heimdall_pipelines.status.bounded`, for one thread.

    It stands still until every read has ended except the hanging ones; then their time is over.
    """

    def __init__(self, *hanging: str) -> None:
        self._hanging = {f"{_PREFIX}{name}" for name in hanging}
        self._now_s = 0.0

    def monotonic(self) -> float:
        for thread in threading.enumerate():
            if thread.name.startswith(_PREFIX) and thread.name not in self._hanging:
                thread.join()
        self._now_s += _LONGER_THAN_ANY_BOUND_S
        return self._now_s
