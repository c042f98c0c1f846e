"""The request for a recording session, and the choice of its stations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.receiver_kind import kinds_text
from heimdall_pipelines.rf.segments import CHUNK_NS
from heimdall_pipelines.rf.spectrum import USABLE_BAND
from heimdall_pipelines.sessions.importing import MAX_SESSION_NAME_CHARACTERS, MIN_BANDWIDTH_HZ
from heimdall_pipelines.sessions.limits import MAX_DURATION_S, MAX_STATIONS
from heimdall_pipelines.store.session_slugs import check_slug
from heimdall_pipelines.store.stations import Station

MIN_DURATION_S = CHUNK_NS / 1e9
MAX_FREQUENCY_HZ = 1e12
MAX_CHANNEL_HZ = USABLE_BAND * 2.4e6
MAX_GAIN_DB = 120.0


class RecordingRefusedError(HeimdallError):
    """The request is invalid; the message says why. No session was opened."""


@dataclass(frozen=True)
class RecordRequest:
    """What to record.

    Attributes
    ----------
    frequency_hz, duration_s : float
        Centre; length of each station's recording.
    rx_ids : tuple of str or None
        None: all active stations that have a client.
    known_source : str or None
        Name of the transmitter.
    bandwidth_hz : float or None
        Width of the channel that features are taken from; None: 12.5 kHz, or what the sample rates leave usable.
    name : str or None
        Of the session; None: frequency and time.
    slug : str or None
        Of the session, followed by a number where it is taken; None: start, frequency and name.
    overtime_s : float or None
        Time after `duration_s` by which the last sample must have arrived; None: the longest timeout of the stations.
    max_duration_s : float
        Longer recordings are refused.
    max_stations : int
        All stations are recorded at the same time; a request for more stations is refused.
    manual_gain_db : float or None
        Fixed gain of receivers that have automatic gain control; None: it stays on, and levels are uncalibrated.

    Raises
    ------
    RecordingRefusedError, SlugError
        On construction, if a value is invalid.
    """

    frequency_hz: float
    duration_s: float
    rx_ids: tuple[str, ...] | None = None
    known_source: str | None = None
    bandwidth_hz: float | None = None
    name: str | None = None
    slug: str | None = None
    overtime_s: float | None = None
    max_duration_s: float = MAX_DURATION_S
    max_stations: int = MAX_STATIONS
    manual_gain_db: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.frequency_hz <= MAX_FREQUENCY_HZ:
            raise RecordingRefusedError(
                f"the frequency must be above 0 and at most {MAX_FREQUENCY_HZ:g} Hz, not {self.frequency_hz:g} Hz"
            )
        if not MIN_DURATION_S <= self.duration_s <= self.max_duration_s:  # NaN is refused, too
            raise RecordingRefusedError(
                f"a duration of {self.duration_s:g} s cannot be recorded: from {MIN_DURATION_S:g} s, "
                f"a chunk of which features are taken, to {self.max_duration_s:g} s are possible"
            )
        if self.bandwidth_hz is not None and not MIN_BANDWIDTH_HZ <= self.bandwidth_hz <= MAX_CHANNEL_HZ:
            raise RecordingRefusedError(
                f"a channel of {self.bandwidth_hz:g} Hz cannot be measured: from {MIN_BANDWIDTH_HZ:g} Hz "
                f"to {MAX_CHANNEL_HZ:g} Hz are possible"
            )
        if self.overtime_s is not None and not 0 <= self.overtime_s < math.inf:
            raise RecordingRefusedError(f"overtime_s must be finite and at least 0, not {self.overtime_s:g}")
        if self.max_stations < 1:
            raise RecordingRefusedError(f"max_stations must be at least 1, not {self.max_stations}")
        if self.manual_gain_db is not None and not 0 <= self.manual_gain_db <= MAX_GAIN_DB:
            raise RecordingRefusedError(
                f"a gain of {self.manual_gain_db:g} dB cannot be set: from 0 to {MAX_GAIN_DB:g} dB are possible"
            )
        if self.name is not None and not self.name.strip():
            raise RecordingRefusedError("the name is empty")
        if self.name is not None and (len(self.name) > MAX_SESSION_NAME_CHARACTERS or "\0" in self.name):
            raise RecordingRefusedError(
                f"the name has a NUL character, or is longer than {MAX_SESSION_NAME_CHARACTERS} characters"
            )
        if self.slug is not None:
            check_slug(self.slug)


@dataclass(frozen=True)
class StationChoice:
    """Stations to record, and stations that cannot be recorded, with the reason."""

    chosen: tuple[Station, ...]
    skipped: tuple[tuple[str, str], ...]


def choose_stations(request: RecordRequest, stations: Sequence[Station]) -> StationChoice:
    """Choose the stations of a request; those that do not receive its frequency are left out.

    Parameters
    ----------
    request : RecordRequest
    stations : sequence of Station
        All stations of the database.

    Raises
    ------
    RecordingRefusedError
        A station is unknown, given twice, not active or has no client; or none is left, or too many are.
    """
    if request.rx_ids is None:
        named = [station for station in stations if station.is_active and station.has_client]
        if not named:
            raise RecordingRefusedError(
                f"there is no active station that can be recorded (api_type {kinds_text()}); "
                "to add yours: heimdall station add; to try without one: heimdall station simulate"
            )
    else:
        named = [_named(rx_id, request.rx_ids, stations) for rx_id in request.rx_ids]
        if not named:
            raise RecordingRefusedError("no station was given; name stations, or choose all active ones")
    chosen, skipped = [], []
    for station in named:
        reason = _reason_to_skip(station, request.frequency_hz)
        if reason is None:
            chosen.append(station)
        else:
            skipped.append((station.rx_id, reason))
    if not chosen:
        listed = "; ".join(f"{rx_id}: {reason}" for rx_id, reason in skipped)
        raise RecordingRefusedError(f"no station can record {request.frequency_hz:.10g} Hz: {listed}")
    if len(chosen) > request.max_stations:
        raise RecordingRefusedError(
            f"{len(chosen)} stations are more than the {request.max_stations} that may be recorded at the same time: "
            "name fewer, or allow more (--max-stations, max_stations in a job's config)"
        )
    return StationChoice(tuple(chosen), tuple(skipped))


def _named(rx_id: str, rx_ids: Sequence[str], stations: Sequence[Station]) -> Station:
    if rx_ids.count(rx_id) > 1:
        raise RecordingRefusedError(f"station {rx_id} is given twice")
    station = next((station for station in stations if station.rx_id == rx_id), None)
    if station is None:
        raise RecordingRefusedError(f"unknown station {rx_id}; see: heimdall station list")
    if not station.is_active:
        raise RecordingRefusedError(f"station {rx_id} is not active; to activate it: heimdall station enable {rx_id}")
    if not station.has_client:
        raise RecordingRefusedError(f"station {rx_id} cannot be recorded: it has no client (api_type none)")
    return station


def _reason_to_skip(station: Station, frequency_hz: float) -> str | None:
    if not station.url:
        return "it has no url"
    ranges = station.frequency_ranges_hz
    if ranges and not any(low <= frequency_hz <= high for low, high in ranges):
        listed = ", ".join(f"{low / 1e6:g}-{high / 1e6:g}" for low, high in ranges)
        return f"{frequency_hz / 1e6:.10g} MHz is outside its {listed} MHz"
    return None
