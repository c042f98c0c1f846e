"""How long a client waits for a station that has a time-out of its own."""

from heimdall_pipelines.receivers.stream import WaitLimits


def wait_limits(timeout_s: float) -> WaitLimits:
    """Give the usual limits, none of them longer than a station's ``timeout_seconds``."""
    return WaitLimits(**{name: min(limit_s, timeout_s) for name, limit_s in vars(WaitLimits()).items()})
