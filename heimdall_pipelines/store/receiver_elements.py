"""Elements of the column receiver_features as JSON: what must be there for one to be read."""

from typing import Any

from heimdall_pipelines.model.json_numbers import is_number, is_too_large
from heimdall_pipelines.rf.feature_registry import STATISTICS

RECEIVER_FIELDS = frozenset({"rx_id", "rx_lat", "rx_lon", "rx_alt_m", "signal_present", "flags", "error_message"})
_OPTIONAL = frozenset({"flags", "error_message"})
_STATISTICS = frozenset(STATISTICS)
_MAX_LATITUDE_DEG = 90  # there is no distance to a place beyond


def are_receivers(elements: Any) -> bool:
    """Whether what a column receiver_features holds can be read."""
    return isinstance(elements, list) and all(map(_is_receiver, elements))


def _is_receiver(element: Any) -> bool:
    """Whether every field has its type, and every feature is an object with all statistics."""
    if not isinstance(element, dict) or not element.keys() >= RECEIVER_FIELDS - _OPTIONAL:
        return False
    flags = element.get("flags", [])
    return (
        isinstance(element["rx_id"], str)
        and isinstance(element["signal_present"], bool)
        and all(is_number(element[name]) for name in ("rx_lat", "rx_lon", "rx_alt_m"))
        and abs(element["rx_lat"]) <= _MAX_LATITUDE_DEG
        and isinstance(flags, list)
        and all(isinstance(flag, str) for flag in flags)
        and isinstance(element.get("error_message"), str | None)
        and all(
            isinstance(value, dict) and value.keys() >= _STATISTICS and not any(map(is_too_large, value.values()))
            for name, value in element.items()
            if name not in RECEIVER_FIELDS
        )
    )
