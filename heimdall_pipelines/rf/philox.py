"""Random numbers that are a function of seed, sample, receiver and purpose, and compilation of this package's kernels.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) encrypts a counter
with a key. The key is the dataset's seed, the counter is (block, purpose and receiver, sample): any number can be
regenerated separately, in any order, on any machine.

The kernels use additions, multiplications, square roots and conversions of IEEE 754 in the order written: no library's
sine or logarithm, no contraction, no reordering ("fastmath" was measured and is not faster). Their
results are therefore bit-identical on every processor.
"""

import enum
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

MAX_SEED = 2**64 - 1
MAX_SAMPLE_IDX = 2**63 - 1
MAX_RECEIVER = 2**24 - 1
TILE_BLOCKS = 512  # blocks of four words that a kernel generates at once; 1024 complex samples fit the L1 cache

_Function = TypeVar("_Function", bound=Callable[..., Any])

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_WORD = np.uint64(32)


class Purpose(enum.IntEnum):
    """Purposes of random numbers; those of different purposes are independent. Never renumber."""

    SCENE = 1
    WAVEFORM = 2
    NOISE = 3
    FADING = 4
    RECEIVER = 5


def compiled(function: _Function) -> _Function:
    """Compile with numba at the first call, keep the machine code on disk, release the GIL.

    Functions that are called from kernels are inlined by the compiler. The disk is NUMBA_CACHE_DIR, else the folder of
    the package, else the user's cache; if none is writable, each process compiles again.
    """
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # numba finds no writable folder
        return cast(_Function, numba.njit(nogil=True, error_model="numpy")(function))


def reinterpreted(source: Any, target: Any) -> Any:
    """Make a function for kernels that reinterprets the bits of a number as another type."""

    def typed(_typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return (target(source), generate) if value == source else None

    return intrinsic(typed)


_bits_of = reinterpreted(types.float32, types.int32)
_float_of = reinterpreted(types.int32, types.float32)


@compiled
def philox_words(out: NDArray[np.uint32], first_block: int, words: NDArray[np.uint32]) -> None:
    """Encrypt consecutive counters with ten rounds of Philox4x32.

    Parameters
    ----------
    out : ndarray of uint32, shape (4, n)
        Column i receives the four words of block ``first_block + i``.
    first_block : int
        Least significant word of the first counter.
    words : ndarray of uint32, shape (5,)
        From `counter_words`: the other three words of the counter, the two of the key.

    Notes
    -----
    This order, round by round over all blocks, vectorises. numba makes uint64 of every operation on two uint32:
    each result is cast back, or carries would stay in it.
    """
    c0, c1, c2, c3 = out[0], out[1], out[2], out[3]
    w1, w2, w3, key_0, key_1 = words[0], words[1], words[2], words[3], words[4]
    for i in range(c0.size):
        c0[i] = np.uint32(first_block + i)
        c1[i] = w1
        c2[i] = w2
        c3[i] = w3
    for _ in range(10):
        for i in range(c0.size):
            p0 = _MULTIPLIER_0 * np.uint64(c0[i])
            p1 = _MULTIPLIER_1 * np.uint64(c2[i])
            c0[i] = np.uint32(np.uint32(np.uint32(p1 >> _WORD) ^ c1[i]) ^ key_0)
            c2[i] = np.uint32(np.uint32(np.uint32(p0 >> _WORD) ^ c3[i]) ^ key_1)
            c1[i] = np.uint32(p1)
            c3[i] = np.uint32(p0)
        key_0 = np.uint32(key_0 + _WEYL_0)
        key_1 = np.uint32(key_1 + _WEYL_1)


@compiled
def cos_sin_turns(turns: np.float32) -> tuple[np.float32, np.float32]:
    """Cosine and sine of 2 pi times a float32 between -0.5 and 0.5, to 3e-7.

    Polynomials (least squares at Chebyshev nodes, errors 5e-8 and 1e-8) give those of half the angle; doubling it
    needs no case distinction.
    """
    square = turns * turns
    cosine = np.float32(4.058411121368408) + square * (
        np.float32(-1.331876516342163) + square * np.float32(0.21968960762023926)
    )
    cosine = np.float32(0.9999999403953552) + square * (np.float32(-4.934792995452881) + square * cosine)
    sine = np.float32(2.550077438354492) + square * (
        np.float32(-0.598291277885437) + square * np.float32(0.07765766233205795)
    )
    sine = turns * (np.float32(3.1415927410125732) + square * (np.float32(-5.167710304260254) + square * sine))
    twice = sine + sine
    return np.float32(1.0) - twice * sine, twice * cosine


@compiled
def fraction_of_turn(turns: np.float32) -> np.float32:
    """Remainder of a float32 below 4e6 after subtracting the nearest integer.

    Adding 1.5 * 2**23 leaves no bits for a fraction; numba's ``np.rint`` would be a call that does not vectorise.
    """
    return turns - ((turns + np.float32(12582912.0)) - np.float32(12582912.0))


@compiled
def normal_pair(magnitude_word: np.uint32, angle_word: np.uint32) -> tuple[np.float32, np.float32]:
    """Two independent standard normal float32 from two random words (Box and Muller 1958), up to 6.66 sigma.

    The logarithm is Cephes' logf: exponent and mantissa apart, a polynomial of degree 8 for the mantissa.
    """
    uniform = (np.float32(np.int32(magnitude_word >> np.uint32(1))) + np.float32(0.5)) * np.float32(2.0**-31)
    bits = _bits_of(uniform)
    exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    mantissa = _float_of(np.int32(bits - np.int32(exponent << np.int32(23))))
    x = mantissa - np.float32(1.0)
    p = np.float32(7.0376836292e-2) * x + np.float32(-1.1514610310e-1)
    p = p * x + np.float32(1.1676998740e-1)
    p = p * x + np.float32(-1.2420140846e-1)
    p = p * x + np.float32(1.4249322787e-1)
    p = p * x + np.float32(-1.6668057665e-1)
    p = p * x + np.float32(2.0000714765e-1)
    p = p * x + np.float32(-2.4999993993e-1)
    p = p * x + np.float32(3.3333331174e-1)
    logarithm = x + (x * x * (x * p - np.float32(0.5)) + np.float32(exponent) * np.float32(0.6931471805599453))
    radius = np.sqrt(np.float32(-2.0) * min(logarithm, np.float32(0.0)))
    cosine, sine = cos_sin_turns(np.float32(np.int32(angle_word)) * np.float32(2.0**-32))
    return radius * cosine, radius * sine


@compiled
def normal_tile(
    out: NDArray[np.float32], random: NDArray[np.uint32], first_block: int, words: NDArray[np.uint32], scale: np.float32
) -> None:
    """Fill a tile with independent normals.

    Parameters
    ----------
    out : ndarray of float32, shape (4 * TILE_BLOCKS,)
        Receives the normals; two neighbours are the parts of one complex sample.
    random : ndarray of uint32, shape (4, TILE_BLOCKS)
        Workspace.
    first_block, words
        See `philox_words`.
    scale : float32
        Standard deviation.
    """
    philox_words(random, first_block, words)
    for half in range(2):
        magnitudes, angles = random[2 * half], random[2 * half + 1]
        part = out[2 * half * TILE_BLOCKS : 2 * (half + 1) * TILE_BLOCKS]
        for i in range(TILE_BLOCKS):
            a, b = normal_pair(magnitudes[i], angles[i])
            part[2 * i] = a * scale
            part[2 * i + 1] = b * scale


def counter_words(*, seed: int, sample_idx: int, purpose: Purpose, receiver: int = 0) -> NDArray[np.uint32]:
    """Words of counter and key that identify a stream.

    Parameters
    ----------
    seed : int
        The dataset's, 0 to `MAX_SEED`.
    sample_idx : int
        0 to `MAX_SAMPLE_IDX`.
    purpose : Purpose
        Purpose of the numbers.
    receiver : int, optional
        Index of the receiver, 0 to `MAX_RECEIVER`; 0 if all share the numbers.

    Returns
    -------
    ndarray of uint32, shape (5,)
        Stream, sample (low, high), key (low, high).

    Raises
    ------
    ValueError
        A number out of range.
    """
    _check(seed, sample_idx, receiver)
    stream = int(purpose) << 24 | receiver
    low = 2**32 - 1
    return np.array([stream, sample_idx & low, sample_idx >> 32, seed & low, seed >> 32], np.uint32)


def generator(
    *, seed: int, sample_idx: int, purpose: Purpose, receiver: int = 0, attempt: int = 0
) -> np.random.Generator:
    """Numpy generator for the few random numbers of a scene, a waveform or a receiver; created in 7 us.

    Parameters
    ----------
    seed, sample_idx, purpose, receiver
        See `counter_words`.
    attempt : int, optional
        Number of the attempt at this sample, from 0: each has its own numbers.

    Returns
    -------
    numpy.random.Generator
        On Philox4x64-10, so that it shares no number with the kernels, at the counter
        ``(0, attempt, stream, sample_idx)``.
    """
    _check(seed, sample_idx, receiver)
    if not 0 <= attempt < 2**63:
        raise ValueError(f"attempt must be between 0 and 2**63 - 1, not {attempt}")
    counter = np.array([0, attempt, int(purpose) << 24 | receiver, sample_idx], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64), counter=counter))


def _check(seed: int, sample_idx: int, receiver: int) -> None:
    """Check that a value fits into key and counter."""
    for name, value, highest in (
        ("seed", seed, MAX_SEED),
        ("sample_idx", sample_idx, MAX_SAMPLE_IDX),
        ("receiver", receiver, MAX_RECEIVER),
    ):
        if not 0 <= value <= highest:
            raise ValueError(f"{name} must be between 0 and {highest}, not {value}")
