"""Sample data and edits of recording files that the tests of this folder share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from heimdall_pipelines.formats.kiwi_chunks import BLOCK
from heimdall_pipelines.formats.kiwi_wav import kiwi_wav_name, write_kiwi_wav
from heimdall_pipelines.formats.utc import unix_ns_from_iso

START_NS = unix_ns_from_iso("2017-11-27T10:41:56.038122299Z")
GIVEN = {"sample_rate_hz": 200_000.0, "frequency_hz": 145_500_000.0, "start_time_unix_ns": START_NS}
WAV_HEADER_BYTES = 36


def noise(num_samples: int, seed: int = 1) -> np.ndarray:
    """Complex64 noise with both parts within -1..1."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(-1, 1, num_samples) + 1j * rng.uniform(-1, 1, num_samples)).astype(np.complex64)


def all_samples(recording, max_samples: int = 1 << 20) -> np.ndarray:
    """Every sample that a recording streams."""
    return np.concatenate(list(recording.blocks(max_samples)))


def kiwi_file(folder: Path, *, seconds: float = 12.0, start_ns: int = START_NS, **options) -> Path:
    """A KiwiSDR recording of noise at 12001 Hz nominal, 12001.13 Hz true."""
    path = folder / kiwi_wav_name(start_ns, 77_500.0, "DF0KL")
    settings = {"nominal_sample_rate_hz": 12_001, "true_sample_rate_hz": 12_001.13} | options
    write_kiwi_wav(path, noise(int(seconds * 12_001)), start_time_unix_ns=start_ns, **settings)
    return path


def edit_blocks(path: Path, edit: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """Change the kiwi and data chunks of a file whose last block is dropped, so that all have one length."""
    header = path.read_bytes()[:WAV_HEADER_BYTES]
    whole = (path.stat().st_size - WAV_HEADER_BYTES) // BLOCK.itemsize - 1
    blocks = np.fromfile(path, BLOCK, count=whole, offset=WAV_HEADER_BYTES)
    edited = edit(blocks)
    blocks = blocks if edited is None else edited
    size = (blocks.nbytes + WAV_HEADER_BYTES - 8).to_bytes(4, "little")
    path.write_bytes(header[:4] + size + header[8:] + blocks.tobytes())


def set_stamps(blocks: np.ndarray, gps_ns_of_week: np.ndarray) -> None:
    """Write time stamps, in ns since the start of the GPS week, into blocks."""
    blocks["stamp"]["second"] = gps_ns_of_week // 1_000_000_000 % 604_800
    blocks["stamp"]["nanosecond"] = gps_ns_of_week % 1_000_000_000


def stamps_ns(blocks: np.ndarray) -> np.ndarray:
    """Time stamps of blocks in ns since the start of the GPS week."""
    return blocks["stamp"]["second"].astype(np.int64) * 1_000_000_000 + blocks["stamp"]["nanosecond"]
