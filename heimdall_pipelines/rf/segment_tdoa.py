"""Time differences between all receivers of one segment, as fast as the features of a dataset need them.

A signal comes in parts: the chunks of the features, or equal ones of a signal in one piece. What the pairs have in
common is computed once for each receiver: its delay and frequency relative to the strongest one (ambiguity function),
its samples at the same instants of the transmission, and their spectra.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ducc0
import numpy as np
from numpy.typing import ArrayLike, NDArray

from heimdall_pipelines.rf.correlation_peak import PEAK_STEP_S, peak_of, steps_of
from heimdall_pipelines.rf.cross_spectra import (
    energy_product,
    fill_blocks,
    fill_channel,
    fill_cross,
    fill_group_powers,
    fill_lag_products,
    fill_surface,
    line_share,
    planes_of,
    refined_cycles,
    window_at,
)
from heimdall_pipelines.rf.geodesy import propagation_delay_s
from heimdall_pipelines.rf.tdoa import TimeDifference, TimeGrid, modulation

DELAY_MARGIN_US = 150.0  # of clocks and echoes, beyond the longest delay that the geometry allows
NO_MODULATION = "no modulation: the correlation has no edge that tells time"
NO_PEAK = "no clear peak in the correlation"
TOO_SHORT = "the segment is too short for the delays that the geometry allows"

_BLOCK_S = 0.0256  # of the spectra: long compared with the delays that remain, short compared with the fading
_COARSE_BLOCK_S = 0.00128  # frequencies may differ by up to half its inverse, 390 Hz
_GROUP_HZ = 160.0  # of the cross spectra: turns by less than a tenth over the delays that are searched
_MOST_STEPS = 75  # of that search in either direction, around the delay that aligns the receivers
_USUAL_PARTS = 5
_MISALIGNED_S, _MISALIGNED_STD = 0.3e-6, 20.0  # at least, and over the bound, for a receiver to be aligned anew
_CLEARLY_COHERENT = 0.1  # squared correlation of two parts of 190 ms; of noise below 0.02
_MIN_PEAK_OVER_NOISE = 9.0  # normalised correlation times the root of the number of independent samples; of noise 5.5
_MAX_STD_US = 100.0
_MOST_IN_LINE = 0.9  # of the signal's power, from which the strongest line is all that there is
_MAX_AMBIGUITY = 0.93  # of the second peak, from which the greatest may be the wrong one


@dataclass(frozen=True, eq=False)
class _Plan:
    """Sizes of the blocks of one shape of signal, and what depends on them alone.

    Attributes
    ----------
    block, num_blocks : int
        Samples of a block, and blocks of a part: they cover what all receivers have of it.
    efficiency : float
        Share of a block's energy that the window keeps.
    bins_per_group, num_groups : int
        The channel is so many bins around 0 Hz.
    group_width_hz : float
    """

    block: int
    num_blocks: int
    efficiency: float
    bins_per_group: int
    num_groups: int
    group_width_hz: float


def largest_delays_s(latitudes: ArrayLike, longitudes: ArrayLike, altitudes_m: ArrayLike) -> NDArray[np.float64]:
    """Largest time difference of each pair of receivers: light's time between them, and a margin of 150 us.

    Parameters
    ----------
    latitudes, longitudes, altitudes_m : array_like of float, shape (num_receivers,)
        Degrees, and m above the ellipsoid.

    Returns
    -------
    ndarray of float64, shape (num_receivers, num_receivers)
        Seconds.
    """
    lat, lon, alt_m = (np.asarray(values, np.float64) for values in (latitudes, longitudes, altitudes_m))
    apart_s = propagation_delay_s(lat[:, None], lon[:, None], alt_m[:, None], lat[None], lon[None], alt_m[None])
    return apart_s + DELAY_MARGIN_US * 1e-6


def differences_on_grid(
    signals: Sequence[NDArray[np.complex64]],
    grid: TimeGrid,
    *,
    max_delays_s: NDArray[np.float64],
    reference: int,
    frequencies_hz: Sequence[float] | None = None,
) -> list[TimeDifference]:
    """Measure the time difference of each pair of receivers from their channels on one time grid.

    Parameters
    ----------
    signals : sequence of ndarray of complex64, shape (grid.num_samples,)
        From `tdoa.signal_on_grid`.
    grid : TimeGrid
    max_delays_s, reference, frequencies_hz
        As of `segment_time_differences`; the frequencies have no effect where there is a carrier.

    Returns
    -------
    list of TimeDifference
        Of the pairs (0, 1), (0, 2), ..., (1, 2), ..., in this order.
    """
    # All alike: what one receiver has as a carrier's phase cannot be compared with another's amplitude.
    strongest = modulation(signals[reference], grid)
    alike = [
        strongest if index == reference else modulation(signal, grid, has_carrier=strongest.is_real)
        for index, signal in enumerate(signals)
    ]
    size = grid.num_samples // _USUAL_PARTS
    return segment_time_differences(
        [one.samples[: _USUAL_PARTS * size].reshape(_USUAL_PARTS, size) for one in alike],
        rate_hz=grid.rate_hz,
        bandwidth_hz=grid.bandwidth_hz,
        max_delays_s=max_delays_s,
        reference=reference,
        frequencies_hz=None if strongest.is_real else frequencies_hz,
        is_real=strongest.is_real,
    )


def segment_time_differences(
    signals: Sequence[NDArray[np.complex64]],
    *,
    rate_hz: float,
    bandwidth_hz: float,
    max_delays_s: NDArray[np.float64],
    reference: int,
    frequencies_hz: Sequence[float] | None = None,
    is_real: bool = False,
) -> list[TimeDifference]:
    """Measure the time difference of each pair of receivers of one segment.

    Parameters
    ----------
    signals : sequence of ndarray of complex64, shape (num_parts, num_samples)
        Channel of each receiver on one time grid: successive parts without gaps in themselves, at the same times for
        all receivers.
    rate_hz, bandwidth_hz : float
        Of the signals, and of the channel around 0 Hz.
    max_delays_s : ndarray of float64, shape (num_receivers, num_receivers)
        Largest time difference that geometry and clocks allow.
    reference : int
        The strongest receiver, to which the others are aligned.
    frequencies_hz : sequence of float, optional
        Of each receiver, to within 300 Hz of one another; not the carriers' own, but what they differ by counts.
    is_real : bool, optional
        Whether the signals are a carrier's phase (see `tdoa.modulation`), which has neither phase nor frequency.

    Returns
    -------
    list of TimeDifference
        Of the pairs (0, 1), (0, 2), ..., (1, 2), ..., in this order.

    Notes
    -----
    Each receiver is aligned to the reference by the greatest value of the ambiguity function, summed over the parts
    (Stein, IEEE Trans. ASSP-29, 1981), to a fraction of a sample. Cross spectra of blocks of about 25.6 ms, which cover
    what all receivers have of a part but for a millisecond at their ends, and whose common
    phase is smoothed over five, are added up; the delay is the maximum of ``|sum S exp(2j pi f tau)|``. ``std_us`` is
    the larger of the scatter of the parts and ``1 / sqrt(2 T sum w (2 pi)^2 (f - fc)^2 df)``, the bound for the
    squared coherence c with ``w = c / (1 - c)`` (Carter, Proc. IEEE 75, 1987).
    """
    num = len(signals)
    pairs = [(a, b) for a in range(num) for b in range(a + 1, num)]
    if num < 2:
        return []
    num_parts, size = signals[0].shape
    wanted = min(round(_BLOCK_S * rate_hz), int(0.8 * size))
    decimation = max(1, math.floor(rate_hz / bandwidth_hz * 1.001))
    cycles = np.zeros(num)  # per sample, relative to the reference
    if frequencies_hz is not None:
        cycles += (np.asarray(frequencies_hz) - frequencies_hz[reference]) / rate_hz
    lags = np.zeros(num)
    anchors = [planes_of(signals[reference][parts], decimation, 0.0) for parts in _parts_to_search(num_parts)[:1]]
    for index in range(num):
        if index != reference:
            reach = math.ceil(max_delays_s[reference, index] * rate_hz) + 1
            if reach > (size - wanted) // 2:
                return [TimeDifference(a, b, None, None, 0.0, None, TOO_SHORT) for a, b in pairs]
            for number, parts in enumerate(_parts_to_search(num_parts)):
                if number == len(anchors):
                    anchors.append(planes_of(signals[reference][parts], decimation, 0.0))
                lags[index], further, coherence = _alignment(
                    anchors[number],
                    planes_of(signals[index][parts], decimation, float(-cycles[index])),
                    decimation,
                    max(4, round(_COARSE_BLOCK_S * rate_hz / decimation)),
                    reach,
                    is_real=is_real,
                )
                if coherence > _CLEARLY_COHERENT:
                    break
            cycles[index] += further
    whole = np.floor(lags + 0.5).astype(np.int64)
    first = max(0, int(-whole.min()))
    span = size - max(0, int(whole.max())) - first
    if span < max(wanted // 2, 8):
        return [TimeDifference(a, b, None, None, 0.0, None, TOO_SHORT) for a, b in pairs]
    plan = _plan(span, wanted, float(rate_hz), float(bandwidth_hz))
    num_rows = num_parts * plan.num_blocks
    spectra = np.empty((num, num_rows, 2, plan.bins_per_group, plan.num_groups), np.float32)
    blocks = np.empty((num_rows, plan.block), np.complex64)

    def fill_spectra(index: int) -> None:
        begin = math.floor(lags[index] + 0.5)
        fraction, turns = float(lags[index] - begin), float(-cycles[index])
        fill_blocks(blocks, signals[index], first + begin, fraction, plan.num_blocks, turns)
        ducc0.fft.c2c(blocks, axes=(1,), out=blocks, nthreads=1)
        fill_channel(spectra[index], blocks, fraction / plan.block, plan.num_blocks, turns * plan.block)

    for index in range(num):
        fill_spectra(index)
    if not is_real and line_share(spectra[reference]) > _MOST_IN_LINE:
        return [TimeDifference(a, b, None, None, 0.0, None, NO_MODULATION) for a, b in pairs]
    num_groups = plan.num_groups
    powers = np.empty((num, num_groups))
    group_hz = np.empty(num_groups)
    for index in (*range(reference), *range(reference + 1, num), reference):  # of the last the frequencies stay
        fill_group_powers(powers[index], group_hz, spectra[index])
    group_hz *= rate_hz / plan.block
    steps = steps_of(group_hz, _MOST_STEPS)
    cross = np.empty((num_parts, num_groups), np.complex128)
    grouped = np.empty((num_rows, 2, num_groups), np.float32)
    duration_s = num_rows * plan.block * plan.efficiency / rate_hz

    def peak(a: int, b: int) -> _Peak:
        fill_cross(cross, grouped, spectra[a], spectra[b], is_real)
        low, high = _steps_between(float(max_delays_s[a, b]), float(lags[b] - lags[a]) / rate_hz)
        num_independent = max(num_rows * plan.bins_per_group * plan.efficiency, 2.0)
        return _Peak(
            *peak_of(
                cross,
                powers[a] * powers[b],
                group_hz,
                steps,
                plan.group_width_hz,
                num_rows,
                num_independent,
                duration_s,
                low,
                high,
                is_real,
            )
        )

    # Windows that lie at other instants of the transmission make errors: what the search for the alignment has missed
    # is made good where it counts beside the noise.
    for index in range(num):
        if index != reference:
            of = peak(reference, index)
            lag = lags[index] + of.delay_s * rate_hz
            begin = first + math.floor(lag + 0.5)
            fits = begin >= 0 and begin + plan.num_blocks * plan.block <= size
            if fits and not of.at_edge and abs(of.delay_s) > max(_MISALIGNED_S, _MISALIGNED_STD * of.bound_s):
                lags[index] = lag
                fill_spectra(index)
                fill_group_powers(powers[index], np.empty(num_groups), spectra[index])
    found = []
    for a, b in pairs:
        offset_s = float(lags[b] - lags[a]) / rate_hz
        found.append(
            _difference(
                a, b, peak(a, b), offset_s, float(max_delays_s[a, b]), duration_s * num_groups * plan.group_width_hz
            )
        )
    return found


@functools.lru_cache(maxsize=64)
def _plan(span: int, wanted: int, rate_hz: float, bandwidth_hz: float) -> _Plan:
    """Blocks of about the wanted length that leave out as little as possible of so many samples."""
    num_blocks = max(1, round(span / wanted))
    block = span // num_blocks
    while block > 8 and ducc0.fft.good_size(block) != block:
        block -= 1
    bin_hz = rate_hz / block
    bins_per_group = max(1, round(_GROUP_HZ / bin_hz))
    half_bins = max(bins_per_group, int(bandwidth_hz / 2 / bin_hz))
    return _Plan(
        block=block,
        num_blocks=num_blocks,
        efficiency=float(np.mean([window_at(n, block) ** 2 for n in range(block)])),
        bins_per_group=bins_per_group,
        num_groups=(2 * half_bins + 1) // bins_per_group,
        group_width_hz=bins_per_group * bin_hz,
    )


def _parts_to_search(num_parts: int) -> tuple[slice, ...]:
    """Parts in which the alignment is searched: in two, and in all where that is not clear."""
    whole = slice(0, num_parts)
    return (slice(1, num_parts, 2), whole) if num_parts == _USUAL_PARTS else (whole,)


def _alignment(
    reference: NDArray[np.float32],
    other: NDArray[np.float32],
    decimation: int,
    coarse_block: int,
    reach: int,
    *,
    is_real: bool,
) -> tuple[float, float, float]:
    """Delay in samples and frequency in cycles a sample at which the two are most alike, and how alike they are."""
    _, num_parts, size = reference.shape
    reach = -(-reach // decimation)
    num_blocks = (size - 2 * reach) // coarse_block
    if num_blocks < 2:
        return 0.0, 0.0, 0.0
    num_frequencies = int(ducc0.fft.good_size(2 * num_blocks))
    products = np.zeros((num_parts, 2 * reach + 1, num_frequencies), np.complex64)
    fill_lag_products(products, reference, other, reach, coarse_block, num_blocks)
    if is_real:
        heights = np.abs(products.sum(axis=(0, 2), dtype=np.complex128)) ** 2
        best = int(np.argmax(heights))
        return decimation * (best - reach + _vertex(heights, best)), 0.0, 0.0
    transformed = ducc0.fft.c2c(products, axes=(2,), nthreads=1)
    surface = np.empty((2 * reach + 1, num_frequencies), np.float32)
    lag, row = divmod(fill_surface(surface, transformed), num_frequencies)
    fraction = _vertex(surface[:, row].astype(np.float64), lag)
    cycles = refined_cycles(products, lag, fraction, row / num_frequencies, num_blocks)
    delay = decimation * (lag - reach + fraction)
    coherence = float(surface[lag, row]) / max(energy_product(reference, other), 1e-30)
    return delay, cycles / (coarse_block * decimation), coherence


def _vertex(values: NDArray[np.float64], at: int) -> float:
    """Where the parabola through the logarithms of a value and its neighbours is greatest, relative to the value."""
    if not 0 < at < values.size - 1:
        return 0.0
    with np.errstate(divide="ignore"):
        left, middle, right = np.log(values[at - 1 : at + 2])
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if -np.inf < bend < 0 else 0.0


class _Peak(NamedTuple):
    """What `peak_of` finds."""

    delay_s: float
    height: float
    second: float
    bound_s: float
    scatter_s: float
    at_edge: bool


def _steps_between(max_delay_s: float, offset_s: float) -> tuple[int, int]:
    """First and last step of the search for the peak, around the delay that aligns the receivers."""
    low = max(math.ceil((-max_delay_s - offset_s) / PEAK_STEP_S), -_MOST_STEPS)
    high = min(math.floor((max_delay_s - offset_s) / PEAK_STEP_S), _MOST_STEPS)
    return (low, high) if high - low >= 2 else (-1, 1)


def _difference(a: int, b: int, peak: _Peak, offset_s: float, max_delay_s: float, num_samples: float) -> TimeDifference:
    """Time difference from the peak, of so many independent samples."""
    total_s = offset_s + peak.delay_s

    def unknown(reason: str) -> TimeDifference:
        return TimeDifference(a, b, None, None, peak.height, peak.second, reason)

    if not peak.height > 0:
        return unknown(NO_MODULATION)
    if peak.height < _MIN_PEAK_OVER_NOISE / math.sqrt(num_samples):
        return unknown(NO_PEAK)
    if peak.at_edge or abs(total_s) > max_delay_s:
        return unknown(f"the peak is at the edge of what geometry allows, {max_delay_s * 1e6:.0f} us, or beyond")
    std_s = max(peak.scatter_s, peak.bound_s)
    if not std_s * 1e6 <= _MAX_STD_US:
        return unknown(NO_MODULATION)
    if peak.second > _MAX_AMBIGUITY:
        return unknown(
            f"the second peak of the correlation is {peak.second:.2f} of the first: either may be the right one"
        )
    return TimeDifference(a, b, total_s * 1e6, std_s * 1e6, peak.height, peak.second)
