"""What real ground costs: attempts and samples over it beside those over a smooth Earth, coverage, memory."""

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np

from benchmarks.rounds import NUM_ROUNDS, SMALL, compare, in_turn, timed
from heimdall_pipelines.datasets.samples import Recipe, draw_sample, make_sample
from heimdall_pipelines.formats.terrain_tile import tile_bytes
from heimdall_pipelines.model.dataset_spec import parse_spec
from heimdall_pipelines.rf.elevation_grid import ElevationGrid
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.receivers import standing_sites
from heimdall_pipelines.rf.scene import SceneSpec, draw_scene
from heimdall_pipelines.rf.terrain import Terrain
from heimdall_pipelines.stations.network import load_network
from heimdall_pipelines.terrain.coverage import CoverageRequest, compute_coverage
from heimdall_pipelines.terrain.ground import SMOOTH_EARTH, Ground
from heimdall_pipelines.terrain.shipped import SHIPPED_TILE, shipped_terrain

SITES = tuple(
    ReceiverSite(station.rx_id, station.latitude, station.longitude, station.altitude_m)
    for station in load_network().stations
)
NUM_SAMPLES = 5 if SMALL else 100  # of a round
SAMPLE_ROUNDS = 2 if SMALL else 10
FINE_SIDE = 301 if SMALL else 3601  # points of a degree
NUM_ATTEMPTS = 20  # of a round
NUM_MEMORY_SCENES = 20 if SMALL else 3000
CELL_M = 5000.0 if SMALL else 500.0
# Prints by how many MB the memory of the process itself grows; pages of mapped tiles are the system's.
MEMORY = """
import sys
from pathlib import Path
import numpy as np
from benchmarks.bench_terrain import SITES
from benchmarks.stack import memory_mb
from heimdall_pipelines.rf.receivers import standing_sites
from heimdall_pipelines.rf.scene import SceneSpec, draw_scene
from heimdall_pipelines.terrain.ground import Ground
from heimdall_pipelines.terrain.shipped import shipped_terrain
rng = np.random.default_rng(0)
draw_scene(SceneSpec(), standing_sites(SITES, shipped_terrain()), rng, shipped_terrain())  # compiles
before_mb = memory_mb("RssAnon")
terrain = Ground(tuple(map(Path, sys.argv[2:]))).terrain
sites = standing_sites(SITES, terrain)
for _ in range(int(sys.argv[1])):
    draw_scene(SceneSpec(), sites, rng, terrain)
print(memory_mb("RssAnon") - before_mb)
"""


def fine_tiles(folder: Path) -> tuple[Path, ...]:
    """Tiles of an arc second over the network's area: the grid of the package with some roughness."""
    paths = []
    rng = np.random.default_rng(0)
    for south, west in itertools.product((44, 45), (7, 8, 9)):
        latitudes = np.linspace(south + 1, south, FINE_SIDE)
        longitudes = np.linspace(west, west + 1, FINE_SIDE)
        heights_m = np.stack(
            [shipped_terrain().heights_m(np.full(FINE_SIDE, latitude), longitudes) for latitude in latitudes]
        )
        heights_m = np.where(heights_m > 0, heights_m + rng.integers(0, 5, heights_m.shape), 0).astype(np.int16)
        grid = ElevationGrid(heights_m, south + 1.0, float(west), 1 / (FINE_SIDE - 1), 1 / (FINE_SIDE - 1))
        path = folder / f"{south}-{west}.tile"
        path.write_bytes(tile_bytes(grid, source="benchmark", licence="none"))
        paths.append(path)
    return (*paths, SHIPPED_TILE)


def recipe_of(ground: Ground) -> Recipe:
    """Default samples on a ground."""
    sites = SITES if ground.terrain is None else standing_sites(SITES, ground.terrain)
    spec = parse_spec({"terrain": "none" if ground.terrain is None else "auto"})
    return Recipe(UUID(int=1), 1, spec, sites, ground)


def run() -> Iterator[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    with tempfile.TemporaryDirectory(prefix="heimdall-terrain-") as folder:
        fine = Ground(fine_tiles(Path(folder)))
        yield from attempts(fine)
        yield from samples(fine)
        yield from memory(fine)
    yield from coverage()


def attempts(fine: Ground) -> Iterator[tuple[str, float, str]]:
    """An attempt of seven links beside generating and extracting the seven receiver-seconds of a sample."""
    smooth = recipe_of(SMOOTH_EARTH)
    drawn = draw_sample(smooth, 0, 100)
    spec, rng = SceneSpec(), np.random.default_rng(0)

    def drawing(terrain: Terrain | None):
        sites = SITES if terrain is None else standing_sites(SITES, terrain)
        return lambda: [draw_scene(spec, sites, rng, terrain) for _ in range(NUM_ATTEMPTS)]

    rounds = in_turn(
        {
            "sample": lambda: make_sample(smooth, drawn),
            "none": drawing(None),
            "30": drawing(shipped_terrain()),
            "1": drawing(fine.terrain),
        },
        NUM_ROUNDS,
    )
    yield "sample of 7 receiver-seconds", rounds.minimum_ms("sample"), "ms, generated and extracted"
    for name, what in (("none", "smooth Earth"), ("30", "30 arc seconds"), ("1", "1 arc second")):
        yield f"attempt, {what}", rounds.minimum_ms(name) / NUM_ATTEMPTS, "ms"
    yield rounds.comparison("30", "sample", 1 / NUM_ATTEMPTS).row("attempt, 30 arc seconds", "of a sample, limit 0.067")
    yield rounds.comparison("1", "sample", 1 / NUM_ATTEMPTS).row("attempt, 1 arc second", "of a sample, limit 0.2")


def samples(fine: Ground) -> Iterator[tuple[str, float, str]]:
    """Default samples, rejected attempts included, beside those over a smooth Earth."""

    def making(recipe: Recipe):
        starts = itertools.count(0, NUM_SAMPLES)

        def make() -> None:
            first = next(starts)
            for sample_idx in range(first, first + NUM_SAMPLES):
                make_sample(recipe, draw_sample(recipe, sample_idx, 1000))

        return timed(make)

    for ground, what in ((Ground((SHIPPED_TILE,)), "30 arc seconds"), (fine, "1 arc second")):
        compared = compare(making(recipe_of(ground)), making(recipe_of(SMOOTH_EARTH)), SAMPLE_ROUNDS)
        yield compared.row(f"samples over {what}", "times terrain: none, limit 1.2")


def memory(fine: Ground) -> Iterator[tuple[str, float, str]]:
    """Memory that mapped tiles of an arc second cost a process."""
    command = [sys.executable, "-c", MEMORY, str(NUM_MEMORY_SCENES), *map(str, fine.files)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    yield "memory over 1 arc second", float(ended.stdout), "MB more of its own, limit 200"


def coverage() -> Iterator[tuple[str, float, str]]:
    """A hundred by a hundred kilometres at 500 m."""
    request = CoverageRequest(45.044, 7.672, 145e6, 37.0, 10.0, radius_m=50e3, cell_m=CELL_M)
    seconds = timed(lambda: compute_coverage(shipped_terrain(), request))()
    yield f"coverage, 100 x 100 km at {CELL_M:g} m", seconds, "s, limit 20"
