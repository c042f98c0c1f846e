"""Tiles for tests: an hgt file is the smallest format that needs no further library."""

import numpy as np

from heimdall_pipelines.rf.receiver_site import ReceiverSite

SIDE = 1201
# In the tile N60E010, far from the grid of the package: around a hill.
SITES = (
    ReceiverSite("north", 60.8, 10.5, 200.0),
    ReceiverSite("west", 60.3, 10.2, 200.0),
    ReceiverSite("east", 60.3, 10.8, 200.0),
)


def hilly(seed=0):
    """Heights of a degree: a plain of 100 m with hills up to 500 m, and a pond."""
    rows, columns = np.indices((SIDE, SIDE)) / (SIDE - 1)
    rng = np.random.default_rng(seed)
    heights_m = 100 + 3 * rng.random((SIDE, SIDE))
    for up, across, height_m in rng.uniform([0, 0, 100], [1, 1, 400], (12, 3)):
        heights_m += height_m * np.exp(-((rows - up) ** 2 + (columns - across) ** 2) / 0.05**2)
    return np.rint(heights_m).astype(np.int16)


def write_hgt(folder, heights_m=None, name="N60E010.hgt"):
    path = folder / name
    path.write_bytes(np.asarray(hilly() if heights_m is None else heights_m).astype(">i2").tobytes())
    return path
