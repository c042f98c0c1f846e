"""The whole way of a session on the embedded stack: seconds from import to features, and peak memory of long ones.

Memory is that of a fresh process per case, so that one case does not hide in another's peak.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.stack import answer_of, peak_mb, scratch_folder

RUNS = 3
SESSION_S = 29.0
KIWI_RATE_HZ = 12_001.0
GIGABYTE_RATE_HZ = 2.4e6
HOUR_S = 3_600.0


def write_raw(path, duration_s, rate_hz, key):
    """A carrier in noise as headerless complex64, written block by block."""
    rng = np.random.Generator(np.random.SFC64(key))
    left = int(duration_s * rate_hz)
    with path.open("wb") as file:
        while left:
            count = min(left, 1 << 20)
            block = rng.standard_normal(2 * count, np.float32) * np.float32(0.01)
            block[0::2] += 0.3
            block.tofile(file)
            left -= count


def opened_stores():
    """The stores of the environment, migrated."""
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.migrate import migrate
    from heimdall_pipelines.store.stores import open_stores

    with open_stores(load_settings()) as stores:
        migrate(stores.database)
        sync_network(stores.database, load_network())
    return open_stores(load_settings())


def import_session_of(files, options):
    """Import files, named by their station; the session's id."""
    from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions, import_session
    from heimdall_pipelines.stations.network import load_network

    paths = [Path(file) for file in files]
    to_import = [ImportFile(path, path.stem if path.suffix == ".bin" else None) for path in paths]
    with opened_stores() as stores:
        report = import_session(stores, load_network(), to_import, ImportOptions(**options), lambda line: None)
    return {"session_id": str(report.session_id)}


def run_job(session_id):
    """The Dagster run that extracts and checks a session, as the sensor starts it."""
    import dagster as dg

    from heimdall_pipelines.definitions import build_definitions

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("recording_sessions", [session_id])
        job = build_definitions().resolve_job_def("extract_recorded_session")
        quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
        job.execute_in_process(run_config=quiet, partition_key=session_id, instance=instance)
    return {}


def in_fresh_process(environment, what, *arguments):
    """Call one of the above in a process of its own: its answer, seconds and peak memory."""
    return answer_of("benchmarks.bench_sessions", environment, what, *arguments)


def whole_way(environment, files, **options):
    """Import and run, each in a process of its own; `RUNS` runs if the session is short."""
    imported = in_fresh_process(environment, "import_session_of", [str(file) for file in files], options)
    runs = [in_fresh_process(environment, "run_job", imported["session_id"]) for _ in range(1 if options else RUNS)]
    return imported, statistics.median(run["seconds"] for run in runs), max(run["peak_mb"] for run in runs)


def kiwi_files(folder):
    """Three KiwiSDR files of 29 s."""
    from heimdall_pipelines.formats.kiwi_wav import kiwi_wav_name, write_kiwi_wav

    time_s = np.arange(int(SESSION_S * KIWI_RATE_HZ)) / KIWI_RATE_HZ
    paths = []
    for key, name in enumerate(("TORINO", "GENOVA", "COAZZE")):
        rng = np.random.Generator(np.random.SFC64(key))
        noise = rng.standard_normal(time_s.size) + 1j * rng.standard_normal(time_s.size)
        path = folder / kiwi_wav_name(1_767_268_800 * 10**9, 77_500.0, name)
        write_kiwi_wav(
            path,
            (0.3 + 0.01 * noise).astype(np.complex64),
            nominal_sample_rate_hz=12_001,
            true_sample_rate_hz=KIWI_RATE_HZ,
            start_time_unix_ns=1_767_268_800 * 10**9,
        )
        paths.append(path)
    return paths


def run() -> list[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    from heimdall_pipelines.local.stack import Stack

    given = {"frequency_hz": 145e6, "start_time_unix_ns": 1_767_268_800 * 10**9, "raw_format": "cf32"}
    hour = ("genova", "coazze", "montanaro", "milano-baggio", "passo-del-giovi")
    with scratch_folder() as folder, Stack(folder / "home").use() as environment:
        _, seconds, peak_mb = whole_way(environment, kiwi_files(folder))
        rows = [
            ("3 KiwiSDR stations, 29 s", seconds, "s run: features and checks, process start left out"),
            ("3 KiwiSDR stations, 29 s", peak_mb, "MB peak of the run"),
        ]
        for what, names, duration_s, rate_hz in (
            ("1 GB recording, 2.4 MHz", ("torino",), 1e9 / 8 / GIGABYTE_RATE_HZ, GIGABYTE_RATE_HZ),
            ("5 stations, one hour", hour, HOUR_S, 12_000.0),
        ):
            files = [folder / f"{name}.bin" for name in names]
            for key, path in enumerate(files):
                write_raw(path, duration_s, rate_hz, key)
            imported, seconds, peak_mb = whole_way(environment, files, sample_rate_hz=rate_hz, **given)
            for path in files:
                path.unlink()
            rows += [
                (what, imported["seconds"], "s import"),
                (what, imported["peak_mb"], "MB peak of the import"),
                (what, seconds, "s run: features and checks, process start left out"),
                (what, peak_mb, "MB peak of the run"),
            ]
    return rows


if __name__ == "__main__":
    called = {"import_session_of": import_session_of, "run_job": run_job}[sys.argv[1]]
    if called is run_job:
        import heimdall_pipelines.definitions  # noqa: F401  (loading Dagster is not the run)
    begun = time.perf_counter()
    result = called(*json.loads(sys.argv[2]))
    seconds = time.perf_counter() - begun
    print(json.dumps(result | {"seconds": seconds, "peak_mb": peak_mb()}))
