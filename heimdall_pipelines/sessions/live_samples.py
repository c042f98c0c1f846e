"""Collects a live stream: contiguous samples with marked holes, time stamps, and levels measured during reception."""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.gnss_clock import (
    NO_FIX_AGE,
    ClockError,
    StampGatherer,
    fit_extrapolated_stamps,
    fit_gnss_clock,
)
from heimdall_pipelines.formats.stamp_diagnosis import stamp_problem
from heimdall_pipelines.receivers.stream import IqBlock, ReceiverError
from heimdall_pipelines.rf.features import InvalidIqError, default_channel_bandwidth_hz, extract_features
from heimdall_pipelines.rf.segments import CHUNK_NS, CHUNKS_PER_SEGMENT
from heimdall_pipelines.rf.spectrum import USABLE_BAND

# Greatest share of lost samples, which are filled with zeros; a station that loses more fails.
MAX_HOLE_SHARE = 0.05
MAX_CLOCK_DIFFERENCE_S = 2.0  # between GNSS time and this machine's clock; a greater one is noted
_MAX_HOLE_PIECE = 1 << 16
_MAX_ARRIVALS = 8192  # of which a median is taken
_WARM_UP_RATE_HZ = 12_000.0


@dataclass(frozen=True)
class RecordingClock:
    """Time of the first sample, sample rate, and where they come from; see StationRecording."""

    start_time_unix_ns: int
    sample_rate_hz: float
    time_source: str
    uncertainty_ns: float


class LiveSamples:
    """Takes the blocks of one stream until it has the wanted number of samples.

    Parameters
    ----------
    rx_id : str
        Named in errors.
    num_wanted : int
        Samples that are kept, holes included.
    nominal_rate_hz : float
        As reported by the receiver.
    clock_problem : str, optional
        Why the receiver has no clock, where that is known before its blocks come.
    expects_stamps : bool
        Receivers of this kind send time stamps: it is noted where this one does not.
    """

    def __init__(
        self,
        rx_id: str,
        num_wanted: int,
        nominal_rate_hz: float,
        *,
        clock_problem: str | None = None,
        expects_stamps: bool = False,
    ) -> None:
        self._rx_id = rx_id
        self._clock_problem = clock_problem
        self._expects_stamps = expects_stamps
        self._nominal_rate_hz = nominal_rate_hz
        self.num_wanted = num_wanted
        self.num_kept = 0
        self.holes: list[tuple[int, int]] = []
        self._num_blocks = 0
        self._num_overflows = 0
        self._first_arrival_ns = 0
        self._arrivals = _Arrivals()
        self._stamps = StampGatherer()
        self._note: str | None = None
        self.level_readings = LevelReadings(nominal_rate_hz)

    @property
    def is_complete(self) -> bool:
        """Whether all wanted samples have arrived."""
        return self.num_kept == self.num_wanted

    @property
    def num_lost(self) -> int:
        """Samples in holes."""
        return sum(count for _, count in self.holes)

    def take(self, block: IqBlock, arrived_unix_ns: int) -> Iterator[NDArray[np.complex64]]:
        """Give what is to be stored for a block: zeros for samples lost before it, then its own samples.

        Raises
        ------
        ReceiverError
            Too many samples were lost, or some are not finite.
        """
        if block.iq.dtype != np.complex64 or block.iq.ndim != 1 or not np.isfinite(block.iq).all():
            raise ReceiverError(self._rx_id, "sent samples that are not finite", is_transient=False)
        if self._num_blocks == 0:
            self._first_arrival_ns = arrived_unix_ns
        elif block.num_lost_before > 0:  # what was lost before the first block is before the recording
            yield from self._hole(block.num_lost_before)
        if self.is_complete:
            return
        self._num_blocks += 1
        self._num_overflows += block.adc_overflow
        if block.stamp is not None:
            age_s = min(max(block.stamp.age_s, 0), NO_FIX_AGE)
            self._stamps.add(self.num_kept, age_s, block.stamp.second, block.stamp.nanosecond)
        if block.level_db is not None:
            self.level_readings.add(self.num_kept, block.level_db)
        last_sample = self.num_kept + block.iq.size
        self._arrivals.add(arrived_unix_ns - round(last_sample * 1e9 / self._nominal_rate_hz))
        kept = block.iq[: self.num_wanted - self.num_kept]
        self.num_kept += kept.size
        yield kept

    def clock(self) -> RecordingClock:
        """Start of the recording: from GNSS stamps, as in an import; without them from the arrival times.

        Stamps that are no clock (none, none that change, no fix, seconds that jump) are not used, and noted.

        Raises
        ------
        ReceiverError
            The stamps contradict a steady sample clock.
        """
        stamps = self._stamps.stamps()
        problem = self._clock_problem or stamp_problem(stamps, self._nominal_rate_hz)
        fit = None
        if problem is None:
            try:
                near_ns, rate_hz = self._first_arrival_ns, self._nominal_rate_hz
                fit = fit_gnss_clock(stamps, near_unix_ns=near_ns, nominal_rate_hz=rate_hz)
                if fit is None:  # too few fixes, as in 10 s of many receivers
                    fit = fit_extrapolated_stamps(stamps, near_unix_ns=near_ns, nominal_rate_hz=rate_hz)
            except ClockError as error:
                raise ReceiverError(self._rx_id, str(error), is_transient=False) from error
            problem = "its time stamps do not lie on one line, or have no fix within 30 s"
        if fit is None and (self._clock_problem or self._expects_stamps or stamps.samples.size):
            self._note = f"time of arrival instead of GNSS: {problem}"
        if fit is not None:
            off_s = (fit.start_time_unix_ns - self._arrivals.first_ns) / 1e9
            if abs(off_s) > MAX_CLOCK_DIFFERENCE_S:
                self._note = f"GNSS time and this machine's clock differ by {off_s:.1f} s"
            return RecordingClock(fit.start_time_unix_ns, fit.sample_rate_hz, "gnss", fit.residual_rms_ns)
        # The least delayed block gives the best bound. Its own delay is unknown; jitter is the only measure of it.
        block_ns = self.num_kept / self._num_blocks * 1e9 / self._nominal_rate_hz
        return RecordingClock(
            self._arrivals.earliest_ns, self._nominal_rate_hz, "arrival", self._arrivals.jitter_ns() + block_ns
        )

    def end(self) -> None:
        """Keep what has come as the whole recording, where the receiver ends the stream early."""
        self.num_wanted = self.num_kept

    def note(self) -> str | None:
        """Limits of the recording; None without any. Call after `clock`."""
        words = [] if self._note is None else [self._note]
        if self.holes:
            words.append(
                f"{self.num_lost} of {self.num_kept} samples in {len(self.holes)} holes were lost and are zeros"
            )
        if self._num_overflows:
            words.append(f"the converter was overdriven in {self._num_overflows} of {self._num_blocks} blocks")
        return "; ".join(words) or None

    def _hole(self, num_lost: int) -> Iterator[NDArray[np.complex64]]:
        if self.num_lost + num_lost > MAX_HOLE_SHARE * self.num_wanted:
            raise ReceiverError(
                self._rx_id,
                f"lost {self.num_lost + num_lost} of {self.num_wanted} samples on the way, more than "
                f"{MAX_HOLE_SHARE:.0%}",
                is_transient=True,
            )
        num_left = min(num_lost, self.num_wanted - self.num_kept)
        if num_left:
            self.holes.append((self.num_kept, num_left))
        while num_left:
            piece = np.zeros(min(num_left, _MAX_HOLE_PIECE), np.complex64)
            self.num_kept += piece.size
            num_left -= piece.size
            yield piece


class LevelReadings:
    """Mean of a receiver's own level readings in each second of the samples.

    Parameters
    ----------
    sample_rate_hz : float
        Nominal sample rate of the receiver.
    """

    def __init__(self, sample_rate_hz: float) -> None:
        self._rate_hz = sample_rate_hz
        self._sums_mw: list[float] = []
        self._counts: list[int] = []

    def add(self, sample: int, level_db: float) -> None:
        """Add the reading of the block that begins at a sample."""
        second = int(sample / self._rate_hz)
        while len(self._sums_mw) <= second:
            self._sums_mw.append(0.0)
            self._counts.append(0)
        self._sums_mw[second] += 10 ** (level_db / 10)
        self._counts[second] += 1

    def means_db(self) -> list[float | None]:
        """Mean power of each second, dB; None for a second without readings. Empty without any reading."""
        return [
            round(10 * math.log10(power / count), 2) if count and power > 0 else None
            for power, count in zip(self._sums_mw, self._counts, strict=True)
        ]


class _Arrivals:
    """Upper bound on the arrival time of sample 0, from each block; memory does not grow with their number."""

    def __init__(self) -> None:
        self.first_ns = 0
        self.earliest_ns = 0
        self._some_ns = array("q")  # each `_step`-th
        self._step = 1
        self._count = 0

    def add(self, start_ns: int) -> None:
        """Add the bound of the next block."""
        if self._count == 0:
            self.first_ns = self.earliest_ns = start_ns
        self.earliest_ns = min(self.earliest_ns, start_ns)
        if self._count % self._step == 0:
            self._some_ns.append(start_ns)
        self._count += 1
        if len(self._some_ns) == _MAX_ARRIVALS:
            self._some_ns = self._some_ns[::2]
            self._step *= 2

    def jitter_ns(self) -> float:
        """Median delay over the least delayed block."""
        return float(np.median(np.array(self._some_ns, np.int64) - self.earliest_ns))


class LiveLevels:
    """Level, SNR and offset of each second, measured as in an extraction."""

    def __init__(self, sample_rate_hz: float, bandwidth_hz: float | None, full_scale_dbm: float) -> None:
        self._rate_hz = sample_rate_hz
        usable_hz = USABLE_BAND * sample_rate_hz
        self._bandwidth_hz = min(bandwidth_hz or default_channel_bandwidth_hz(sample_rate_hz), usable_hz)
        self._full_scale_dbm = full_scale_dbm
        self._chunk_samples = round(CHUNK_NS * 1e-9 * sample_rate_hz)
        self._second = np.empty(CHUNKS_PER_SEGMENT * self._chunk_samples, np.complex64)
        self._num_filled = 0
        self._sums = dict.fromkeys(("snr_db", "rssi_dbm", "frequency_offset_hz"), 0.0)
        self._counts = dict.fromkeys(self._sums, 0)

    def add(self, iq: NDArray[np.complex64]) -> bool:
        """Add samples to the current second; True when it is complete and `measure` is due."""
        taken = iq[: self._second.size - self._num_filled]
        self._second[self._num_filled : self._num_filled + taken.size] = taken
        self._num_filled += taken.size
        return self._num_filled == self._second.size  # the rest is left out: up to a block of each second

    def measure(self) -> None:
        """Measure the collected chunks, if any, and begin the next second."""
        num_chunks, self._num_filled = self._num_filled // self._chunk_samples, 0
        if num_chunks == 0:
            return
        try:
            found = extract_features(
                self._second[: num_chunks * self._chunk_samples].reshape(num_chunks, -1),
                sample_rate_hz=self._rate_hz,
                channel_bandwidth_hz=self._bandwidth_hz,
                full_scale_dbm=self._full_scale_dbm,
            )
        except InvalidIqError:
            return  # the extraction reports what is wrong; the recording is kept
        if found.signal_present:
            features = found.summary()
            for name in self._sums:
                if (mean := features[name]["mean"]) is not None:
                    self._sums[name] += mean
                    self._counts[name] += 1

    def mean(self, feature: str) -> float | None:
        """Mean over the seconds in which a signal was present; None without any."""
        count = self._counts[feature]
        return float(f"{self._sums[feature] / count:.6g}") if count else None


def load_kernels() -> None:
    """Measure a second of artificial noise, so that no kernel has to be compiled or loaded while stations send.

    The first process of an installation compiles the kernels: seconds on an idle machine, on a busy one long enough to
    exceed the timeouts of stations.
    """
    levels = LiveLevels(_WARM_UP_RATE_HZ, None, 0.0)
    rng = np.random.Generator(np.random.SFC64(0))
    noise = rng.standard_normal(2 * round(_WARM_UP_RATE_HZ), np.float32).view(np.complex64)
    levels.add(np.complex64(1.0) + np.float32(0.01) * noise)
    levels.measure()
