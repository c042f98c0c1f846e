"""Valleys of the ground: samples of one valley have one key."""

import numpy as np

from heimdall_pipelines.releases.valleys import valley_keys


class Ridges:
    """A ground of valleys from south to north, 0.5 degrees wide, which fall to the north."""

    def heights_m(self, lats_deg, lons_deg):
        across = np.abs((np.asarray(lons_deg) % 0.5) - 0.25)
        return 4000 * (0.25 - across) + 500 * (46 - np.asarray(lats_deg))


def test_positions_of_a_valley_have_the_same_key():
    lats, lons = np.linspace(44.2, 45.8, 40), np.tile([7.9, 8.1, 8.4, 8.6], 10)
    keys = valley_keys(Ridges(), lats, lons)
    # The bottoms of these valleys are at 8.0 and 8.5 degrees.
    assert len(set(keys[np.isin(lons, [7.9, 8.1])])) == 1
    assert len(set(keys[np.isin(lons, [8.4, 8.6])])) == 1
    assert len(set(keys)) == 2
