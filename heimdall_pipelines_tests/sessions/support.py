"""What tests of sessions share: an import with nothing but what it needs."""

import shutil
from pathlib import Path

import numpy as np

from heimdall_pipelines.model.position import METHOD, StoredPosition
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions, ImportReport, import_session
from heimdall_pipelines.stations.network import Network, load_network, sync_network
from heimdall_pipelines.store.known_sources import KnownSource
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines_tests.remembered import Remembered

RATE_HZ = 200_000.0


def quiet(_line: str) -> None:
    """Progress that is not shown."""


def import_files(stores: Stores, files, **options) -> ImportReport:
    """Import paths, or ImportFiles, of stations of the shipped network."""
    network = load_network()
    sync_network(stores.database, network)
    to_import = [file if isinstance(file, ImportFile) else ImportFile(file) for file in files]
    return import_session(stores, network, to_import, ImportOptions(**options), quiet)


def example_in(
    stores: Stores,
    remembered: Remembered,
    recordings: list[Path],
    *,
    source: KnownSource | None = None,
    known_source: str | None = None,
    extracted: bool = True,
) -> ImportReport:
    """Leave the made-up session in empty stores, imported and extracted, and give the report of its import.

    Its transmitter is ``source``, which is added to the known sources, or the one that ``known_source`` names.
    """

    def make(stores: Stores) -> ImportReport:
        if source is not None:
            sync_network(stores.database, Network((), (source,), {}))
        report = import_files(stores, recordings, known_source=known_source if source is None else source.name)
        if extracted:
            extract_session(stores, report.session_id, quiet)
        return report

    return remembered(stores, ("example session", repr(source), known_source, extracted), make)


def noise(num_samples: int, key: int = 0) -> np.ndarray:
    """White Gaussian complex64 noise of unit power."""
    rng = np.random.Generator(np.random.Philox(key=key))
    return ((rng.standard_normal(num_samples) + 1j * rng.standard_normal(num_samples)) / np.sqrt(2)).astype(
        np.complex64
    )


def npy_files(folder: Path, arrays: dict[str, np.ndarray]) -> list[ImportFile]:
    """Write arrays as .npy files, one per station."""
    files = []
    for rx_id, array in arrays.items():
        path = folder / f"{rx_id}.npy"
        np.save(path, array)
        files.append(ImportFile(path, rx_id=rx_id))
    return files


def npy_options(**more):
    """What .npy files do not say of themselves."""
    return {
        "sample_rate_hz": RATE_HZ,
        "frequency_hz": 145_500_000.0,
        "start_time_unix_ns": 1_767_268_800_123_456_789,
    } | more


def copied(path: Path, folder: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copy(path, folder / path.name))


def unlocated_rows(num_segments: int) -> list[StoredPosition]:
    """Rows of positions that say why there is none: the whole session's and those of its segments."""
    nothing = dict.fromkeys(
        ("latitude", "longitude", "semi_major_m", "semi_minor_m", "azimuth_deg", "second_latitude", "second_longitude")
    )
    return [
        StoredPosition(
            segment_idx=segment_idx,
            method=METHOD,
            is_at_edge=None,
            closure_us=None,
            residuals_us={},
            stations_used=(),
            stations_left_out={"torino": "excluded"},
            time_differences=(),
            station_delays_us={},
            delays_from=None,
            reason="fewer than three stations",
            **nothing,
        )
        for segment_idx in (None, *range(num_segments))
    ]
