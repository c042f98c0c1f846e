"""Checks of a session's stored positions and time differences. Detection only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from heimdall_pipelines.model.checks import CheckOutcome, Severity
from heimdall_pipelines.model.position import METHOD, MeasuredDifference, StationDelay, StoredPosition
from heimdall_pipelines.rf.geodesy import distance_and_azimuth
from heimdall_pipelines.rf.positioning import PositionError, Receiver
from heimdall_pipelines.rf.station_delays import FALSE_ALARMS, DelayEstimate, estimate_delays, misfit
from heimdall_pipelines.sessions.clock_estimates import MIN_EMISSIONS, ClockEstimates, differing, emission_of
from heimdall_pipelines.sessions.session_position import SYSTEMATIC_US
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.positions import PositionRow
from heimdall_pipelines.store.sessions import RecordingSession
from heimdall_pipelines.store.stale_positions import delay_changes
from heimdall_pipelines.store.station_delays import delays_at
from heimdall_pipelines.store.stores import Stores

CLOSURE_US = 3.0  # by which echoes let the differences around a triangle miss 0
_CLOSURE_STDS = 5.0
_ENLARGED = 1.5  # the ellipse of 95 %, enlarged so, holds 99.9 %
_CONTRADICTION_STDS = 4.0
_CONTRADICTION_US = 1.0
_EMISSIONS = 30  # the latest sessions that a check of one session looks at

POSITION_CHECKS: dict[str, tuple[Severity, str]] = {
    "positions_are_current": (
        "WARN",
        "The delays of stations that were subtracted to locate the session are those that hold now.",
    ),
    "time_differences_close": (
        "ERROR",
        "The time differences around each triangle of stations add up to 0, and all agree with one position, as well "
        "as clocks and echoes allow.",
    ),
    "position_agrees_with_known_source": (
        "WARN",
        "The position is where the session's known source is, as well as its ellipse says.",
    ),
    "station_delays_agree": (
        "WARN",
        "The delays of stations that calibrations gave are those that this session of a known source gives.",
    ),
    "station_clocks_agree": (
        "WARN",
        "Over the latest sessions no station of this one has a delay that differs from the others'.",
    ),
}


@dataclass(frozen=True)
class PositionInputs:
    """What the checks of positions look at.

    Attributes
    ----------
    session : RecordingSession
    recordings : sequence of StationRecording
    whole : PositionRow or None
        Of the whole session; None if it was not located.
    num_segments, num_located : int
        Rows of segments, and those with a position.
    """

    session: RecordingSession
    recordings: Sequence[StationRecording]
    whole: PositionRow | None
    num_segments: int
    num_located: int


def check_positions(
    outcomes: Mapping[str, CheckOutcome], stores: Stores, inputs: PositionInputs, clocks: ClockEstimates
) -> None:
    """Run the checks of `POSITION_CHECKS`, which pass with a note where there is nothing to check."""
    agree = outcomes["position_agrees_with_known_source"]
    agree.numbers |= {"segments": inputs.num_segments, "segments_located": inputs.num_located}
    position = inputs.whole.position if inputs.whole is not None else None
    repair = f"heimdall session locate {inputs.session.slug} --exclude STATION"
    for name in POSITION_CHECKS:
        outcomes[name].repair = repair
    outcomes[
        "positions_are_current"
    ].repair = "the sensor completed_recording_sessions locates it again, or: heimdall session extract --stale"
    agree.repair = f"a known source calibrates its stations: heimdall session calibrate {inputs.session.slug}"
    outcomes[
        "station_delays_agree"
    ].repair = f"heimdall station delays --withdraw NUMBER, then heimdall session calibrate {inputs.session.slug}"
    outcomes["station_clocks_agree"].repair = "heimdall station clocks shows all; calibrate the station, or exclude it"
    why = _why_unchecked(inputs, position)
    if why is not None or position is None:
        for name in POSITION_CHECKS:
            outcomes[name].note = why or "the row of its position is malformed"
        return
    receivers = _receivers(inputs.recordings)
    _check_current(outcomes["positions_are_current"], stores, inputs.session, position)
    _check_closure(outcomes["time_differences_close"], inputs, position, receivers)
    _check_source(agree, inputs.session, position)
    if inputs.session.start_time is not None:
        kept = delays_at(stores.database, inputs.session.start_time, list(receivers))
        _check_delays(outcomes["station_delays_agree"], inputs.session, position, receivers, kept)
    _check_clocks(outcomes["station_clocks_agree"], stores, receivers, clocks)


def _why_unchecked(inputs: PositionInputs, position: StoredPosition | None) -> str | None:
    if inputs.whole is None:
        return f"not located yet: heimdall session extract {inputs.session.slug}"
    if inputs.whole.session_revision != inputs.session.revision:
        return f"located at revision {inputs.whole.session_revision}; the session is at {inputs.session.revision}"
    if position is not None and not position.time_differences:
        return f"not located: {position.reason}"
    return None


def _receivers(recordings: Sequence[StationRecording]) -> dict[str, Receiver]:
    stations = [recording.station for recording in recordings]
    return {x.rx_id: Receiver(x.rx_id, x.latitude, x.longitude, x.altitude_m) for x in stations}


def _check_current(outcome: CheckOutcome, stores: Stores, session: RecordingSession, position: StoredPosition) -> None:
    """Compare the delays that were subtracted with those that would be now."""
    outcome.numbers["delays_subtracted"] = len(position.station_delays_us)
    measured = {rx_id for pair in position.time_differences for rx_id in (pair.rx_a, pair.rx_b)}
    present = [] if session.start_time is None else delays_at(stores.database, session.start_time, measured)
    for change in delay_changes(position.station_delays_us, {delay.rx_id: delay.delay_us for delay in present}):
        outcome.problem(f"changed since the session was located: {change}")
    if position.method != METHOD:
        outcome.note = f"located by {position.method}, an earlier version of {METHOD}: the position stays valid"


def _check_closure(
    outcome: CheckOutcome, inputs: PositionInputs, position: StoredPosition, receivers: Mapping[str, Receiver]
) -> None:
    broken, num = _open_triangles(position.time_differences)
    outcome.numbers |= {"pairs": len(position.time_differences), "triangles": num}
    for stations, sum_us, allowed_us in broken:
        outcome.problem(
            f"{', '.join(stations)}: the time differences around them add up to {sum_us:.2f} us, at most "
            f"{allowed_us:.2f} us is echoes and noise"
        )
    common = set.intersection(*(set(stations) for stations, _, _ in broken)) if broken else set()
    if len(common) == 1 and num > len(broken):
        outcome.problem(f"the clock of {common.pop()} is the likely cause: without it the other triangles close")
    std_us = {
        recording.station.rx_id: math.hypot(SYSTEMATIC_US, recording.clock.uncertainty_us or 0.0)
        for recording in inputs.recordings
    }
    emission = emission_of(position.time_differences, receivers, None, position.station_delays_us)
    try:
        found = misfit(emission.receivers, emission.differences, std_us)
    except PositionError:
        return
    if found is None:
        outcome.note = "three stations: any clocks agree with a position; four and more are needed to check them"
        return
    if found.probability < FALSE_ALARMS:
        outcome.problem(
            f"no position explains the time differences: they miss the best one by {found.rms_us:.1f} us (rms), more "
            "than clocks and echoes allow"
        )
        if found.suspect is not None:
            outcome.problem(
                f"the clock of {found.suspect} is the likely cause: it is {found.suspect_us:+.1f} us off, and without "
                f"it the others agree to {found.others_rms_us:.1f} us (rms)"
            )


def _open_triangles(
    differences: Sequence[MeasuredDifference],
) -> tuple[list[tuple[tuple[str, str, str], float, float]], int]:
    """Triangles that do not close, with sum and limit, us, and the number of all."""
    known = {(x.rx_a, x.rx_b): x for x in differences if x.tdoa_us is not None}
    names = sorted({rx_id for pair in known for rx_id in pair})
    broken, num = [], 0
    for stations in combinations(names, 3):
        legs = [_leg(known, stations[i], stations[(i + 1) % 3]) for i in range(3)]
        if any(leg is None for leg in legs):
            continue
        num += 1
        sum_us = sum(leg[0] for leg in legs if leg is not None)
        allowed_us = CLOSURE_US + _CLOSURE_STDS * math.hypot(*(leg[1] for leg in legs if leg is not None))
        if abs(sum_us) > allowed_us:
            broken.append((stations, abs(sum_us), allowed_us))
    return broken, num


def _leg(known: Mapping[tuple[str, str], MeasuredDifference], a: str, b: str) -> tuple[float, float] | None:
    for pair, sign in (((a, b), 1.0), ((b, a), -1.0)):
        found = known.get(pair)
        if found is not None and found.tdoa_us is not None:
            return sign * found.tdoa_us, found.std_us or 0.0
    return None


def _check_source(outcome: CheckOutcome, session: RecordingSession, position: StoredPosition) -> None:
    source = session.known_source
    if source is None:
        outcome.note = "the session has no known source"
        return
    if position.latitude is None or position.longitude is None:
        outcome.note = f"not located: {position.reason}"
        return
    distance, azimuth = distance_and_azimuth(position.latitude, position.longitude, source.latitude, source.longitude)
    distance_m, turned = float(distance), float(azimuth) - math.radians(position.azimuth_deg or 0.0)
    major_m, minor_m = max(position.semi_major_m or 0.0, 1.0), max(position.semi_minor_m or 0.0, 1.0)
    outcome.numbers["distance_m"] = round(distance_m)
    away = math.hypot(distance_m * math.cos(turned) / major_m, distance_m * math.sin(turned) / minor_m)
    if away > _ENLARGED:
        outcome.problem(
            f"the position is {distance_m / 1e3:.2f} km from {source.name}, {away:.1f} times its ellipse of 95 % "
            f"({major_m / 1e3:.2f} x {minor_m / 1e3:.2f} km): clocks differ, or it is another transmitter"
        )


def _check_delays(
    outcome: CheckOutcome,
    session: RecordingSession,
    position: StoredPosition,
    receivers: Mapping[str, Receiver],
    kept: Sequence[StationDelay],
) -> None:
    outcome.numbers["delays"] = len(kept)
    source = session.known_source
    if not kept or source is None:
        outcome.note = "no calibration holds for its stations" if not kept else "the session has no known source"
        return
    if kept[0].session_slug == session.slug:
        outcome.note = "the delays that hold are from this session"
        return
    emission = emission_of(position.time_differences, receivers, (source.latitude, source.longitude))
    try:
        now = estimate_delays([emission], systematic_us=SYSTEMATIC_US)
    except PositionError:
        outcome.note = "too few time differences"
        return
    for delay, found, apart_us, std_us in contradictions(kept, now):
        outcome.problem(
            f"{delay.rx_id}: {delay.delay_us:+.1f} us is kept (from {delay.session_slug}, {delay.known_source}), this "
            f"session of {source.name} gives {found.delay_us:+.1f} us: {apart_us:+.1f} us apart, uncertain by "
            f"{std_us:.1f} us"
        )


def contradictions(
    kept: Sequence[StationDelay], now: Mapping[str, DelayEstimate]
) -> list[tuple[StationDelay, DelayEstimate, float, float]]:
    """Delays that a newer estimate contradicts, with the difference and its standard deviation, us.

    Both are relative to the mean of their stations, so those in common are compared relative to each other.
    """
    common = [delay for delay in kept if delay.rx_id in now]
    if len(common) < 2:
        return []
    apart_us = {delay.rx_id: now[delay.rx_id].delay_us - delay.delay_us for delay in common}
    middle_us = sorted(apart_us.values())[len(common) // 2]
    if len(common) == 2:
        middle_us = sum(apart_us.values()) / 2
    found = []
    for delay in common:
        off_us = apart_us[delay.rx_id] - middle_us
        std_us = math.hypot(delay.uncertainty_us, now[delay.rx_id].std_us)
        if abs(off_us) > max(_CONTRADICTION_STDS * std_us, _CONTRADICTION_US):
            found.append((delay, now[delay.rx_id], off_us, std_us))
    return found


def _check_clocks(
    outcome: CheckOutcome, stores: Stores, receivers: Mapping[str, Receiver], clocks: ClockEstimates
) -> None:
    estimates = clocks.of_stations(stores, limit=_EMISSIONS, of=receivers)
    most = max((estimates[rx_id].num_emissions for rx_id in receivers if rx_id in estimates), default=0)
    outcome.numbers["emissions"] = most
    if most < MIN_EMISSIONS:
        outcome.note = (
            f"{most} of the latest sessions were received by four stations, or are of a known source; "
            f"{MIN_EMISSIONS} are needed"
        )
        return
    for rx_id, estimate in differing(estimates).items():
        if rx_id in receivers:
            outcome.problem(
                f"{rx_id}: over {estimate.num_emissions} sessions its delay is {estimate.delay_us:+.1f} us "
                f"({estimate.std_us:.1f} us), relative to the mean of all stations"
            )
