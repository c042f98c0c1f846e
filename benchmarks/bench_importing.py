"""Recordings of other programs: import against the upload of the same bytes, decimation, and inspection of long files.

Import and upload alternate in one process; memory is that of a fresh process per case, beside that of one which imports
a second of samples. A repeated import would be recognised, so its session is deleted after each round, untimed.
"""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.bench_sessions import opened_stores, write_raw
from benchmarks.rounds import SMALL, compare
from benchmarks.stack import answer_of, peak_mb, scratch_folder

STORED_BYTES = 40_000_000 if SMALL else 1_000_000_000
LONG_FILE_BYTES = 4 << 30
ROUNDS = 2 if SMALL else 5
RATE_HZ = 2.4e6
WIDE_RATE_HZ, CHANNEL_HZ, WIDE_S = 10e6, 200e3, 1.0 if SMALL else 10.0
NOON_NS = 1_767_268_800 * 10**9


def write_wav(path, num_samples):
    """A carrier in noise as 16-bit WAV, written block by block."""
    rng = np.random.Generator(np.random.SFC64(0))
    size = 4 * num_samples
    rate = int(RATE_HZ)
    with path.open("wb") as file:
        file.write(
            struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 2, rate, 4 * rate, 4, 16)
        )
        file.write(b"data" + struct.pack("<I", size))
        for start in range(0, num_samples, 1 << 20):
            block = rng.standard_normal(2 * min(1 << 20, num_samples - start), np.float32) * np.float32(300)
            block[0::2] += 10_000
            block.astype("<i2").tofile(file)


def files_of(folder, stored_bytes):
    """A WAV and a raw file of which so many bytes are stored."""
    num_samples = stored_bytes // 8
    wav, raw = folder / "torino.wav", folder / "torino.cf32"
    write_wav(wav, num_samples)
    write_raw(raw, num_samples / RATE_HZ, RATE_HZ, 1)
    return wav, raw


def import_once(stores, path):
    """Import one file of the station torino; the session's id."""
    from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions, import_session
    from heimdall_pipelines.stations.network import load_network

    options = ImportOptions(
        sample_rate_hz=RATE_HZ if path.suffix == ".cf32" else None, frequency_hz=145e6, start_time_unix_ns=NOON_NS
    )
    return import_session(stores, load_network(), [ImportFile(path, "torino")], options, lambda _line: None).session_id


def compared_with_upload(name):
    """Import and upload of the same stored bytes in turn: seconds of both, for each round."""
    from heimdall_pipelines.sessions.deleting import delete_session
    from heimdall_pipelines.store.measurements import list_recordings
    from heimdall_pipelines.store.objects import ObjectLocation

    path = Path(name)
    with opened_stores() as stores:
        session_id = import_once(stores, path)
        (recording,) = list_recordings(stores.database, session_id)
        size = stores.objects.size_bytes(recording.location)
        stored = path.with_suffix(".stored")
        with stored.open("wb") as file:
            for start in range(0, size, 1 << 24):
                file.write(stores.objects.read(recording.location, start, min(1 << 24, size - start)))
        delete_session(stores, session_id, lambda _key: None, lambda _line: None)

        def import_s():
            begun = time.perf_counter()
            imported = import_once(stores, path)
            seconds = time.perf_counter() - begun
            delete_session(stores, imported, lambda _key: None, lambda _line: None)
            return seconds

        def upload_s():
            where = ObjectLocation(stores.objects.raw_iq_bucket, "benchmark/stored")
            begun = time.perf_counter()
            with stored.open("rb") as file:
                stores.objects.put(where, file, size, "application/octet-stream")
            stores.objects.sync_before_commit(stores.objects.raw_iq_bucket)
            seconds = time.perf_counter() - begun
            stores.objects.remove_keys(where.bucket, [where.key])
            return seconds

        found = compare(import_s, upload_s, ROUNDS)
    stored.unlink()
    return {"seconds": found.seconds, "beside": found.beside}


def import_alone(name):
    """Import a file, for the memory that this takes."""
    with opened_stores() as stores:
        import_once(stores, Path(name))
    return {}


def decimate(name):
    """Decimate a raw file to a channel in one thread: how many times faster than real time."""
    from heimdall_pipelines.formats.recording import open_recording
    from heimdall_pipelines.sessions.import_channel import channel_of

    wide = open_recording(Path(name), sample_rate_hz=WIDE_RATE_HZ, frequency_hz=145e6, start_time_unix_ns=NOON_NS)
    narrow = channel_of(wide, CHANNEL_HZ)
    begun = time.perf_counter()
    num_samples = sum(block.size for block in narrow.blocks(1 << 20))
    seconds = time.perf_counter() - begun
    assert num_samples == narrow.num_samples
    return {"times_real_time": wide.num_samples / WIDE_RATE_HZ / seconds}


CALLS = {"compared_with_upload": compared_with_upload, "import_alone": import_alone, "decimate": decimate}


def in_fresh_process(environment, what, path):
    """Call one of the above in a process of its own: its answer and peak memory."""
    return answer_of("benchmarks.bench_importing", environment, what, str(path))


def inspection_s(path):
    """Seconds of the whole command `heimdall session inspect`."""
    command = [str(Path(sys.executable).with_name("heimdall")), "session", "inspect", str(path)]
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def write_long(path):
    """A file of 4 GiB of which only some pieces take room on the disk."""
    rng = np.random.Generator(np.random.SFC64(2))
    with path.open("wb") as file:
        file.truncate(LONG_FILE_BYTES)
        for start in np.linspace(0, LONG_FILE_BYTES - (1 << 22), 64).astype(int):
            file.seek(int(start) // 4096 * 4096)
            (rng.standard_normal(1 << 20, np.float32) * 300).astype("<i2").tofile(file)


def run() -> list[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    from benchmarks.rounds import Comparison
    from heimdall_pipelines.local.stack import Stack

    rows = []
    with scratch_folder() as folder, Stack(folder / "home").use() as environment:
        files = files_of(folder, STORED_BYTES)
        for path, what in zip(files, ("16-bit WAV", "raw cf32"), strict=True):
            found = in_fresh_process(environment, "compared_with_upload", path)
            rounds = Comparison(tuple(found["seconds"]), tuple(found["beside"]))
            rows.append(rounds.row(f"import of {what}", "times the upload of the same bytes"))
            rows.append((f"import of {what}", min(found["seconds"]), f"s for {STORED_BYTES / 1e9:g} GB stored"))
        (folder / "short").mkdir()
        peaks = [in_fresh_process(environment, "import_alone", path)["peak_mb"] for path in files]
        short = [
            in_fresh_process(environment, "import_alone", path)["peak_mb"]
            for path in files_of(folder / "short", 8 * int(RATE_HZ))
        ]
        for what, peak, least in zip(("16-bit WAV", "raw cf32"), peaks, short, strict=True):
            rows.append((f"memory of an import, {what}", peak, f"MB peak; {least:.0f} MB for a second of samples"))
        for path in files:
            path.unlink()
        wide = folder / "wide.cs16"
        with wide.open("wb") as file:
            rng = np.random.Generator(np.random.SFC64(3))
            for _ in range(int(WIDE_S * 10)):
                (rng.standard_normal(2 * int(WIDE_RATE_HZ / 10), np.float32) * 300).astype("<i2").tofile(file)
        decimated = in_fresh_process(environment, "decimate", wide)
        rows += [
            ("10 MS/s to 200 kHz, one thread", decimated["times_real_time"], "times real time"),
            ("10 MS/s to 200 kHz", decimated["peak_mb"], "MB peak"),
        ]
        wide.unlink()
        long = folder / "long.cs16"
        write_long(long)
        rows.append(("session inspect, 4 GiB", min(inspection_s(long) for _ in range(ROUNDS)), "s, the whole command"))
    return rows


if __name__ == "__main__":
    result = CALLS[sys.argv[1]](*json.loads(sys.argv[2]))
    print(json.dumps(result | {"peak_mb": peak_mb()}))
