"""Looks whether a session's rows, measurements and objects agree; finds, never mends."""

from datetime import datetime
from uuid import UUID

from heimdall_pipelines.checks import CheckOutcome, Severity
from heimdall_pipelines.rf.feature_ranges import NUM_STATISTICS, out_of_range
from heimdall_pipelines.rf.features import FEATURE_NAMES
from heimdall_pipelines.store.features import StoredSessionRow, stream_session_rows
from heimdall_pipelines.store.iq_objects import IqObjectError, StationIq
from heimdall_pipelines.store.objects import ObjectNotFoundError
from heimdall_pipelines.store.sessions import StationRecording, get_session, list_recordings
from heimdall_pipelines.store.stores import Stores

# name, severity when failed, what it looks at
SESSION_CHECKS: dict[str, tuple[Severity, str]] = {
    "stations_in_every_segment": ("ERROR", "Every station of the session is in every row, with features or an error."),
    "segments_without_gap": ("ERROR", "Segments are numbered 0 to n-1 and follow each other by exactly one second."),
    "numbers_in_range": ("ERROR", "Every number is finite and within the range that its feature can have."),
    "objects_agree": ("ERROR", "Every IQ object is there, with the size that samples_count gives."),
    "stations_extracted": ("WARN", "Every station gave features in every segment; none at all is an ERROR."),
}


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
    for receiver in row.receivers:
        outcome.count("numbers", NUM_STATISTICS * len(receiver.features))
        for what in out_of_range(receiver.features):
            outcome.problem(f"segment {row.segment_idx}: {receiver.rx_id} {what}")


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
