"""A small generation whose digests are compared between processors: ``python -m`` this module prints them.

It goes through every kernel that decides bytes: voice and tones, echoes, flat and no fading, imperfect hardware, low
and high sample rates. Scenes are drawn with the libraries for geodesy and propagation, and rounded.
"""

import hashlib
import json
import math
from dataclasses import asdict

import numpy as np

from heimdall_pipelines.rf.channel import Impairments
from heimdall_pipelines.rf.elevation_grid import ElevationGrid
from heimdall_pipelines.rf.link import Link
from heimdall_pipelines.rf.philox import Purpose, generator
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import draw_receiver_sites
from heimdall_pipelines.rf.scene import SceneSpec, draw_scene
from heimdall_pipelines.rf.synthesis import receptions
from heimdall_pipelines.rf.terrain import Terrain

LINKS = (
    Link(61.2345e-6, -92.125, -115.0, 3.25, 8.0, 2e-6, -37.5),
    Link(333.3e-6, -101.5, -115.0, -math.inf, 11.5, 0.0, 12.25),
    Link(480.1e-6, -110.75, -115.0, math.inf, 0.0, 0.0, 250.0),
)
HARDWARE = (
    Impairments(iq_gain_db=0.5, iq_phase_deg=2.0, dc_offset_db=-30.0, adc_bits=8),
    Impairments(),
    Impairments(iq_phase_deg=-1.0),
)
SITES = (ReceiverSite("torino", 45.044, 7.672, 250.0), ReceiverSite("genova", 44.395, 8.956, 100.0))
NUM_WAVEFORMS = 30  # three of them are tones or two tones, on average
NUM_SCENES = 50
NUM_TERRAIN_SCENES = 20


def iq_digest() -> str:
    """SHA-256 of what three receivers hear of several transmissions, with the power that fading left."""
    digest, kinds = hashlib.sha256(), set()
    for sample_idx in range(NUM_WAVEFORMS):
        heard = receptions(
            LINKS,
            seed=11,
            sample_idx=sample_idx,
            sample_rate_hz=(200e3, 20e3, 250e3)[sample_idx % 3],
            duration_s=0.02,
            channel_bandwidth_hz=12.5e3,
            num_chunks=2,
            impairments=HARDWARE,
        )
        for reception in heard:
            digest.update(reception.iq.tobytes())
            digest.update(reception.signal_power_dbm.tobytes())
            kinds.add(reception.audio)
    assert kinds == {"voice", "tone", "dual_tone"}
    return digest.hexdigest()


def scenes_digest() -> str:
    """SHA-256 of scenes with receivers at random."""
    digest = hashlib.sha256()
    for sample_idx in range(NUM_SCENES):
        rng = generator(seed=11, sample_idx=sample_idx, purpose=Purpose.SCENE)
        sites = draw_receiver_sites(SITES, min_count=3, max_count=6, rng=rng)
        scene = draw_scene(SceneSpec(), sites, rng)
        digest.update(json.dumps([asdict(scene), *map(asdict, sites)]).encode())
    return digest.hexdigest()


def terrain_digest() -> str:
    """SHA-256 of scenes on the ground, whose receivers are at random too."""
    rows, columns = np.indices((300, 400))
    heights_m = ((rows * 37 + columns * 91) % 500 + rows).astype(np.int16)
    terrain = Terrain([ElevationGrid(heights_m, 46.0, 7.0, 0.01, 0.01)])
    digest = hashlib.sha256()
    for sample_idx in range(NUM_TERRAIN_SCENES):
        rng = generator(seed=11, sample_idx=sample_idx, purpose=Purpose.SCENE)
        sites = draw_receiver_sites(SITES, min_count=3, max_count=6, rng=rng, terrain=terrain)
        digest.update(json.dumps([asdict(draw_scene(SceneSpec(), sites, rng, terrain)), *map(asdict, sites)]).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    print(json.dumps({"iq": iq_digest(), "scenes": scenes_digest(), "terrain": terrain_digest()}))
