"""What is true of a synthetic sample: its transmitter, and its link to each receiver; also as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, cast

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.json_numbers import is_too_large
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.scene import Scene, TransmitterKind


class MalformedTruthError(HeimdallError):
    """The stored truth of a sample cannot be read."""


@dataclass(frozen=True)
class LinkTruth:
    """What is true of the link to one receiver.

    Attributes
    ----------
    rx_id : str
    delay_s, mean_received_power_dbm, noise_power_dbm, frequency_offset_hz, doppler_hz, rms_delay_spread_s : float
        Those of `rf.link.Link`, to the last bit.
    signal_power_dbm, snr_db : float or None
        With the fading of this sample, mean of the chunks' decibels. None while no IQ is made.
    rice_k : float or None
        As a ratio; 0 for Rayleigh fading, None for no fading.
    rice_k_db : float or None
        None where it is not finite, and in a truth of generator version 1.
    line_of_sight, detected : bool
    path_loss_db, diffraction_loss_db : float or None
        Without shadowing: of the whole path, and what diffraction adds to free space. None in an older truth.
    clock_offset_ns : float or None
        Of `rf.link.Link`. None in an older truth, whose clocks had no error.
    """

    rx_id: str
    delay_s: float
    mean_received_power_dbm: float
    signal_power_dbm: float | None
    noise_power_dbm: float
    snr_db: float | None
    frequency_offset_hz: float
    rice_k: float | None
    rice_k_db: float | None
    doppler_hz: float
    rms_delay_spread_s: float
    line_of_sight: bool
    detected: bool
    path_loss_db: float | None = None
    diffraction_loss_db: float | None = None
    clock_offset_ns: float | None = None

    @classmethod
    def of(
        cls,
        rx_id: str,
        link: Link,
        *,
        line_of_sight: bool,
        detected: bool,
        path_loss_db: float | None = None,
        diffraction_loss_db: float | None = None,
        signal_power_dbm: float | None = None,
    ) -> Self:
        """Truth of a link that a scene has drawn."""
        snr_db = None if signal_power_dbm is None else signal_power_dbm - link.noise_power_dbm
        return cls(
            rx_id=rx_id,
            delay_s=link.delay_s,
            mean_received_power_dbm=link.received_power_dbm,
            signal_power_dbm=_rounded_or_none(signal_power_dbm),
            noise_power_dbm=link.noise_power_dbm,
            snr_db=_rounded_or_none(snr_db),
            frequency_offset_hz=link.frequency_offset_hz,
            rice_k=None if link.rice_k_db == math.inf else _rounded(10 ** (link.rice_k_db / 10)),
            rice_k_db=link.rice_k_db if math.isfinite(link.rice_k_db) else None,
            doppler_hz=link.doppler_hz,
            rms_delay_spread_s=link.rms_delay_spread_s,
            line_of_sight=line_of_sight,
            detected=detected,
            path_loss_db=path_loss_db,
            diffraction_loss_db=diffraction_loss_db,
            clock_offset_ns=link.clock_offset_ns,
        )

    def link(self) -> Link:
        """The link from which the receiver's samples are made; of a truth of generator version 2 or later."""
        rice_k_db = self.rice_k_db
        if rice_k_db is None:
            rice_k_db = math.inf if self.rice_k is None else -math.inf
        return Link(
            delay_s=float(self.delay_s),
            received_power_dbm=float(self.mean_received_power_dbm),
            noise_power_dbm=float(self.noise_power_dbm),
            rice_k_db=float(rice_k_db),
            doppler_hz=float(self.doppler_hz),
            rms_delay_spread_s=float(self.rms_delay_spread_s),
            frequency_offset_hz=float(self.frequency_offset_hz),
            clock_offset_ns=0.0 if self.clock_offset_ns is None else float(self.clock_offset_ns),
        )

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read an element of ``receivers``; raises MalformedTruthError."""
        return cls(**_read(value, _LINK_TYPES, "a receiver"))


@dataclass(frozen=True)
class PositionBound:
    """Cramer-Rao bound of a sample's position from arrival times: an ellipse of 95 %, or why there is none.

    Attributes
    ----------
    semi_major_m, semi_minor_m : float or None
        Rounded to mm.
    azimuth_deg : float or None
        Of the major axis, clockwise from north, 0 to 180; rounded to 0.001.
    reason : str or None
        Why there is no ellipse; None where there is one.
    """

    semi_major_m: float | None
    semi_minor_m: float | None
    azimuth_deg: float | None
    reason: str | None = None

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read ``position_bound``; raises MalformedTruthError."""
        return cls(**_read(value, _BOUND_TYPES, "the bound"))


@dataclass(frozen=True)
class SampleTruth:
    """What is true of one sample.

    Attributes
    ----------
    tx_latitude, tx_longitude : float
        Degrees.
    tx_altitude_m, tx_antenna_height_m : float
        Of the antenna: on the scale of the receivers' altitudes, and above its ground.
    tx_kind : str
        One of `rf.scene.TransmitterKind`.
    tx_power_dbm, tx_antenna_gain_dbi : float
    audio : str or None
        What was modulated. None while no IQ is made.
    gdop, mean_snr_db : float
        Of the receivers that detect.
    receivers : tuple of LinkTruth
        In the order of the sample's receivers.
    position_bound : PositionBound or None
        Computed from the other fields and the parameters. None while no IQ is made, and in an older truth, of which it
        was not computed.
    """

    tx_latitude: float
    tx_longitude: float
    tx_altitude_m: float
    tx_antenna_height_m: float
    tx_kind: str
    tx_power_dbm: float
    tx_antenna_gain_dbi: float
    audio: str | None
    gdop: float
    mean_snr_db: float
    receivers: tuple[LinkTruth, ...]
    position_bound: PositionBound | None = None

    @classmethod
    def of(
        cls,
        scene: Scene,
        rx_ids: Sequence[str],
        signal_powers_dbm: Sequence[float] | None = None,
        audio: str | None = None,
    ) -> Self:
        """Truth of a scene and, where IQ was made of it, of what each receiver received."""
        powers_dbm: Sequence[float | None] = signal_powers_dbm or [None] * len(rx_ids)
        links = zip(
            rx_ids,
            scene.links,
            scene.line_of_sight,
            scene.detected,
            scene.path_loss_db,
            scene.diffraction_loss_db,
            powers_dbm,
            strict=True,
        )
        return cls(
            tx_latitude=scene.tx_latitude,
            tx_longitude=scene.tx_longitude,
            tx_altitude_m=scene.tx_altitude_m,
            tx_antenna_height_m=_rounded(scene.tx_antenna_height_m),
            tx_kind=scene.tx_kind,
            tx_power_dbm=scene.tx_power_dbm,
            tx_antenna_gain_dbi=_rounded(scene.tx_antenna_gain_dbi),
            audio=audio,
            gdop=_rounded(scene.gdop),
            mean_snr_db=_rounded(scene.mean_snr_db),
            receivers=tuple(
                LinkTruth.of(
                    rx_id,
                    link,
                    line_of_sight=in_sight,
                    detected=detected,
                    path_loss_db=loss_db,
                    diffraction_loss_db=diffraction_db,
                    signal_power_dbm=power_dbm,
                )
                for rx_id, link, in_sight, detected, loss_db, diffraction_db, power_dbm in links
            ),
        )

    def scene(self) -> Scene:
        """The scene of which this is the truth; of generator version 2 or later."""
        return Scene(
            tx_latitude=self.tx_latitude,
            tx_longitude=self.tx_longitude,
            tx_altitude_m=self.tx_altitude_m,
            tx_antenna_height_m=self.tx_antenna_height_m,
            tx_kind=cast(TransmitterKind, self.tx_kind),
            tx_power_dbm=self.tx_power_dbm,
            tx_antenna_gain_dbi=self.tx_antenna_gain_dbi,
            links=tuple(receiver.link() for receiver in self.receivers),
            line_of_sight=tuple(receiver.line_of_sight for receiver in self.receivers),
            detected=tuple(receiver.detected for receiver in self.receivers),
            path_loss_db=tuple(receiver.path_loss_db for receiver in self.receivers),
            diffraction_loss_db=tuple(receiver.diffraction_loss_db for receiver in self.receivers),
            mean_snr_db=self.mean_snr_db,
            gdop=self.gdop,
        )

    def to_json(self) -> dict[str, Any]:
        """The object that the columns ``truth`` hold; a bound that is None is left out, as older truths have none."""
        values = vars(self) | {"receivers": [dict(vars(receiver)) for receiver in self.receivers]}
        del values["position_bound"]
        return values if self.position_bound is None else values | {"position_bound": dict(vars(self.position_bound))}

    def without_bound(self) -> Self:
        """The truth as versions wrote it that did not compute the bound."""
        return replace(self, position_bound=None)

    def in_form_of(self, other: "SampleTruth | None") -> Self:
        """The same truth, without its bound if the other one has none, so that both can be compared."""
        return self.without_bound() if other is not None and other.position_bound is None else self

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what a column ``truth`` holds; fields that this version does not know are left out.

        Raises
        ------
        MalformedTruthError
            A field is missing or of another type.
        """
        values = _read(value, _SAMPLE_TYPES, "the truth")
        bound = values["position_bound"]
        read = {
            "receivers": tuple(LinkTruth.from_json(element) for element in values["receivers"]),
            "position_bound": None if bound is None else PositionBound.from_json(bound),
        }
        return cls(**values | read)


def readable_truth(value: Any) -> SampleTruth | None:
    """Read what a column ``truth`` holds; None where it holds nothing or is malformed."""
    try:
        return SampleTruth.from_json(value)
    except MalformedTruthError:
        return None


_JSON_TYPES: dict[Any, frozenset[type]] = {  # what a JSON reader makes of a field of this type
    str: frozenset({str}),
    bool: frozenset({bool}),
    float: frozenset({float, int}),
    str | None: frozenset({str, type(None)}),
    float | None: frozenset({float, int, type(None)}),
    tuple[LinkTruth, ...]: frozenset({list}),
    PositionBound | None: frozenset({dict, type(None)}),
}
_LINK_TYPES = {field.name: _JSON_TYPES[field.type] for field in fields(LinkTruth)}
_BOUND_TYPES = {field.name: _JSON_TYPES[field.type] for field in fields(PositionBound)}
_SAMPLE_TYPES = {field.name: _JSON_TYPES[field.type] for field in fields(SampleTruth)}


def _read(value: Any, types: Mapping[str, frozenset[type]], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedTruthError(f"{what} is malformed: it is not an object")
    values = {name: value.get(name) for name in types}
    for name, accepted in types.items():
        if type(values[name]) not in accepted or is_too_large(values[name]):
            raise MalformedTruthError(f"{what} is malformed: {name} is {values[name]!r}")
    return values


def _rounded(value: float) -> float:
    """Nine significant digits: a picosecond of 500 us."""
    return float(f"{value:.9g}")


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else _rounded(value)
