"""Looks whether a session's rows, measurements and objects agree; finds, never mends."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from heimdall_pipelines.rf.features import FEATURE_NAMES
from heimdall_pipelines.store.features import StoredSessionRow, stream_session_rows
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq
from heimdall_pipelines.store.objects import ObjectNotFoundError
from heimdall_pipelines.store.sessions import StationRecording, get_session, list_recordings
from heimdall_pipelines.store.stores import Stores

Severity = Literal["WARN", "ERROR"]
MAX_EXAMPLES = 20

# name, severity when failed, what it looks at
SESSION_CHECKS: dict[str, tuple[Severity, str]] = {
    "stations_in_every_segment": ("ERROR", "Every station of the session is in every row, with features or an error."),
    "segments_without_gap": ("ERROR", "Segments are numbered 0 to n-1 and follow each other by exactly one second."),
    "numbers_in_range": ("ERROR", "Every number is finite and within the range that its feature can have."),
    "objects_agree": ("ERROR", "Every IQ object is there, with the size that samples_count gives."),
    "stations_extracted": ("WARN", "Every station gave features in every segment; none at all is an ERROR."),
}

# What the physics and the estimators allow; levels leave room for any calibration.
_LEVEL_DBM = (-250.0, 100.0)
_FREQUENCY_HZ = (-1.2e6, 1.2e6)
_RANGES: dict[str, tuple[float, float]] = {
    "rssi_dbm": _LEVEL_DBM,
    "snr_db": (-60.0, 200.0),
    "noise_floor_dbm": _LEVEL_DBM,
    "frequency_offset_hz": _FREQUENCY_HZ,
    "bandwidth_hz": (0.0, 2.4e6),
    "psd_dbm_per_hz": (-300.0, 100.0),
    "spectral_centroid_hz": _FREQUENCY_HZ,
    "spectral_rolloff_hz": _FREQUENCY_HZ,
    "envelope_mean": (0.0, math.inf),
    "envelope_std": (0.0, math.inf),
    "envelope_max": (0.0, math.inf),
    "peak_to_avg_ratio_db": (-0.01, 100.0),
    "zero_crossing_rate": (0.0, 1.0),
    "multipath_delay_spread_us": (0.0, 1e6),
    "coherence_bandwidth_khz": (0.0, math.inf),
    "delay_spread_confidence": (0.0, 1.0),
    "confidence_score": (0.0, 1.0),
}


@dataclass
class CheckOutcome:
    """What one check saw: numbers that were compared, and examples of what disagrees."""

    name: str
    severity: Severity
    numbers: dict[str, int] = field(default_factory=dict)
    num_problems: int = 0
    examples: list[str] = field(default_factory=list)
    mend: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing disagrees."""
        return self.num_problems == 0

    def count(self, number: str, by: int = 1) -> None:
        """Add to one of the compared numbers."""
        self.numbers[number] = self.numbers.get(number, 0) + by

    def problem(self, example: str) -> None:
        """Note something that disagrees; the first 20 are kept in words."""
        self.num_problems += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(example)


def check_session(stores: Stores, session_id: UUID | str) -> list[CheckOutcome]:
    """Run every check of a session.

    Returns
    -------
    list of CheckOutcome
        One per entry of SESSION_CHECKS, in its order.

    Raises
    ------
    UnavailableError
        PostgreSQL or the S3 store could not be asked: that is no failed check.
    """
    session = get_session(stores.database, session_id)
    recordings = list_recordings(stores.database, session.id)
    outcomes = {name: CheckOutcome(name, severity) for name, (severity, _) in SESSION_CHECKS.items()}
    again = f"heimdall session extract {session.id}"
    for outcome in outcomes.values():
        outcome.mend = again
    outcomes["objects_agree"].mend = "import or record the session again; its IQ cannot be made again"
    expected = {recording.station.rx_id for recording in recordings}
    previous: StoredSessionRow | None = None
    num_rows = 0
    extracted_entries = 0
    for row in stream_session_rows(stores.database, session.id):
        num_rows += 1
        _check_stations(outcomes["stations_in_every_segment"], row, expected)
        _check_order(outcomes["segments_without_gap"], row, previous, session.revision)
        _check_numbers(outcomes["numbers_in_range"], row)
        extracted_entries += _check_extracted(outcomes["stations_extracted"], row)
        previous = row
    _check_count(outcomes["segments_without_gap"], previous, num_rows)
    for name in ("stations_in_every_segment", "stations_extracted"):
        outcomes[name].numbers |= {"rows": num_rows, "stations": len(expected)}
    if extracted_entries == 0:
        outcomes["stations_extracted"].severity = "ERROR"
        outcomes["stations_extracted"].problem("nothing was extracted")
    for recording in recordings:
        _check_object(outcomes["objects_agree"], stores, recording)
    return list(outcomes.values())


def _check_stations(outcome: CheckOutcome, row: StoredSessionRow, expected: set[str]) -> None:
    rx_ids = [receiver.rx_id for receiver in row.receivers]
    for rx_id in sorted(expected - set(rx_ids)):
        outcome.problem(f"segment {row.segment_idx}: station {rx_id} is missing")
    for rx_id in sorted(set(rx_ids) - expected):
        outcome.problem(f"segment {row.segment_idx}: station {rx_id} is not of this session")
    for rx_id in sorted({rx_id for rx_id in rx_ids if rx_ids.count(rx_id) > 1}):
        outcome.problem(f"segment {row.segment_idx}: station {rx_id} stands twice")
    for receiver in row.receivers:
        outcome.count("entries")
        if receiver.error_message is None and set(receiver.features) != set(FEATURE_NAMES):
            outcome.problem(f"segment {row.segment_idx}: {receiver.rx_id} has neither all features nor an error")
    detected = sum(receiver.signal_present for receiver in row.receivers)
    if (row.num_receivers_in_sample, row.num_receivers_detected) != (len(row.receivers), detected):
        outcome.problem(
            f"segment {row.segment_idx}: {row.num_receivers_detected} of {row.num_receivers_in_sample} receivers "
            f"are noted, {detected} of {len(row.receivers)} are there"
        )


def _check_order(
    outcome: CheckOutcome, row: StoredSessionRow, previous: StoredSessionRow | None, revision: int
) -> None:
    expected_idx = previous.segment_idx + 1 if previous else 0
    if row.segment_idx != expected_idx:
        outcome.problem(f"segment {row.segment_idx} follows where {expected_idx} is expected")
    elif previous is not None and (step := _seconds(previous.timestamp, row.timestamp)) != 1.0:
        outcome.problem(f"segment {row.segment_idx} begins {step} s after the one before")
    if row.session_revision != revision:
        outcome.problem(f"segment {row.segment_idx} is of revision {row.session_revision}, the session of {revision}")


def _check_count(outcome: CheckOutcome, last: StoredSessionRow | None, num_rows: int) -> None:
    outcome.numbers["rows"] = num_rows
    if last is None:
        outcome.problem("there are no rows")
        return
    planned = last.extraction_metadata.get("num_segments", 0)
    outcome.numbers["segments_planned"] = planned
    if num_rows != max(planned, 1):
        outcome.problem(f"{num_rows} rows are there, the extraction planned {planned}")


def _check_numbers(outcome: CheckOutcome, row: StoredSessionRow) -> None:
    for name, value in _numbers(row):
        outcome.count("numbers")
        feature = name.rsplit(" ", 1)[-1].partition(".")[0]
        low, high = _RANGES[feature]
        if not math.isfinite(value) or not low <= value <= high:
            outcome.problem(f"segment {row.segment_idx}: {name} = {value} is outside {low:g}..{high:g}")


def _numbers(row: StoredSessionRow) -> Iterator[tuple[str, float]]:
    for receiver in row.receivers:
        for feature, statistics in receiver.features.items():
            if feature not in _RANGES:
                continue
            for statistic in ("mean", "min", "max"):
                value: Any = statistics.get(statistic)
                if value is not None:
                    yield f"{receiver.rx_id} {feature}.{statistic}", float(value)


def _check_extracted(outcome: CheckOutcome, row: StoredSessionRow) -> int:
    extracted = 0
    for receiver in row.receivers:
        if receiver.error_message is None:
            extracted += 1
        else:
            outcome.problem(f"segment {row.segment_idx}: {receiver.rx_id}: {receiver.error_message}")
    outcome.count("entries_extracted", extracted)
    return extracted


def _check_object(outcome: CheckOutcome, stores: Stores, recording: StationRecording) -> None:
    if recording.location is None:
        return  # a station that recorded nothing is a failed station, no disagreement
    outcome.count("objects")
    try:
        StationIq(stores.objects, recording)
    except (ObjectNotFoundError, IqObjectError) as error:
        outcome.problem(str(error))


def _seconds(earlier: datetime, later: datetime) -> float:
    return (later - earlier).total_seconds()
