"""Measures the features of a receiver's samples of one transmission; `feature_registry` defines them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES, STATISTICS
from heimdall_pipelines.rf.modulation_features import SignalMoments, signal_moments
from heimdall_pipelines.rf.noise import noise_power
from heimdall_pipelines.rf.philox import compiled
from heimdall_pipelines.rf.spectrum import (
    USABLE_BAND,
    SignalSpectrum,
    plan_spectrum,
    reduced_spectra,
    signal_spectrum,
)

MIN_SAMPLE_RATE_HZ = 8e3
MAX_SAMPLE_RATE_HZ = 2.4e6
MIN_CHUNK_S = 0.020  # four periodogram bins in each averaged one, enough for the noise floor
MIN_CHANNEL_BINS = 50  # enough for sums over the channel to be nearly Gaussian
MAX_CHUNK_ENERGY = 1e32  # sum of squared magnitudes; float32 overflows at 3e38

DETECTION_THRESHOLD = 5.0
_PHASE_FOLLOWS_DB = 7.0
_STRONG_DB = 10.0  # carrier-to-noise ratio from which bandwidth and delay spread can be observed
_MOSTLY_HEARD = 0.1  # greatest share of faint samples: gaps of keyed carriers exceed it, fades of strong signals do not
_OCCUPIED_OUTSIDE = 0.005  # beta/2 of the 99 % bandwidth of ITU-R SM.443
_ROLLOFF_SHARE = 0.85
_SHARES = (_OCCUPIED_OUTSIDE, _ROLLOFF_SHARE, 1 - _OCCUPIED_OUTSIDE)
_SIGNIFICANT_DIGITS = 6
_POWERS_OF_TEN = np.array([float(10**exponent) for exponent in range(23)])  # all that are exact
_UNOBSERVED = (None,) * len(STATISTICS)
_NARROW_FREE_BAND_HZ = 5e3  # 25 averaged bins
_CERTAIN = 0.5  # confidence in the delay spread from which a coherence bandwidth is given
# A chunk's features by name. The compiled code is kept on disk for a record of these names in this order, no other.
_CHUNK = np.dtype([(name, np.float64) for name in FEATURE_NAMES])


class InvalidIqError(HeimdallError, ValueError):
    """The samples or their parameters are invalid."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"Invalid IQ data format: {problem}")


@dataclass(frozen=True)
class SegmentFeatures:
    """Features of the chunks of one segment at one receiver; result of `extract_features`.

    Attributes
    ----------
    signal_present : bool
        Whether the chunks together hold a signal in the channel.
    chunks : dict of str to ndarray of float64, shape (num_chunks,)
        Each feature by its name, in the order of `FEATURE_NAMES`; NaN where it cannot be observed.
    detection_statistic : ndarray of float64, shape (num_chunks,)
        Signal power relative to its standard deviation in pure noise.
    flags : tuple of str
        Limits of the values, for people to read.
    channel_signal : ndarray of complex64, shape (num_chunks, num_samples)
        The signal in the channel, without the ends of each chunk that the window tapers: equal parts of each chunk.
    channel_rate_hz : float
        Its sample rate.
    """

    signal_present: bool
    chunks: dict[str, NDArray[np.float64]]
    detection_statistic: NDArray[np.float64]
    flags: tuple[str, ...]
    channel_signal: NDArray[np.complex64]
    channel_rate_hz: float

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Reduce each feature to its statistics over the chunks in which it was observed.

        Returns
        -------
        dict
            ``{feature: {"mean", "std", "min", "max"}}``, rounded to 6 significant digits; all None if it was
            observed in no chunk. The standard deviation is that of the chunks themselves (divided by their number).
        """
        statistics = np.empty((len(self.chunks), len(STATISTICS)))
        _fill_statistics(statistics, np.array(list(self.chunks.values()), np.float64))
        _round(statistics)
        return {
            name: dict(zip(STATISTICS, _UNOBSERVED if math.isnan(values[0]) else values, strict=True))
            for name, values in zip(self.chunks, statistics.tolist(), strict=True)
        }


def default_channel_bandwidth_hz(sample_rate_hz: float) -> float:
    """Default bandwidth of the channel: 12.5 kHz, or the usable band of the sample rate.

    Parameters
    ----------
    sample_rate_hz : float
        Sample rate, Hz.

    Examples
    --------
    >>> default_channel_bandwidth_hz(200e3), default_channel_bandwidth_hz(12e3)
    (12500.0, 9600.0)
    """
    return min(12_500.0, USABLE_BAND * sample_rate_hz)


def extract_features(
    iq: NDArray[np.complex64],
    *,
    sample_rate_hz: float,
    channel_bandwidth_hz: float | None = None,
    usable_bandwidth_hz: float | None = None,
    full_scale_dbm: float = 30.0,
) -> SegmentFeatures:
    """Measure the signal in the channel around 0 Hz, chunk by chunk.

    Parameters
    ----------
    iq : ndarray of complex64, shape (num_chunks, samples_per_chunk)
        Samples of one receiver; chunks of 20 ms or more, normally 200 ms.
    sample_rate_hz : float
        fs, 8 kHz to 2.4 MHz.
    channel_bandwidth_hz : float, optional
        B, at most the usable bandwidth; `default_channel_bandwidth_hz` if None.
    usable_bandwidth_hz : float, optional
        Flat part of the receiver's filters around 0 Hz, at most 0.8 fs, the default: a receiver with a narrower filter
        has no noise beyond it, and the residue there must not be taken for its noise floor. F, the band that is
        received, is this where it is narrower than 0.8 fs, else fs.
    full_scale_dbm : float, optional
        Power of ``abs(x) = 1``; 30 where samples are in square roots of watts.

    Returns
    -------
    SegmentFeatures

    Raises
    ------
    InvalidIqError
        Wrong type or shape, no samples, NaN or infinite samples, samples too large for single precision, or a sample
        rate, channel or chunk length out of range.

    Notes
    -----
    Per chunk of T seconds, with N0 the noise density (see `noise_power`) and S the power in the channel less N0 B. All
    powers are summed in float64 and nothing is ever added to one before its logarithm is taken. z is the signal in the
    channel at about 2 B samples per second, without the 2.5 % at either end that the spectrum's window tapers. "Carrier
    to noise" is S / (N0 B).

    `feature_registry.FEATURES` defines each feature in these terms; null there is NaN here. D is the detection
    statistic, S / (N0 sqrt(B / T)): in chunks where it is below 5, frequencies and delays cannot be observed. A signal
    is present where sum(D) / sqrt(num_chunks) is 5 or more. On noise alone this has mean 0 and standard deviation 1,
    with the upper tail of a gamma distribution of shape num_chunks B T: under one false alarm in a million segments for
    a channel of 12.5 kHz and one chunk of 200 ms, one in 50,000 at the least B T of 50. Where the channel is the whole
    usable band (12 kHz) N0 comes from the same bins, the standard deviation is 0.15, without outliers; but then a
    signal that fills most of the band lifts N0: 5.9 kHz of voice over FM by 0.8, 0.9, 2.7 and 18 dB at 0, 10, 20 and
    40 dB SNR, while S is 0.8, 0.1, 0.03 and 0.03 dB too low. From 10 dB on that is flagged.

    Examples
    --------
    A carrier of -50 dBm, 1 kHz above the middle of the channel, in noise of -67 dBm:

    >>> rng = np.random.default_rng(1)
    >>> carrier = 1e-4 * np.exp(2j * np.pi * 1e3 * np.arange(40_000) / 200e3)
    >>> noise = 1e-5 * (rng.standard_normal((5, 40_000)) + 1j * rng.standard_normal((5, 40_000)))
    >>> found = extract_features((carrier + noise).astype(np.complex64), sample_rate_hz=200e3)
    >>> mean = {name: statistics["mean"] for name, statistics in found.summary().items()}
    >>> round(mean["rssi_dbm"], 1), round(mean["noise_floor_dbm"]), round(mean["frequency_offset_hz"], 1)
    (-50.0, -67, 1000.0)
    """
    usable_hz = USABLE_BAND * sample_rate_hz if usable_bandwidth_hz is None else usable_bandwidth_hz
    bandwidth_hz = (
        min(default_channel_bandwidth_hz(sample_rate_hz), usable_hz)
        if channel_bandwidth_hz is None
        else channel_bandwidth_hz
    )
    _check(iq, sample_rate_hz, bandwidth_hz, usable_hz, full_scale_dbm)

    plan = plan_spectrum(iq.shape[1], float(sample_rate_hz), float(bandwidth_hz), float(usable_hz))
    spectra = reduced_spectra(plan, iq)
    if not np.all(spectra.energy <= MAX_CHUNK_ENERGY):  # true for NaN too
        raise _unmeasurable(iq)
    bin_noise, num_noise_groups = noise_power(spectra.grouped_power, plan.effective_averages)
    bin_noise[bin_noise == 0] = np.nan  # digital silence has no levels
    spectrum = signal_spectrum(plan, spectra.bin_power, bin_noise, _SHARES)
    moments = signal_moments(plan, spectra.channel_signal, bin_noise * plan.num_channel_bins)
    found = np.full(len(iq), np.nan, _CHUNK)
    detection_statistic = np.empty(len(iq))
    limited = np.zeros(4, np.int64)
    _fill_features(
        found,
        detection_statistic,
        limited,
        bin_noise,
        num_noise_groups * plan.group_bandwidth_hz,
        spectrum,
        moments,
        _num_received_bins(plan.num_samples, sample_rate_hz, usable_hz),
        plan.num_channel_bins,
        plan.bin_hz,
        float(full_scale_dbm),
    )
    chunks = {name: found[name] for name in FEATURE_NAMES}
    return SegmentFeatures(
        signal_present=bool(detection_statistic.sum() >= DETECTION_THRESHOLD * math.sqrt(len(iq))),
        chunks=chunks,
        detection_statistic=detection_statistic,
        flags=tuple(_flags(limited.tolist(), len(iq))),
        channel_signal=spectra.channel_signal[:, plan.num_trimmed : plan.num_baseband - plan.num_trimmed],
        channel_rate_hz=plan.baseband_rate_hz,
    )


def _num_received_bins(num_samples: int, sample_rate_hz: float, usable_hz: float) -> float:
    """Bins of the spectrum that a receiver's noise is in: all, unless its filter is narrower than the usable band."""
    return num_samples * usable_hz / sample_rate_hz if usable_hz < USABLE_BAND * sample_rate_hz else float(num_samples)


@compiled
def _fill_features(
    found: NDArray[np.void],
    detection_statistic: NDArray[np.float64],
    limited: NDArray[np.int64],
    bin_noise: NDArray[np.float64],
    free_band_hz: NDArray[np.floating],
    spectrum: SignalSpectrum,
    moments: SignalMoments,
    num_received_bins: float,
    num_channel_bins: int,
    bin_hz: float,
    full_scale_dbm: float,
) -> None:
    """Write the features and the detection statistic of each chunk, and count the chunks that `_flags` speaks of."""
    lower_hz, rolloff_hz, upper_hz = spectrum.quantiles_hz
    square_root_w = 10 ** ((full_scale_dbm - 30) / 20)
    for chunk in range(bin_noise.size):
        is_audible = bin_noise[chunk] > 0
        signal, noise = spectrum.power[chunk], bin_noise[chunk] * num_channel_bins
        signal_db, noise_in_band_db = _db(signal), _db(bin_noise[chunk] * num_received_bins)
        carrier_to_noise_db = signal_db - _db(noise)
        statistic = signal / (noise / math.sqrt(num_channel_bins)) if is_audible else 0.0
        is_detected = statistic >= DETECTION_THRESHOLD
        is_strong = is_detected and carrier_to_noise_db >= _STRONG_DB

        is_heard = moments.faint_share[chunk] <= _MOSTLY_HEARD
        phase_follows = is_heard and carrier_to_noise_db >= _PHASE_FOLLOWS_DB
        frequency_hz = moments.mean_frequency_hz[chunk] if phase_follows else spectrum.circular_mean_hz[chunk]
        spread_us = abs(moments.slope_us[chunk]) if is_strong else np.nan
        error_us = moments.slope_error_us[chunk]
        certainty = 1 / (1 + error_us * error_us) if spread_us >= 0 else 0.0
        is_certain = certainty >= _CERTAIN and spread_us > 2 * error_us
        envelope_unit = square_root_w if is_audible else np.nan
        chunk_found = found[chunk]
        chunk_found["rssi_dbm"] = signal_db + full_scale_dbm
        chunk_found["snr_db"] = signal_db - noise_in_band_db
        chunk_found["noise_floor_dbm"] = noise_in_band_db + full_scale_dbm
        chunk_found["frequency_offset_hz"] = frequency_hz if is_detected else np.nan
        chunk_found["bandwidth_hz"] = upper_hz[chunk] - lower_hz[chunk] if is_strong else np.nan
        chunk_found["psd_dbm_per_hz"] = _db((signal + noise) / (num_channel_bins * bin_hz)) + full_scale_dbm
        chunk_found["spectral_centroid_hz"] = spectrum.mean_hz[chunk] if is_detected else np.nan
        chunk_found["spectral_rolloff_hz"] = rolloff_hz[chunk] if is_detected else np.nan
        chunk_found["envelope_mean"] = moments.envelope_mean[chunk] * envelope_unit
        chunk_found["envelope_std"] = moments.envelope_std[chunk] * envelope_unit
        chunk_found["envelope_max"] = moments.envelope_max[chunk] * envelope_unit
        chunk_found["peak_to_avg_ratio_db"] = _db(moments.crest[chunk])
        chunk_found["zero_crossing_rate"] = moments.sign_changes[chunk] if is_audible else np.nan
        chunk_found["multipath_delay_spread_us"] = spread_us
        chunk_found["coherence_bandwidth_khz"] = 200 / spread_us if is_certain else np.nan  # 1 / (5 us) = 200 kHz
        chunk_found["delay_spread_confidence"] = certainty
        chunk_found["confidence_score"] = signal / (signal + noise) if is_detected else 0.0
        chunk_found["cn0_dbhz"] = signal_db - _db(bin_noise[chunk] / bin_hz)
        detection_statistic[chunk] = statistic
        limited[0] += not is_audible
        limited[1] += is_audible and free_band_hz[chunk] < _NARROW_FREE_BAND_HZ
        limited[2] += is_detected and np.isnan(chunk_found["bandwidth_hz"])
        limited[3] += is_detected and np.isnan(spread_us)


@compiled
def _db(power: float) -> float:
    """Decibels; NaN where the power is not positive."""
    return 10 * math.log10(power) if power > 0 else np.nan


def _flags(limited: list[int], num_chunks: int) -> Iterator[str]:
    """Say what limits the values of a segment, from how many chunks each limit applies to."""
    num_silent, num_narrow, num_without_bandwidth, num_without_spread = limited
    if num_silent:
        yield f"{num_silent} of {num_chunks} chunks are digital silence"
    if num_narrow:
        yield f"noise_floor_dbm from less than {_NARROW_FREE_BAND_HZ / 1e3:.0f} kHz of free band: may be too high"
    if num_without_bandwidth:
        yield f"bandwidth_hz not valid below {_STRONG_DB:.0f} dB carrier-to-noise ratio"
    if num_without_spread:
        yield "multipath_delay_spread_us not observable: carrier too weak or not frequency modulated"


@compiled
def _fill_statistics(statistics: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Write mean, standard deviation, minimum and maximum of each row's finite values; NaN where it has none."""
    for row in range(len(values)):
        count, total, square, lowest, highest = 0, 0.0, 0.0, np.inf, -np.inf
        for value in values[row]:
            if np.isfinite(value):
                count += 1
                total += value
                lowest, highest = min(lowest, value), max(highest, value)
        mean = total / count
        for value in values[row]:
            if np.isfinite(value):
                square += (value - mean) * (value - mean)
        statistics[row, 0], statistics[row, 1] = mean, np.sqrt(square / count)
        statistics[row, 2], statistics[row, 3] = (lowest, highest) if count else (np.nan, np.nan)


@compiled
def _round(values: NDArray[np.float64]) -> None:
    """Round finite numbers to significant digits: to what their decimal text is read as.

    A whole number times or over an exact power of ten is rounded once. Numbers below 1e-17 stay as they are.
    """
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value = values[row, column]
            if not (np.isfinite(value) and value != 0.0):
                continue
            shift = _SIGNIFICANT_DIGITS - 1 - int(np.floor(np.log10(abs(value))))
            if 0 <= shift < _POWERS_OF_TEN.size:
                values[row, column] = np.rint(value * _POWERS_OF_TEN[shift]) / _POWERS_OF_TEN[shift]
            elif -_POWERS_OF_TEN.size < shift < 0:
                values[row, column] = np.rint(value / _POWERS_OF_TEN[-shift]) * _POWERS_OF_TEN[-shift]


def _check(
    iq: NDArray[np.complex64], sample_rate_hz: float, bandwidth_hz: float, usable_hz: float, full_scale_dbm: float
) -> None:
    """Check the arguments.

    Raises
    ------
    InvalidIqError
        With what is wrong and where.
    """
    if not isinstance(iq, np.ndarray) or iq.dtype != np.complex64:
        raise InvalidIqError(f"a numpy array of complex64 is needed, not {getattr(iq, 'dtype', type(iq).__name__)}")
    if iq.ndim != 2 or iq.size == 0:
        raise InvalidIqError(f"the shape must be (num_chunks, samples_per_chunk), none of them 0; it is {iq.shape}")
    if not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:  # false for NaN too
        raise InvalidIqError(f"the sample rate must lie within 8 kHz and 2.4 MHz, not be {sample_rate_hz} Hz")
    if not math.isfinite(full_scale_dbm):
        raise InvalidIqError(f"full_scale_dbm must be finite, not {full_scale_dbm}")
    duration_s = iq.shape[1] / sample_rate_hz
    if duration_s < MIN_CHUNK_S:
        raise InvalidIqError(f"a chunk must last {MIN_CHUNK_S * 1e3:.0f} ms, not {duration_s * 1e3:.6g} ms")
    if not usable_hz <= USABLE_BAND * sample_rate_hz * (1 + 1e-12):
        raise InvalidIqError(
            f"the usable band must be at most {USABLE_BAND * sample_rate_hz:.6g} Hz ({USABLE_BAND} times the "
            f"sample rate) wide, not {usable_hz} Hz"
        )
    if not MIN_CHANNEL_BINS / duration_s <= bandwidth_hz <= usable_hz * (1 + 1e-12):
        raise InvalidIqError(
            f"the channel must be between {MIN_CHANNEL_BINS / duration_s:.6g} Hz ({MIN_CHANNEL_BINS} over the chunk's "
            f"duration) and {usable_hz:.6g} Hz (the usable band) wide, not {bandwidth_hz} Hz"
        )


def _unmeasurable(iq: NDArray[np.complex64]) -> InvalidIqError:
    """Describe what is wrong with samples whose energy is too great or not finite, and where."""
    bad = np.argwhere(~np.isfinite(iq))
    if bad.size == 0:
        return InvalidIqError(f"samples of {np.abs(iq).max():.3g} are too large for single precision: scale them down")
    chunk, sample = bad[0]
    return InvalidIqError(
        f"sample {sample} of chunk {chunk} is {iq[chunk, sample]}; not finite in total: {len(bad)} of {iq.size}"
    )
