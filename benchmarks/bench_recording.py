"""Recording from live receivers: what it costs beyond the recording's own time, and its memory.

Seven simulated KiwiSDRs play in another process, so that their work and memory count as theirs.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STATIONS = 7
DURATION_S = 10.0
LONG_S = 150.0  # nearly three parts of each station; memory does not grow after the first one


def play() -> None:
    """Play until the standard input ends; prints the URLs."""
    from heimdall_pipelines.receivers.players import KiwiPlayer
    from heimdall_pipelines.receivers.programmes import Place, SyntheticProgramme, Transmission
    from heimdall_pipelines.receivers.simulator import playing

    transmission = Transmission(7_050_000.0, Place(45.05, 8.2, 150.0))
    places = [Place(44.4 + number / 5, 7.2 + number / 5, 100.0) for number in range(STATIONS)]
    players = [KiwiPlayer(SyntheticProgramme(f"rx{n}", place, transmission)) for n, place in enumerate(places)]
    with playing(*players) as urls:
        print(json.dumps(urls), flush=True)
        sys.stdin.read()


def record(urls: list[str], duration_s: float) -> dict[str, float]:
    """Record from these receivers; seconds, seconds of processor and peak memory of this process."""
    from heimdall_pipelines.sessions.record_request import RecordRequest
    from heimdall_pipelines.sessions.recording import record_session
    from heimdall_pipelines.settings import load_settings
    from heimdall_pipelines.store.migrate import migrate
    from heimdall_pipelines.store.stations import Station, add_missing_stations
    from heimdall_pipelines.store.stores import open_stores

    with open_stores(load_settings()) as stores:
        migrate(stores.database)
        stores.objects.create_buckets()
        with stores.database.transaction() as connection:
            stations = [
                Station(f"rx{n}", f"rx{n}", 45.0, 8.0, api_type="kiwisdr", url=url) for n, url in enumerate(urls)
            ]
            add_missing_stations(connection, stations)
        request = RecordRequest(7_050_000.0, duration_s, tuple(station.rx_id for station in stations))
        if duration_s <= DURATION_S:
            record_session(stores, request, lambda line: None)  # loads what is compiled
        begun, used = time.perf_counter(), time.process_time()
        report = record_session(stores, request, lambda line: None)
        seconds, used_s = time.perf_counter() - begun, time.process_time() - used
    assert report.error_message is None, report.error_message
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return {
        "seconds": seconds,
        "used_s": used_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
    }


def run() -> list[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    import os

    from heimdall_pipelines.local.stack import Stack

    folder = Path(tempfile.mkdtemp(prefix="heimdall-bench-"))
    folder.chmod(0o755)
    module = [sys.executable, "-m", "benchmarks.bench_recording"]
    playing = subprocess.Popen([*module, "play"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert playing.stdout is not None
        urls = playing.stdout.readline()
        answers = []
        with Stack(folder / "home").use() as environment:
            for duration_s in (DURATION_S, LONG_S):
                command = [*module, "record", urls, str(duration_s)]
                done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
                answers.append(json.loads(done.stdout.splitlines()[-1]))
    finally:
        playing.communicate()
        shutil.rmtree(folder, ignore_errors=True)
    short, long = answers
    return [
        ("7 live stations, 10 s", short["seconds"] - DURATION_S, "s beyond the recording's own duration"),
        ("7 live stations, 10 s", short["used_s"] / STATIONS * 1e3, "ms of processor per station"),
        ("7 live stations, 150 s", long["peak_mb"], "MB peak"),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "play":
        play()
    else:
        print(json.dumps(record(json.loads(sys.argv[2]), float(sys.argv[3]))))
