"""The whole way of a session on the embedded stack: seconds from import to features, and peak memory of long ones.

Memory is that of a fresh process per case, so that one case does not hide in another's peak.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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


def import_and_extract(files, rate_hz, start_unix_ns):
    """Import raw files as a session and extract it; seconds of both, and the process's peak memory."""
    from heimdall_pipelines.sessions.extraction import extract_session
    from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions, import_session
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.stations.network import load_network, sync_network
    from heimdall_pipelines.store.migrate import migrate
    from heimdall_pipelines.store.stores import open_stores

    network = load_network()
    with open_stores(load_settings()) as stores:
        migrate(stores.database)
        sync_network(stores.database, network)
        options = ImportOptions(sample_rate_hz=rate_hz, frequency_hz=145e6, start_time_unix_ns=start_unix_ns)
        to_import = [ImportFile(Path(file), Path(file).stem) for file in files]
        begun = time.perf_counter()
        report = import_session(stores, network, to_import, options, lambda line: None)
        imported = time.perf_counter()
        extracted = extract_session(stores, report.session_id, lambda line: None)
        done = time.perf_counter()
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return {
        "import_s": imported - begun,
        "extract_s": done - imported,
        "rows": extracted.num_rows,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
    }


def in_fresh_process(environment, files, rate_hz, start_unix_ns):
    """`import_and_extract` in a process of its own."""
    arguments = json.dumps([[str(file) for file in files], rate_hz, start_unix_ns])
    command = [sys.executable, "-m", "benchmarks.bench_sessions", arguments]
    answer = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def job_seconds(environment, files):
    """Seconds of the Dagster run that extracts and checks a session of WAV files."""
    import dagster as dg

    os.environ |= environment
    from heimdall_pipelines.definitions import build_definitions
    from heimdall_pipelines.sessions.importing import ImportFile, ImportOptions, import_session
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.stations.network import load_network
    from heimdall_pipelines.store.stores import open_stores

    with open_stores(load_settings()) as stores:
        to_import = [ImportFile(file) for file in files]
        report = import_session(stores, load_network(), to_import, ImportOptions(), lambda line: None)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("recording_sessions", [str(report.session_id)])
        job = build_definitions().resolve_job_def("extract_recorded_session")
        quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
        seconds = []
        for _ in range(RUNS):
            begun = time.perf_counter()
            job.execute_in_process(run_config=quiet, partition_key=str(report.session_id), instance=instance)
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


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

    folder = Path(tempfile.mkdtemp(prefix="heimdall-bench-"))
    folder.chmod(0o755)
    results = []
    try:
        with Stack(folder / "home").use() as environment:
            gigabyte = folder / "torino.bin"
            write_raw(gigabyte, 1e9 / 8 / GIGABYTE_RATE_HZ, GIGABYTE_RATE_HZ, 1)
            one = in_fresh_process(environment, [gigabyte], GIGABYTE_RATE_HZ, 1_767_268_800 * 10**9)
            gigabyte.unlink()
            hour = [folder / f"{name}.bin" for name in ("torino", "genova", "coazze", "montanaro", "milano-baggio")]
            for key, path in enumerate(hour):
                write_raw(path, HOUR_S, 12_000.0, key)
            long = in_fresh_process(environment, hour, 12_000.0, 1_767_300_000 * 10**9)
            for path in hour:
                path.unlink()
            whole_s = job_seconds(environment, kiwi_files(folder))
        results += [
            ("3 KiwiSDR stations, 29 s: run", whole_s, "s from completed to features and checks"),
            ("1 GB recording, 2.4 MHz", one["import_s"], "s import"),
            ("1 GB recording, 2.4 MHz", one["extract_s"], "s extraction"),
            ("1 GB recording, 2.4 MHz", one["peak_mb"], "MB peak of import and extraction"),
            ("5 stations, one hour", long["import_s"], "s import"),
            ("5 stations, one hour", long["extract_s"], f"s extraction ({long['rows']} rows)"),
            ("5 stations, one hour", long["peak_mb"], "MB peak of import and extraction"),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return results


if __name__ == "__main__":
    files, rate_hz, start_unix_ns = json.loads(sys.argv[1])
    print(json.dumps(import_and_extract(files, rate_hz, start_unix_ns)))
