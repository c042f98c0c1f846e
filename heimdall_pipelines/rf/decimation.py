"""Decimates a wide recording to a channel around its centre, block by block."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import ducc0
import numpy as np
from numpy.typing import NDArray

STOPBAND_DB = 80.0
_PASS, _STOP = 0.4, 0.6  # of the new rate: what aliases falls beyond the usable band, abs(f) < 0.4
_MIN_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Decimator:
    """A low-pass filter and the factor by which the rate falls.

    Attributes
    ----------
    factor : int
        Old rate over new rate.
    num_taps : int
        Length of the filter, a whole even number of output samples plus 1: linear phase, its delay is exact.
    """

    factor: int
    num_taps: int
    _num_input: int
    _response: NDArray[np.complex64]

    @property
    def lead(self) -> int:
        """Input samples before the one that the first output sample stands for."""
        return (self.num_taps - 1) // 2

    def num_output(self, num_input: int) -> int:
        """Number of output samples of so many input samples: those whose filter lies wholly within the input."""
        return max(0, (num_input - self.num_taps) // self.factor + 1)

    def output(self, blocks: Iterable[NDArray[np.complex64]]) -> Iterator[NDArray[np.complex64]]:
        """Decimate successive blocks of a signal.

        Yields
        ------
        ndarray of complex64, shape (n,)
            Together `num_output` samples; the gain in the passband is 1.

        Notes
        -----
        Overlap-save (Oppenheim and Schafer, Discrete-Time Signal Processing, section 8.7.3); the spectrum is folded to
        the new rate before it is transformed back.
        """
        overlap = self.num_taps - 1
        hop = self._num_input - overlap
        pending = np.zeros(0, np.complex64)
        for block in blocks:
            pending = np.concatenate([pending, block]) if pending.size else block
            while pending.size >= self._num_input:
                yield self._filtered(pending[: self._num_input])
                pending = pending[hop:]
        rest = self.num_output(pending.size)
        if rest:
            padded = np.zeros(self._num_input, np.complex64)
            padded[: pending.size] = pending
            yield self._filtered(padded)[:rest]

    def _filtered(self, samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
        spectrum = ducc0.fft.c2c(np.ascontiguousarray(samples), nthreads=1)
        spectrum *= self._response
        folded = spectrum.reshape(self.factor, -1).sum(axis=0)
        signal = ducc0.fft.c2c(folded, forward=False, nthreads=1)
        return np.asarray(signal[(self.num_taps - 1) // self.factor :], np.complex64)


def plan_decimator(sample_rate_hz: float, channel_hz: float) -> Decimator | None:
    """Plan the decimation of a recording to the lowest rate of at least the channel's width.

    Parameters
    ----------
    sample_rate_hz, channel_hz : float
        Rate of the recording; width of the channel around its centre.

    Returns
    -------
    Decimator or None
        None if the rate is less than twice the width: nothing is to be done.

    Examples
    --------
    >>> decimator = plan_decimator(10e6, 200e3)
    >>> decimator.factor, decimator.num_taps
    (50, 1301)
    """
    factor = math.floor(sample_rate_hz / channel_hz * (1 + 1e-12))
    if factor < 2:
        return None
    # Kaiser (1974): length and shape for a stopband and a transition's width, here in units of the input rate.
    width = (_STOP - _PASS) / factor
    half_outputs = math.ceil((STOPBAND_DB - 7.95) / (14.36 * width) / factor / 2)
    num_taps = 2 * half_outputs * factor + 1
    beta = 0.1102 * (STOPBAND_DB - 8.7)
    n = np.arange(num_taps) - num_taps // 2
    taps = np.sinc(n * (_PASS + _STOP) / factor) * np.kaiser(num_taps, beta)
    taps /= taps.sum()
    num_output = int(ducc0.fft.good_size(max(8 * half_outputs, -(-_MIN_BLOCK // factor))))
    num_input = num_output * factor
    response = np.fft.fft(taps, num_input) / num_input  # the inverse transform does not divide
    return Decimator(factor, num_taps, num_input, response.astype(np.complex64))
