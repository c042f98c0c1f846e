"""The interface of receivers, common to all protocols: request, samples, status, errors."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError

RETRY_AFTER_S = 60.0  # a receiver that refused is asked again at most once a minute


class ReceiverError(HeimdallError):
    """A receiver cannot be recorded: unreachable, refusing, or violating the protocol; names it and the reason.

    Attributes
    ----------
    is_transient : bool
        Whether a retry may help; not after a wrong password, a protocol error or a refused address.
    retry_after_s : float
        A retry comes no sooner than this: a receiver that refused is left alone for a minute.
    """

    def __init__(self, rx_id: str, reason: str, *, is_transient: bool, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{rx_id}: {reason}")
        self.rx_id = rx_id
        self.reason = reason
        self.is_transient = is_transient
        self.retry_after_s = retry_after_s


class StreamLimitError(ReceiverError):
    """The receiver's owner limits how long it is listened to, and the limit is reached; what has come is kept."""


@dataclass(frozen=True)
class ReceiverAddress:
    """Address of a receiver; ``url`` is http, https, ws or wss.

    A password is part of the URL, ``http://:password@host:8073``, and is never shown.
    """

    rx_id: str
    url: str = field(repr=False)
    api_type: str


@dataclass(frozen=True)
class WaitLimits:
    """Timeouts of a client, s.

    Attributes
    ----------
    connect_s : float
        For name resolution, the connection, and the answer to the first request.
    handshake_s : float
        After that, for setting up the stream, and again for the first samples.
    silence_s : float
        For the next samples; also for a whole status page.
    lag_s : float
        How far samples may fall behind the time spent waiting for them: a stream ends at the latest after the
        requested duration and this time.
    """

    connect_s: float = 10.0
    handshake_s: float = 15.0
    silence_s: float = 5.0
    lag_s: float = 10.0

    @classmethod
    def capped_at(cls, timeout_s: float) -> "WaitLimits":
        """Return the default limits, none of them longer than a station's ``timeout_seconds``."""
        return cls(**{name: min(limit_s, timeout_s) for name, limit_s in vars(cls()).items()})


@dataclass(frozen=True)
class Tuning:
    """The request to a receiver.

    ``manual_gain_db`` is for receivers with automatic gain control, which it turns off; others ignore it.
    """

    frequency_hz: float
    bandwidth_hz: float
    duration_s: float
    manual_gain_db: float | None = None


@dataclass(frozen=True)
class GnssStamp:
    """Time of a block's first sample by the receiver's GNSS, as a KiwiSDR gives it.

    ``age_s`` is that of the latest fix, 255 without any; ``second`` and ``nanosecond`` count from the GPS week's start.
    """

    age_s: int
    second: int
    nanosecond: int


@dataclass(frozen=True, eq=False)
class IqBlock:
    """Consecutive samples.

    Attributes
    ----------
    iq : NDArray[complex64], shape (samples,)
        Scaled so that full scale is abs(x) = 1.
    stamp : GnssStamp or None
    adc_overflow : bool
        The receiver's converter was overdriven in this block.
    num_lost_before : int
        Samples that were lost between the previous block and this one.
    level_db : float or None
        Latest reading of the receiver's own S-meter, before its gain control, dB relative to what
        `AppliedTuning.level_kind` says; None without one.
    """

    iq: NDArray[np.complex64]
    stamp: GnssStamp | None = None
    adc_overflow: bool = False
    num_lost_before: int = 0
    level_db: float | None = None


class LevelKind(StrEnum):
    """What the readings of a receiver's own level meter are relative to."""

    DBM = "dbm"
    DBFS = "dbfs"


@dataclass(frozen=True)
class AppliedTuning:
    """What a receiver does of a request.

    Attributes
    ----------
    frequency_hz : float
        To which it is tuned, as it rounds it: the frequency 0 of the samples.
    passband_hz : tuple of (float, float)
        Edges of its filter, relative to that.
    has_automatic_gain : bool or None
        The receiver's gain follows the signal, so that full scale in dBm varies. None: unknown.
    manual_gain_db : float or None
        As it rounds it; None: no gain was given, or the receiver has none.
    has_phase : bool
        Whether the samples are the receiver's own IQ; else they are made from one sideband's audio.
    level_kind : LevelKind or None
        What `IqBlock.level_db` is relative to; None: there are no readings.
    clock_problem : str or None
        Why the receiver has no clock, as a clause; None: its blocks tell.
    expects_stamps : bool
        Receivers of this kind send time stamps: it is noted where one does not.
    notes : tuple of str
        What the receiver cannot provide, for people.
    """

    frequency_hz: float
    passband_hz: tuple[float, float]
    has_automatic_gain: bool | None = None
    manual_gain_db: float | None = None
    has_phase: bool = True
    level_kind: LevelKind | None = None
    clock_problem: str | None = None
    expects_stamps: bool = False
    notes: tuple[str, ...] = ()


class IqStream(Protocol):
    """A running stream: iterate over it for blocks until the requested duration has arrived, or longer.

    Longer by at most a block and 0.01 %, since a receiver's true rate may be above the nominal one. Blocks left over
    from an earlier stream (a KiwiSDR's first two) are dropped.

    Attributes
    ----------
    nominal_rate_hz : float
    quantisation_step : float or None
        Of full scale; None for floating-point samples.
    applied : AppliedTuning
    """

    nominal_rate_hz: float
    quantisation_step: float | None
    applied: AppliedTuning

    def __aiter__(self) -> AsyncIterator[IqBlock]:
        """Give blocks as they arrive; raises ReceiverError if the stream ends early."""
        ...


@dataclass(frozen=True)
class ReceiverStatus:
    """A receiver's status; None where it is not reported.

    ``max_programs`` is the number of channels that its owner gives to programs instead of people, ``has_time_stamps``
    says whether it sends the time by its GNSS.
    """

    is_up: bool
    latency_s: float | None = None
    gnss_fix_age_s: float | None = None
    num_users: int | None = None
    max_users: int | None = None
    software: str | None = None
    reason: str | None = None
    max_programs: int | None = None
    has_time_stamps: bool | None = None
    needs_password: bool = False


class Receiver(Protocol):
    """A client of one kind of receiver."""

    def stream(self, address: ReceiverAddress, tuning: Tuning) -> AbstractAsyncContextManager[IqStream]:
        """Open a stream of IQ; leaving the context closes the connection.

        Raises
        ------
        ReceiverError
            The receiver cannot be reached, is busy, refuses, or violates the protocol.
        """
        ...

    async def status(self, address: ReceiverAddress) -> ReceiverStatus:
        """Request the status without recording; a receiver that is down is a result, not an error."""
        ...
