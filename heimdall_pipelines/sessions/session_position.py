"""What locating a session takes and gives."""

from collections.abc import Collection
from dataclasses import dataclass

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.position import StationDelay
from heimdall_pipelines.rf.positioning import Area, PositionFix, Receiver
from heimdall_pipelines.rf.tdoa import TimeDifference
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.sessions import RecordingSession

SYSTEMATIC_US = 3.0  # echoes and paths of recorded signals, at each station


class NotLocatableError(HeimdallError):
    """The session's transmitter cannot be located; ``left_out`` says of each station why, where that is the reason."""

    def __init__(self, message: str, left_out: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.left_out = left_out or {}


@dataclass(frozen=True)
class PairDelay:
    """Time difference of a pair of stations over a session.

    Attributes
    ----------
    rx_a, rx_b : str
    tdoa_us : float or None
        Robust mean (Huber) over the blocks; positive where the signal is later at b. None with a ``reason``.
    std_us : float or None
        Standard error of that mean, from the blocks' scatter.
    scatter_us : float or None
        Standard deviation of the blocks.
    peak : float
        Normalised correlation, median.
    num_blocks : int
        Blocks of 1 s in which it was measured.
    expected_us : float or None
        From the session's known source.
    """

    rx_a: str
    rx_b: str
    tdoa_us: float | None
    std_us: float | None
    scatter_us: float | None
    peak: float
    num_blocks: int
    expected_us: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Block:
    """Time differences of one segment, as measured, and its position with the session's delays subtracted.

    ``fix`` is None with a ``reason``.
    """

    segment_idx: int
    differences: tuple[TimeDifference, ...]
    fix: PositionFix | None
    reason: str | None


@dataclass(frozen=True)
class Measured:
    """Time differences of a session.

    Attributes
    ----------
    session : RecordingSession
    recordings : tuple of StationRecording
        Of all its stations.
    receivers : tuple of Receiver
        Stations whose time differences were measured.
    blocks : tuple of (int, tuple of TimeDifference)
        Number and differences of each segment.
    pairs : tuple of PairDelay
    differences : tuple of TimeDifference
        The pairs over all blocks; indices refer to ``receivers``.
    left_out : dict of str to str
        Stations that were not used, with the reason.
    area : Area
    """

    session: RecordingSession
    recordings: tuple[StationRecording, ...]
    receivers: tuple[Receiver, ...]
    blocks: tuple[tuple[int, tuple[TimeDifference, ...]], ...]
    pairs: tuple[PairDelay, ...]
    differences: tuple[TimeDifference, ...]
    left_out: dict[str, str]
    area: Area


@dataclass(frozen=True)
class SessionPosition:
    """Where the transmitter of a session is.

    Attributes
    ----------
    session : RecordingSession
    receivers : tuple of Receiver
        Stations whose time differences were measured.
    pairs : tuple of PairDelay
    differences : tuple of TimeDifference
        The pairs as they entered the position; indices refer to ``receivers``.
    closure_us : float or None
        Greatest sum of the time differences around a triangle of stations; 0 if they agree.
    fix : PositionFix
    block_scatter_m : float or None
        Median distance of the positions of single blocks from their median.
    left_out : dict of str to str
        Stations that were not used, with the reason.
    area : Area
    distance_to_source_km : float or None
        From the session's known source.
    blocks : tuple of Block
    delays : tuple of StationDelay
        What a calibration gave, subtracted from ``differences``; ``pairs`` and those of ``blocks`` are as measured.
    uncalibrated : PositionFix or None
        The position without these delays, where there are any.
    """

    session: RecordingSession
    receivers: tuple[Receiver, ...]
    pairs: tuple[PairDelay, ...]
    differences: tuple[TimeDifference, ...]
    closure_us: float | None
    fix: PositionFix
    block_scatter_m: float | None
    left_out: dict[str, str]
    area: Area
    distance_to_source_km: float | None
    blocks: tuple[Block, ...]
    delays: tuple[StationDelay, ...]
    uncalibrated: PositionFix | None

    @property
    def delays_us(self) -> dict[str, float]:
        """The delays by station."""
        return {delay.rx_id: delay.delay_us for delay in self.delays}


@dataclass(frozen=True)
class LocateOptions:
    """What the caller chose.

    Attributes
    ----------
    exclude : collection of str
        Stations that are not used.
    trusted : collection of str
        Stations whose clock is used although nothing vouches for it.
    area : Area, optional
        Where to search; around the stations if None.
    bandwidth_hz : float, optional
        Of the channel; the session's if None.
    is_calibrated : bool
        Whether delays of calibrations that hold at the session's time are subtracted.
    from_s, until_s : float, optional
        Part of the session, s after its first segment; all of it if None.
    """

    exclude: Collection[str] = ()
    trusted: Collection[str] = ()
    area: Area | None = None
    bandwidth_hz: float | None = None
    is_calibrated: bool = True
    from_s: float | None = None
    until_s: float | None = None
