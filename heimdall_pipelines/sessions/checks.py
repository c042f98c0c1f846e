"""Checks whether a session's rows, measurements and objects agree. Detection only; nothing is repaired."""

from dataclasses import dataclass

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.checks import CheckOutcome, Severity
from heimdall_pipelines.model.clock import MAX_CLOCK_UNCERTAINTY_US
from heimdall_pipelines.model.time_difference_checks import open_triangles, triangles, wrong_time_differences
from heimdall_pipelines.rf.feature_registry import STATISTICS, out_of_range, wrong_feature_set
from heimdall_pipelines.sessions.clock_estimates import ClockEstimates
from heimdall_pipelines.sessions.object_checks import check_objects
from heimdall_pipelines.sessions.position_checks import POSITION_CHECKS, PositionInputs, check_positions
from heimdall_pipelines.sessions.staleness import CurrencyCheck
from heimdall_pipelines.store.measurements import read_recordings
from heimdall_pipelines.store.positions import PositionRow, read_position_rows
from heimdall_pipelines.store.session_digests import SessionEdits, session_edits
from heimdall_pipelines.store.session_features import StoredSessionRow, read_session_rows
from heimdall_pipelines.store.session_health import session_row_bytes
from heimdall_pipelines.store.session_inputs import read_extraction, read_inputs
from heimdall_pipelines.store.sessions import RecordingSession, SessionBeingDeletedError, SessionKey, read_session
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress

# name: severity when failed, what it checks
SESSION_CHECKS: dict[str, tuple[Severity, str]] = {
    "stations_in_every_segment": ("ERROR", "Every station of the session is in every row, with features or an error."),
    "segments_without_gap": ("ERROR", "Segments are numbered 0 to n-1 and follow each other by exactly one second."),
    "numbers_in_range": (
        "ERROR",
        "Every number is finite and within its range; every pair of stations that detected has its time difference.",
    ),
    "triangles_close": (
        "WARN",
        "Time differences around each triangle of stations, with correlations of 0.3 or more, add up to 0 within 20 us "
        "and eight standard deviations.",
    ),
    "objects_agree": (
        "ERROR",
        "Every IQ object has the size that samples_count gives and its SigMF; there are no others.",
    ),
    "rows_as_committed": (
        "ERROR",
        "Every row of the session, and the position of each station and of the source, is as it was committed, by its "
        "digest and the root.",
    ),
    "sidecars_as_committed": ("ERROR", "Every sidecar, which is read, has the bytes that were stored with its object."),
    "stations_extracted": ("WARN", "Every station gave features in every segment; no features at all is an ERROR."),
    "features_are_current": (
        "WARN",
        "Measurements, positions and known source are those that the features were computed from.",
    ),
    **POSITION_CHECKS,
}


class SessionNotCompleteError(HeimdallError):
    """The session is not completed: there is nothing to check yet."""


@dataclass(frozen=True)
class CheckedSession:
    """Result of the checks of a session.

    Attributes
    ----------
    session : RecordingSession
        As it was when its rows were read.
    outcomes : tuple of CheckOutcome
        One per entry of SESSION_CHECKS, in its order.
    num_affected : int
        Segments with a problem, each counted once; all of them where IQ is missing or damaged, or nothing was
        extracted.
    num_segments : int
        Number that exist or should exist.
    size_bytes : int
        Of its objects and rows.
    """

    session: RecordingSession
    outcomes: tuple[CheckOutcome, ...]
    num_affected: int
    num_segments: int
    size_bytes: int


def check_session(
    stores: Stores,
    key: SessionKey,
    *,
    checksums: bool = False,
    progress: Progress | None = None,
    clocks: ClockEstimates | None = None,
) -> CheckedSession:
    """Run every check of a session: its rows and measurements as they stood at one moment, then its objects.

    Parameters
    ----------
    stores : Stores
    key : UUID or str
        The session's id or slug.
    checksums : bool
        Read every object again, in constant memory, and compare its SHA-256.
    progress : callable, optional
        Called with a line to show, every few seconds of reading.
    clocks : ClockEstimates, optional
        The same for several sessions, so that the clocks of a network are estimated once.

    Raises
    ------
    SessionNotFoundError, SessionBeingDeletedError, SessionNotCompleteError
        There is nothing to check.
    UnavailableError
        PostgreSQL or the S3 store could not be reached: this is not a failed check.
    """
    outcomes = {name: CheckOutcome(name, severity) for name, (severity, _) in SESSION_CHECKS.items()}
    with stores.database.snapshot() as connection:
        session = read_session(connection, key)
        edits = session_edits(connection, session.id)
        _require_completed(session, edits)
        recordings = read_recordings(connection, session.id)
        row_bytes = session_row_bytes(connection, session.id)
        rows = _RowChecks(outcomes, session, {recording.station.rx_id for recording in recordings})
        extraction, inputs = read_extraction(connection, session.id), read_inputs(connection, session.id)
        current = CurrencyCheck(outcomes["features_are_current"], extraction, inputs)
        for row in read_session_rows(connection, session.id):
            rows.check(row)
            current.check(row)
        rows.check_counts()
        current.end()
        located = _PositionRows(outcomes["rows_as_committed"])
        for position in read_position_rows(connection, session.id):
            located.check(position)
    _check_committed(outcomes["rows_as_committed"], edits)
    checked = check_objects(
        outcomes,
        stores,
        session.id,
        recordings,
        checksums=checksums,
        progress=progress or (lambda _line: None),
    )
    for outcome in outcomes.values():
        outcome.repair = f"heimdall session extract {session.slug}"
    check_positions(
        outcomes,
        stores,
        PositionInputs(session, recordings, located.whole, located.num_segments, located.num_located),
        clocks or ClockEstimates(),
    )
    accept = f"to take an edit over: heimdall db accept session {session.slug} --reason REASON --apply"
    outcomes[
        "rows_as_committed"
    ].repair = f"features and positions: heimdall session extract {session.slug}; the rest from a backup; {accept}"
    outcomes["sidecars_as_committed"].repair = f"put the sidecar back from a copy; {accept}"
    outcomes["objects_agree"].repair = (
        "IQ of recordings cannot be regenerated: put the objects back from a copy; or import or record the session "
        f"again after: heimdall session delete {session.slug}"
    )
    concerns_all = checked.iq_is_damaged or rows.num_extracted == 0
    return CheckedSession(
        session=session,
        outcomes=tuple(outcomes.values()),
        num_affected=rows.num_segments if concerns_all else rows.num_affected,
        num_segments=rows.num_segments,
        size_bytes=row_bytes + checked.size_bytes,
    )


def _require_completed(session: RecordingSession, edits: SessionEdits) -> None:
    """Refuse a session that there is nothing to check of, unless it only seems so since it was edited by hand."""
    edited = edits.session.columns if edits.session is not None else ()
    if session.deletion_began_at is not None and "deletion_began_at" not in edited:
        raise SessionBeingDeletedError(session.slug)
    if session.status != "completed" and "status" not in edited:
        raise SessionNotCompleteError(
            f"session {session.slug} is {session.status}: it can be checked only when it is completed; "
            "importing the same files again completes an interrupted import"
        )


def _check_committed(outcome: CheckOutcome, edits: SessionEdits) -> None:
    outcome.count("measurements", edits.num_measurements)
    for problem in edits.problems():
        outcome.problem(problem)
    if edits.digests_since is not None:
        outcome.note = (
            f"rows of before {edits.digests_since:%Y-%m-%d %H:%M:%S} UTC have the digests of what they were then"
        )


class _PositionRows:
    """The stored positions, called for each row: the whole session's is kept, all are compared with their digests."""

    def __init__(self, outcome: CheckOutcome) -> None:
        self._outcome = outcome
        self.whole: PositionRow | None = None
        self.num_segments = 0
        self.num_located = 0

    def check(self, row: PositionRow) -> None:
        """Check one row."""
        self._outcome.count("positions")
        if row.edit is not None:
            self._outcome.problem(f"{row}: {row.edit}")
        if row.segment_idx is None:
            self.whole = row
            return
        self.num_segments += 1
        self.num_located += row.position is not None and row.position.latitude is not None


class _RowChecks:
    """The checks of rows, called for each row in the order of segments."""

    def __init__(self, outcomes: dict[str, CheckOutcome], session: RecordingSession, expected: set[str]) -> None:
        self._outcomes = outcomes
        self._session = session
        self._expected = expected
        self._previous: StoredSessionRow | None = None
        self._num_rows = 0
        self._num_rows_concerned = 0
        self._num_planned = 0
        self.num_extracted = 0

    @property
    def num_segments(self) -> int:
        """Number of segments that exist or should exist."""
        return max(self._num_planned, self._num_rows)

    @property
    def num_affected(self) -> int:
        """Number of segments that are missing or have a problem."""
        return self._num_rows_concerned + self.num_segments - self._num_rows

    def check(self, row: StoredSessionRow) -> None:
        """Check one row."""
        self._num_rows += 1
        _check_gap(self._outcomes["segments_without_gap"], row, self._previous)
        before = self._num_problems()
        if row.unreadable is not None:
            self._outcomes["numbers_in_range"].problem(f"segment {row.segment_idx}: {row.unreadable} is malformed")
        _check_stations(self._outcomes["stations_in_every_segment"], row, self._expected)
        _check_order(self._outcomes["segments_without_gap"], row, self._previous, self._session.revision)
        _check_numbers(self._outcomes["numbers_in_range"], row)
        _check_triangles(self._outcomes["triangles_close"], row)
        self._outcomes["rows_as_committed"].count("feature_rows")
        if row.edit is not None:
            self._outcomes["rows_as_committed"].problem(f"segment {row.segment_idx}: {row.edit}")
        self.num_extracted += _check_extracted(self._outcomes["stations_extracted"], row)
        self._num_rows_concerned += self._num_problems() > before
        self._previous = row

    def check_counts(self) -> None:
        """Check the counts, after the last row."""
        gaps, stations = self._outcomes["segments_without_gap"], self._outcomes["stations_in_every_segment"]
        extracted = self._outcomes["stations_extracted"]
        gaps.numbers["rows"] = self._num_rows
        for outcome in (stations, extracted):
            outcome.numbers |= {"rows": self._num_rows, "stations": len(self._expected)}
        if self._previous is None:
            gaps.problem("there are no rows")
        else:
            self._num_planned = self._previous.extraction_metadata.num_segments
            gaps.numbers["segments_planned"] = self._num_planned
            if self._num_rows != max(self._num_planned, 1):
                gaps.problem(f"{self._num_rows} rows are there, the extraction planned {self._num_planned}")
        if self.num_extracted == 0:
            extracted.severity = "ERROR"
            extracted.problem("nothing was extracted")

    def _num_problems(self) -> int:
        return sum(outcome.num_problems for outcome in self._outcomes.values())


def _check_stations(outcome: CheckOutcome, row: StoredSessionRow, expected: set[str]) -> None:
    rx_ids = [receiver.rx_id for receiver in row.receivers]
    for rx_id in sorted(expected - set(rx_ids)):
        outcome.problem(f"segment {row.segment_idx}: station {rx_id} is missing")
    for rx_id in sorted(set(rx_ids) - expected):
        outcome.problem(f"segment {row.segment_idx}: station {rx_id} is not of this session")
    for rx_id in sorted({rx_id for rx_id in rx_ids if rx_ids.count(rx_id) > 1}):
        outcome.problem(f"segment {row.segment_idx}: station {rx_id} is listed twice")
    for receiver in row.receivers:
        outcome.count("entries")
        if receiver.error_message is not None:
            continue
        for what in wrong_feature_set(receiver.features, row.feature_version):
            outcome.problem(f"segment {row.segment_idx}: {receiver.rx_id} {what}")
    detected = sum(receiver.signal_present for receiver in row.receivers)
    if (row.num_receivers_in_sample, row.num_receivers_detected) != (len(row.receivers), detected):
        outcome.problem(
            f"segment {row.segment_idx}: {row.num_receivers_detected} of {row.num_receivers_in_sample} receivers "
            f"are noted, {detected} of {len(row.receivers)} are there"
        )


def _check_gap(outcome: CheckOutcome, row: StoredSessionRow, previous: StoredSessionRow | None) -> None:
    """Check for a missing row, which is not a problem of the row after the gap."""
    expected_idx = previous.segment_idx + 1 if previous else 0
    if row.segment_idx != expected_idx:
        outcome.problem(f"segment {row.segment_idx} follows where {expected_idx} is expected")


def _check_order(
    outcome: CheckOutcome, row: StoredSessionRow, previous: StoredSessionRow | None, revision: int
) -> None:
    follows = previous is not None and row.segment_idx == previous.segment_idx + 1
    if previous is not None and follows:
        step_s = (row.timestamp - previous.timestamp).total_seconds()
        if step_s != 1.0:
            outcome.problem(f"segment {row.segment_idx} begins {step_s} s after the one before")
    if row.session_revision != revision:
        outcome.problem(f"segment {row.segment_idx} is of revision {row.session_revision}, the session of {revision}")


def _check_numbers(outcome: CheckOutcome, row: StoredSessionRow) -> None:
    for receiver in row.receivers:
        outcome.count("numbers", len(STATISTICS) * len(receiver.features))
        for what in out_of_range(receiver.features):
            outcome.problem(f"segment {row.segment_idx}: {receiver.rx_id} {what}")
    if row.unreadable is None:
        outcome.count("time_differences", len(row.time_differences or ()))
        for what in wrong_time_differences(row.time_differences, row.receivers, row.feature_version):
            outcome.problem(f"segment {row.segment_idx}: {what}")


def _check_triangles(outcome: CheckOutcome, row: StoredSessionRow) -> None:
    """Clocks cancel in the sum: it is not 0 where a delay is that of an echo, or of another transmission."""
    outcome.count("triangles", sum(1 for _ in triangles(row.time_differences or ())))
    for what in open_triangles(row.time_differences or (), MAX_CLOCK_UNCERTAINTY_US):
        outcome.problem(f"segment {row.segment_idx}: {what}")


def _check_extracted(outcome: CheckOutcome, row: StoredSessionRow) -> int:
    extracted = 0
    for receiver in row.receivers:
        if receiver.error_message is None:
            extracted += 1
        else:
            outcome.problem(f"segment {row.segment_idx}: {receiver.rx_id}: {receiver.error_message}")
    outcome.count("entries_extracted", extracted)
    return extracted
