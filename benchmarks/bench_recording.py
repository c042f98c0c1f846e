"""Recording from live receivers: what it costs beyond the recording's own time, and its memory.

Seven simulated KiwiSDRs play in another process, so that their work and memory count as theirs: all of them one file,
in real time or as fast as it is taken. Memory is that of a fresh process per case: one that loads what the command line
loads, and one that executes Dagster's job on an instance as `heimdall dev` has it.
"""

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.stack import answer_of, memory_mb, peak_mb, scratch_folder

STATIONS = 7
RATE_HZ = 12_001
FREQUENCY_HZ = 7_050_000.0
DURATION_S = 10.0
LONG_S = 3600.0
PLAYED_S = 512  # a block is 512 samples
WARM_S = 1.0
WATCHED_S = 0.05


def write_recording(path):
    """A carrier in noise as a KiwiSDR's file that begins now: `PLAYED_S`, a whole number of its blocks."""
    from heimdall_pipelines.formats.kiwi_wav import write_kiwi_wav

    rng = np.random.Generator(np.random.SFC64(0))
    noise = rng.standard_normal(2 * PLAYED_S * RATE_HZ, np.float32).view(np.complex64)
    write_kiwi_wav(
        path,
        np.complex64(0.3) + np.float32(0.01) * noise,
        nominal_sample_rate_hz=RATE_HZ,
        true_sample_rate_hz=RATE_HZ,
        start_time_unix_ns=time.time_ns(),
    )


class Repeated:
    """A file again and again, with time stamps that go on."""

    def __init__(self, path):
        self._path = path

    def rate_hz(self, requested_hz=None):  # noqa: ARG002
        """That of the file."""
        return float(RATE_HZ)

    def blocks(self, frequency_hz, requested_hz=None):
        """Give its blocks without end."""
        from heimdall_pipelines.receivers.signal_sources import WavSource

        for number in itertools.count():
            signal_source = WavSource(self._path, moved_by_s=lambda by_s=number * PLAYED_S: by_s)
            for block in signal_source.blocks(frequency_hz, requested_hz):
                if number == 0 or not block.is_stale:
                    yield block


def play(path, speed):
    """Play a file until the standard input ends; prints the URLs."""
    from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr
    from heimdall_pipelines.receivers.simulator import run_simulated

    with run_simulated(*(SimulatedKiwiSdr(Repeated(Path(path)), speed=speed) for _ in range(STATIONS))) as urls:
        print(json.dumps(urls), flush=True)
        sys.stdin.read()


@contextmanager
def simulated(path, speed) -> Iterator[list[str]]:
    """Receivers in a process of their own meanwhile; gives their URLs."""
    command = [sys.executable, "-m", "benchmarks.bench_recording", "play", json.dumps([str(path), speed])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate()


def record(urls, duration_s, warm_s):
    """Record from these receivers: seconds, seconds of processor, memory before and at most."""
    import heimdall_pipelines.cli  # noqa: F401  memory is to be that of the command line
    from heimdall_pipelines.sessions.record_request import RecordRequest
    from heimdall_pipelines.sessions.recording import record_session
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.migrate import migrate
    from heimdall_pipelines.store.stations import Station, add_station
    from heimdall_pipelines.store.stores import open_stores

    with open_stores(load_settings()) as stores:
        migrate(stores.database)
        stores.objects.create_buckets()
        rx_ids = tuple(f"rx{os.getpid()}-{number}" for number in range(len(urls)))
        for rx_id, url in zip(rx_ids, urls, strict=True):
            add_station(stores.database, Station(rx_id, rx_id, 45.0, 8.0, api_type="kiwisdr", url=url))
        if warm_s:  # loads what is compiled
            warm = record_session(stores, RecordRequest(FREQUENCY_HZ, warm_s, rx_ids), lambda line: None)
            assert warm.error_message is None, warm.error_message
        before_mb = memory_mb("VmRSS")
        begun, used = time.perf_counter(), time.process_time()
        report = record_session(stores, RecordRequest(FREQUENCY_HZ, duration_s, rx_ids), lambda line: None)
        seconds, used_s = time.perf_counter() - begun, time.process_time() - used
    assert report.error_message is None, report.error_message
    return {
        "seconds": seconds,
        "used_s": used_s,
        "before_mb": before_mb,
        "peak_mb": peak_mb(),
        "rx_ids": rx_ids,
    }


def in_fresh_process(environment, urls, duration_s, warm_s=0.0):
    """Record in a process of its own."""
    return answer_of("benchmarks.bench_recording", environment, "record", urls, duration_s, warm_s)


def job_peak_mb(environment, rx_ids, duration_s, folder):
    """Have these stations recorded by Dagster's job in a process of its own, as it comes: its peak memory."""
    config = folder / "record.json"
    given = {"frequency_hz": FREQUENCY_HZ, "duration_s": duration_s, "stations": rx_ids}
    config.write_text(json.dumps({"ops": {"record": {"config": given}}}))
    module = ["-m", "heimdall_pipelines.definitions", "-j", "record_session", "-c", str(config)]
    command = [sys.executable, "-m", "dagster", "job", "execute", *module]
    peak_mb = 0.0
    with (folder / "job.log").open("w+") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        while process.poll() is None:
            peak_mb = max(peak_mb, memory_mb("VmHWM", process.pid))
            time.sleep(WATCHED_S)
        log.seek(0)
        assert process.returncode == 0, log.read()
    return peak_mb


def run() -> Iterator[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    from heimdall_pipelines.cli.environment import dagster_home
    from heimdall_pipelines.local.stack import Stack

    with scratch_folder() as folder:
        path = folder / "played.wav"
        write_recording(path)
        with Stack(folder / "home").use() as environment:
            with simulated(path, 1.0) as urls:
                live = in_fresh_process(environment, urls, DURATION_S, WARM_S)
            yield ("7 live stations, 10 s", live["seconds"] - DURATION_S, "s beyond the recording's own duration")
            with simulated(path, math.inf) as urls:
                fast = in_fresh_process(environment, urls, DURATION_S, WARM_S)
                long = in_fresh_process(environment, urls, LONG_S)
                environment = environment | {"DAGSTER_HOME": str(dagster_home(folder / "home"))}
                job_mb = job_peak_mb(environment, long["rx_ids"], LONG_S, folder)
    yield from [
        ("the same, as fast as it goes", fast["used_s"] / STATIONS * 1e3, "ms of processor per station"),
        ("the same in real time", live["used_s"] / STATIONS * 1e3, "ms of processor per station"),
        (f"7 stations, {LONG_S / 60:g} minutes, as fast", long["seconds"], "s"),
        ("the same", long["peak_mb"], f"MB peak, {long['before_mb']:.0f} MB of them before it began"),
        ("the same by Dagster's job", job_mb, "MB peak of the run's process"),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "play":
        play(*json.loads(sys.argv[2]))
    else:
        print(json.dumps(record(*json.loads(sys.argv[2]))))
