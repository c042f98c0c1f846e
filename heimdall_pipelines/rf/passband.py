"""Finds the receiver's passband in its noise: the band beyond whose edges the noise density drops at all times."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from heimdall_pipelines.rf.spectrum import USABLE_BAND

MIN_SAMPLES = 8192
MAX_SAMPLES = 1 << 20
_NUM_SLICES = 16
_MIN_FRAMES_PER_SLICE = 4
_KAISER_BETA = 16.0  # side lobes below -120 dB: a carrier does not fill the stopband of a filter
_MAIN_LOBE_BINS = 6
_MIN_STEP_DB = 10.0
_ABOVE_STOPBAND_DB = 6.0
_MAX_TRANSITION = 0.06  # of the sample rate
_NOISE_ZONE = 0.06  # of the sample rate, just inside the edge: must be noise
_OUTER_ZONE = 0.02  # of the sample rate, at the end of the usable band
_MAX_SLOPE_DB = 3.0
_MAX_SPREAD_DB = 3.0
_STEEP_DB = 25.0  # a step that rises by so much within the window's main lobe: interference may then lie in the zone
_MAX_STEEP_SPREAD_DB = 20.0
_MAX_UNSTEADINESS_DB = 0.5
_MAX_SIDE_DIFFERENCE_DB = 10.0
_MIN_NOISE_VARIATION = 0.75  # 1 for Gaussian noise beside carriers, up to 0.6 for angle modulated signals
_MAX_ASYMMETRY = 0.5  # 0 for noise, 1 for the sidebands of a modulated carrier
_CARRIER_OVER_MEDIAN = 12.0


@dataclass(frozen=True)
class Passband:
    """Edges of a receiver's filter, relative to the centre frequency.

    Attributes
    ----------
    low_hz, high_hz : float
        Edges, where the noise density has dropped by half of the step (in dB); an edge beyond the usable band is the
        end of the usable band.
    step_db : float
        Smaller of the drops of the noise density at the edges that were found.
    """

    low_hz: float
    high_hz: float
    step_db: float

    @property
    def width_around_centre_hz(self) -> float:
        """Width of the band around 0 Hz that lies within the filter; 0 if the filter does not pass 0 Hz."""
        return 2 * max(0.0, min(-self.low_hz, self.high_hz))

    def __str__(self) -> str:
        return f"{self.low_hz:+.0f} to {self.high_hz:+.0f} Hz"


def detect_passband(iq: NDArray[np.complex64], *, sample_rate_hz: float) -> Passband | None:
    """Find the filter of a receiver, if it is narrower than the usable band of the sample rate.

    Parameters
    ----------
    iq : ndarray of complex64, shape (num_samples,)
        A few seconds of a recording; at most the first `MAX_SAMPLES` are used.
    sample_rate_hz : float
        Sample rate, Hz.

    Returns
    -------
    Passband or None
        None where the noise fills the usable band, where a signal covers the noise at the edges, or with fewer than
        `MIN_SAMPLES` samples.

    Notes
    -----
    Just inside the edge of a filter there is noise: flat over frequency and steady over time. The skirt of a modulated
    signal slopes, and rises and falls with its modulation. What the edges enclose must be carriers and Gaussian noise,
    by the variation of its squared magnitude and by its symmetry about the carriers. A multicarrier signal such as DRM,
    10 dB and more above the noise at both sides, cannot be told from filtered noise in this way.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> spectrum = rng.standard_normal(60_000) + 1j * rng.standard_normal(60_000)
    >>> spectrum[np.abs(np.fft.fftfreq(60_000, 1 / 12e3)) > 3_300] *= 1e-3
    >>> found = detect_passband(np.fft.ifft(spectrum).astype(np.complex64), sample_rate_hz=12e3)
    >>> abs(found.low_hz + 3_300) < 70, abs(found.high_hz - 3_300) < 70
    (True, True)
    """
    iq = iq[:MAX_SAMPLES]
    if iq.size < MIN_SAMPLES:
        return None
    num_bins = next(n for n in (512, 256, 128) if iq.size >= n * _NUM_SLICES * _MIN_FRAMES_PER_SLICE or n == 128)
    density = _density_of_slices(iq, num_bins)
    if not np.all(density > 0):  # digital silence somewhere
        density = np.maximum(density, np.finfo(np.float64).tiny)
    levels_db = 10 * np.log10(density)
    bin_hz = sample_rate_hz / num_bins
    half = num_bins // 2
    usable_bins = math.floor(USABLE_BAND / 2 * num_bins)
    usable_db = levels_db[:, half - usable_bins : half + usable_bins + 1]
    upper, lower = _edge(usable_db, num_bins), _edge(usable_db[:, ::-1], num_bins)
    if upper.is_open and lower.is_open:
        return None
    if abs(upper.inside_db - lower.inside_db) > _MAX_SIDE_DIFFERENCE_DB:
        return None
    usable_hz = USABLE_BAND / 2 * sample_rate_hz
    low_hz = -usable_hz if lower.is_open else (usable_bins - lower.bin) * bin_hz
    high_hz = usable_hz if upper.is_open else (upper.bin - usable_bins) * bin_hz
    if low_hz >= high_hz or not _holds_gaussian_noise(iq, low_hz / sample_rate_hz, high_hz / sample_rate_hz):
        return None
    return Passband(low_hz, high_hz, min(lower.step_db, upper.step_db))


@dataclass(frozen=True)
class _Edge:
    """The edge at the end of a row of bins; open where the noise reaches that end."""

    is_open: bool
    bin: float
    inside_db: float
    step_db: float


def _density_of_slices(iq: NDArray[np.complex64], num_bins: int) -> NDArray[np.float64]:
    """Mean periodogram of each slice of time, frequencies ascending from minus half the sample rate."""
    window = np.kaiser(num_bins, _KAISER_BETA)
    frames = iq[: iq.size // num_bins * num_bins].reshape(-1, num_bins)
    density = np.empty((_NUM_SLICES, num_bins))
    for row, piece in enumerate(np.array_split(frames, _NUM_SLICES)):
        spectrum = scipy.fft.fft(piece * window, axis=-1)  # double precision: single has a floor of its own
        density[row] = np.mean(spectrum.real**2 + spectrum.imag**2, axis=0)
    return np.asarray(scipy.fft.fftshift(density, axes=-1))


def _edge(levels_db: NDArray[np.float64], num_bins: int) -> _Edge:
    """Look from the end of the usable band's bins backwards for a step up to flat, steady noise."""
    smooth_db = _median_of_neighbours(np.median(levels_db, axis=0))
    outer_bins = max(3, round(_OUTER_ZONE * num_bins))
    zone_bins = max(6, round(_NOISE_ZONE * num_bins))
    transition_bins = max(6, round(_MAX_TRANSITION * num_bins))
    outside_db = float(np.median(smooth_db[-outer_bins:]))
    is_open = _Edge(True, float(levels_db.shape[1]), outside_db, math.inf)
    rises = np.flatnonzero(smooth_db > outside_db + _ABOVE_STOPBAND_DB)
    # The step must stand out over several neighbours: a carrier beyond the filter is no edge.
    rises = rises[[np.all(np.isin(rise - np.arange(4), rises)) for rise in rises.tolist()]] if rises.size else rises
    if rises.size == 0:
        return is_open
    first = int(rises[-1])
    for shift in range(transition_bins + 1):  # the steepest filters first
        zone = slice(first - shift - zone_bins, first - shift)
        if zone.start < 0:
            break
        inside_db = float(np.median(smooth_db[zone]))
        is_steep = shift <= _MAIN_LOBE_BINS and inside_db - outside_db >= _STEEP_DB
        if inside_db - outside_db < _MIN_STEP_DB or not _is_noise(smooth_db[zone], levels_db[:, zone], is_steep):
            continue
        middle_db = (inside_db + outside_db) / 2
        edge = int(np.flatnonzero(smooth_db[zone.start : first + 2] > middle_db)[-1]) + zone.start
        return _Edge(False, edge + 0.5, inside_db, inside_db - outside_db)
    return is_open


def _is_noise(smooth_db: NDArray[np.float64], levels_db: NDArray[np.float64], is_steep: bool) -> bool:
    """Whether a zone is as flat over frequency and as steady over time as noise."""
    half = smooth_db.size // 2
    slope_db = abs(float(np.mean(smooth_db[:half]) - np.mean(smooth_db[half:])))
    spread_db = float(np.ptp(np.percentile(smooth_db, [10, 90])))
    over_time_db = np.median(levels_db, axis=1)
    unsteadiness_db = 1.4826 * float(np.median(np.abs(over_time_db - np.median(over_time_db))))
    return (
        (slope_db <= _MAX_SLOPE_DB or is_steep)
        and spread_db <= (_MAX_STEEP_SPREAD_DB if is_steep else _MAX_SPREAD_DB)
        and unsteadiness_db <= _MAX_UNSTEADINESS_DB + 4.34 / math.sqrt(4 * smooth_db.size)
    )


def _median_of_neighbours(values: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(values, 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=-1))


def _holds_gaussian_noise(iq: NDArray[np.complex64], low: float, high: float) -> bool:
    """Whether what lies between two frequencies, shares of the sample rate, is carriers with Gaussian noise.

    The squared magnitude of carriers of power C with noise of power N varies by ``2 C N + N**2`` or more, that of a
    frequency or phase modulated signal by less. Noise is circular about the phase of a carrier; the sidebands of an
    amplitude modulated one are not.
    """
    num_samples = min(iq.size, 1 << 16)
    taper = np.hanning(num_samples)
    spectrum = scipy.fft.fft(iq[:num_samples] * taper)
    frequency = scipy.fft.fftfreq(num_samples)
    inside = np.flatnonzero((frequency > low) & (frequency < high))
    power = np.abs(spectrum[inside]) ** 2
    is_carrier = power > _CARRIER_OVER_MEDIAN * np.median(power)
    middle = slice(num_samples // 4, 3 * num_samples // 4)
    carriers, noise = np.zeros((2, num_samples), np.complex128)
    carriers[inside[is_carrier]] = spectrum[inside[is_carrier]]
    noise[inside[~is_carrier]] = spectrum[inside[~is_carrier]]
    carriers, noise = scipy.fft.ifft(carriers)[middle] / taper[middle], scipy.fft.ifft(noise)[middle] / taper[middle]
    carrier_power, noise_power = (float(np.mean(np.abs(part) ** 2)) for part in (carriers, noise))
    if noise_power <= 0:
        return False
    variation = float(np.var(np.abs(carriers + noise) ** 2))
    if variation < _MIN_NOISE_VARIATION * (2 * carrier_power * noise_power + noise_power**2):
        return False
    asymmetry = np.abs(np.mean((noise * carriers.conj()) ** 2))
    return bool(asymmetry <= _MAX_ASYMMETRY * np.mean(np.abs(noise * carriers) ** 2))
