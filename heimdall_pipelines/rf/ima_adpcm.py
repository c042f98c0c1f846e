"""IMA ADPCM, 4 bits for a sample of 16: as KiwiSDRs and OpenWebRX send audio, low nibble first.

References: IMA Digital Audio Focus and Technical Working Groups, "Recommended Practices for Enhancing Digital Audio
Compatibility in Multimedia Systems", revision 3.00, 1992.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.philox import compiled

_STEPS = np.array(
    [
        *(7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88),
        *(97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658),
        *(724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660),
        *(4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818),
        *(18500, 20350, 22385, 24623, 27086, 29794, 32767),
    ],
    np.int32,
)
_INDEX_CHANGES = np.array([-1, -1, -1, -1, 2, 4, 6, 8] * 2, np.int32)


@dataclass
class AdpcmState:
    """State of a coder, the same on both sides.

    Attributes
    ----------
    index : int
        Into the table of step sizes, 0 to 88.
    predictor : int
        The latest sample, as decoded.
    """

    index: int = 0
    predictor: int = 0
    _pair: NDArray[np.int32] = field(default_factory=lambda: np.zeros(2, np.int32), repr=False)

    def decode(self, data: bytes) -> NDArray[np.int16]:
        """Decode bytes, two samples each, and move on."""
        self._pair[:] = self.index, self.predictor
        samples = np.empty(2 * len(data), np.int16)
        _decode(np.frombuffer(data, np.uint8), samples, self._pair, _STEPS, _INDEX_CHANGES)
        self.index, self.predictor = self._pair.tolist()
        return samples

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """Encode an even number of samples, and move on.

        Raises
        ------
        ValueError
            The number is odd.
        """
        if samples.size % 2:
            raise ValueError(f"{samples.size} samples do not fill whole bytes")
        self._pair[:] = self.index, self.predictor
        data = np.empty(samples.size // 2, np.uint8)
        _encode(samples, data, self._pair, _STEPS, _INDEX_CHANGES)
        self.index, self.predictor = self._pair.tolist()
        return data.tobytes()


@compiled
def _next(code: int, state: NDArray[np.int32], steps: NDArray[np.int32], changes: NDArray[np.int32]) -> None:
    step = steps[state[0]]
    change = step >> 3
    if code & 1:
        change += step >> 2
    if code & 2:
        change += step >> 1
    if code & 4:
        change += step
    predictor = state[1] - change if code & 8 else state[1] + change
    state[1] = min(max(predictor, -32768), 32767)
    state[0] = min(max(state[0] + changes[code], 0), 88)


@compiled
def _decode(
    data: NDArray[np.uint8],
    samples: NDArray[np.int16],
    state: NDArray[np.int32],
    steps: NDArray[np.int32],
    changes: NDArray[np.int32],
) -> None:
    for number in range(data.size):
        _next(data[number] & 15, state, steps, changes)
        samples[2 * number] = state[1]
        _next(data[number] >> 4, state, steps, changes)
        samples[2 * number + 1] = state[1]


@compiled
def _encode(
    samples: NDArray[np.int16],
    data: NDArray[np.uint8],
    state: NDArray[np.int32],
    steps: NDArray[np.int32],
    changes: NDArray[np.int32],
) -> None:
    for number in range(samples.size):
        difference = samples[number] - state[1]
        code = 8 if difference < 0 else 0
        left = abs(difference)
        step = steps[state[0]]
        for bit in (4, 2, 1):
            if left >= step:
                code |= bit
                left -= step
            step >>= 1
        _next(code, state, steps, changes)
        if number % 2:
            data[number // 2] |= code << 4
        else:
            data[number // 2] = code
