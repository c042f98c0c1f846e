"""Profiles of the ground along several links, one behind the other in the same arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Profiles:
    """Profiles of several links.

    Attributes
    ----------
    starts : ndarray of int64, shape (num_links + 1,)
        Link k has the points ``starts[k]`` to ``starts[k + 1]``, 3 or more.
    distances_m : ndarray of float64, shape (num_points,)
        Along the ground from the transmitter, increasing from 0 within each link.
    heights_m : ndarray of float64, shape (num_points,)
        Of the ground above mean sea level.
    """

    starts: NDArray[np.int64]
    distances_m: NDArray[np.float64]
    heights_m: NDArray[np.float64]

    @property
    def num_links(self) -> int:
        """How many there are."""
        return self.starts.size - 1

    @property
    def lengths_m(self) -> NDArray[np.float64]:
        """Distance of the last point of each."""
        return self.distances_m[self.starts[1:] - 1]

    @property
    def tx_ground_m(self) -> NDArray[np.float64]:
        """Height of the first point of each."""
        return self.heights_m[self.starts[:-1]]

    @property
    def rx_ground_m(self) -> NDArray[np.float64]:
        """Height of the last point of each."""
        return self.heights_m[self.starts[1:] - 1]

    @classmethod
    def single(cls, distances_m: ArrayLike, heights_m: ArrayLike) -> "Profiles":
        """One profile.

        Parameters
        ----------
        distances_m, heights_m : array_like of float, shape (num_points,)
            3 points or more; distances increase from 0.

        Raises
        ------
        ValueError
            The profile is invalid.
        """
        d, h = np.asarray(distances_m, dtype=np.float64), np.asarray(heights_m, dtype=np.float64)
        if d.ndim != 1 or d.shape != h.shape or d.size < 3:
            raise ValueError(
                f"a profile needs 3 or more distances and as many heights, not shapes {d.shape} and {h.shape}"
            )
        if d[0] != 0 or not (d[1:] - d[:-1]).min() > 0 or not np.isfinite(h).all():
            raise ValueError("a profile's distances must increase from 0, and its heights be finite")
        return cls(np.array([0, d.size]), np.ascontiguousarray(d), np.ascontiguousarray(h))


def starts_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of several parts begins, and where the last one ends.

    Parameters
    ----------
    sizes : ndarray of int64, shape (num_parts,)

    Examples
    --------
    >>> starts_of(np.array([3, 5]))
    array([0, 3, 8])
    """
    starts = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts
