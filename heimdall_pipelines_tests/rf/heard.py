"""What all receivers of a transmission hear, side by side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.rf.synthesis import receptions


@dataclass(frozen=True, eq=False)
class Heard:
    """Receptions as arrays: ``iq`` (receivers, samples), ``signal_power_dbm`` (receivers, chunks)."""

    iq: NDArray[np.complex64]
    signal_power_dbm: NDArray[np.float64]
    audio: str


def hear(links, **arguments) -> Heard:
    """Make a sample; the arguments are those of `receptions`."""
    heard = list(receptions(links, **arguments))
    return Heard(
        np.array([reception.iq for reception in heard]),
        np.array([reception.signal_power_dbm for reception in heard]),
        heard[0].audio,
    )
