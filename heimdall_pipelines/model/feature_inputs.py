"""What the features of a session were computed from: values by their path, a digest, and differences in words."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

FEATURE_VERSION_KEY = "feature_version"
CLOCKS_KEY = "clocks"  # by rx_id; extractions of before recorded none


@dataclass(frozen=True)
class FeatureInputs:
    """Inputs of an extraction, as stored in session_extractions.

    Attributes
    ----------
    values : mapping of str to object
        JSON: channel, known source, feature version and, for each station, its position, its measurement and its clock.
    """

    values: Mapping[str, Any]

    @cached_property
    def sha256(self) -> str:
        """Digest over all values, whatever their order.

        >>> FeatureInputs({"b": 1, "a": 2}).sha256 == FeatureInputs({"a": 2, "b": 1}).sha256
        True
        """
        text = json.dumps(self.values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def feature_version(self) -> int:
        """Version of the features that were extracted; 0 if it is not recorded."""
        version = self.values.get(FEATURE_VERSION_KEY)
        return version if isinstance(version, int) else 0

    def position(self, rx_id: str) -> tuple[float, float, float] | None:
        """Latitude, longitude (degrees) and altitude (m) of a station; None if they are not recorded."""
        station = _stations(self.values).get(rx_id, {})
        try:
            return station["latitude"], station["longitude"], station["altitude_m"]
        except KeyError:
            return None

    def changes(self, now: "FeatureInputs") -> list[str]:
        """Describe what changed since: one line for each value, those of a station begin with its rx_id.

        Clocks are compared only where the extraction recorded them.

        Parameters
        ----------
        now : FeatureInputs
            The present values.

        Examples
        --------
        >>> before = FeatureInputs({"stations": {"torino": {"latitude": 45.0}, "genova": {}}})
        >>> before.changes(FeatureInputs({"stations": {"torino": {"latitude": 45.5}}}))
        ['torino: latitude 45.0 -> 45.5', 'genova: no longer in the session']
        """
        return [*_changed("", _plain(self.values), _plain(now.values)), *self._changed_stations(now)]

    def _changed_stations(self, now: "FeatureInputs") -> Iterator[str]:
        has_clocks = CLOCKS_KEY in self.values
        ours, theirs = (_stations(values, with_clocks=has_clocks) for values in (self.values, now.values))
        for rx_id in [*ours, *(rx_id for rx_id in theirs if rx_id not in ours)]:
            if rx_id not in theirs:
                yield f"{rx_id}: no longer in the session"
            elif rx_id not in ours:
                yield f"{rx_id}: new in the session"
            else:
                yield from _changed(f"{rx_id}: ", ours[rx_id], theirs[rx_id])


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are of no station, with the fields of objects as their own."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("stations", CLOCKS_KEY):
            continue
        if isinstance(value, Mapping):
            plain |= {f"{name} {field}": its for field, its in value.items()}
        else:
            plain[name] = value
    return plain


def _stations(values: Mapping[str, Any], *, with_clocks: bool = False) -> Mapping[str, Mapping[str, Any]]:
    stations = _objects(values.get("stations"))
    if not with_clocks:
        return stations
    clocks = _objects(values.get(CLOCKS_KEY))
    return {rx_id: {**station, **clocks.get(rx_id, {})} for rx_id, station in stations.items()}


def _objects(value: Any) -> dict[str, Mapping[str, Any]]:
    """The objects among the fields of one."""
    if not isinstance(value, Mapping):
        return {}
    return {name: field for name, field in value.items() if isinstance(field, Mapping)}


def _changed(prefix: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in [*before, *(name for name in now if name not in before)]:
        if before.get(name) != now.get(name):
            yield f"{prefix}{name} {_shown(before.get(name))} -> {_shown(now.get(name))}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
