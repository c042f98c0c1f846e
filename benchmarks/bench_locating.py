"""A long session of seven stations: processor time of locating it beside that of extracting it, and peak memory.

Each is a fresh process, so that one does not hide in another's peak. The transmission is synthetic: the same frequency
modulated signal at each station, later by the true delay, in noise.
"""

import json
import sys
import time

import numpy as np

from benchmarks.bench_sessions import import_session_of, opened_stores
from benchmarks.rounds import SMALL
from benchmarks.stack import answer_of, peak_mb, scratch_folder

DURATION_S = 20 if SMALL else 3600
RATE_HZ = 12_000.0
START_UNIX_NS = 1_767_268_800 * 10**9
TRANSMITTER = (45.05, 8.2, 150.0)
STATIONS = ("aquila-di-giaveno", "coazze", "genova", "milano-baggio", "montanaro", "passo-del-giovi", "torino")
OFFSETS_HZ = (0.4, -1.2, 2.1, -0.3, 0.9, -1.7, 0.1)
TONES_HZ = np.array([317.1, 443.7, 601.3, 797.9, 1019.2, 1303.6, 1511.4, 1787.8])
DEVIATION_RAD = 0.5  # of each tone: 1.1 kHz rms, about 6 kHz of the 12 are occupied
SNR_DB = 15.0


def write_station(path, number, delay_s):
    """The transmission as one station receives it, as headerless complex64, second by second."""
    rng = np.random.Generator(np.random.SFC64(number))
    of_second = np.arange(int(RATE_HZ)) / RATE_HZ
    noise = np.float32(10 ** (-SNR_DB / 20) / np.sqrt(2))
    with path.open("wb") as file:
        for second in range(DURATION_S):
            turns = (second + of_second - delay_s)[:, None] * TONES_HZ
            # Each second its own phases: the modulation does not repeat.
            phases = np.random.default_rng(second).random(TONES_HZ.size)
            rad = DEVIATION_RAD * np.sin(2 * np.pi * (turns % 1.0 + phases)).sum(axis=1)
            rad += 2 * np.pi * OFFSETS_HZ[number] * (second + of_second)
            white = rng.standard_normal((of_second.size, 2), np.float32) * noise
            block = (0.3 * (np.exp(1j * rad) + white[:, 0] + 1j * white[:, 1])).astype(np.complex64)
            block.tofile(file)


def state_clocks(session_id):
    """State that the stations' clocks are right, so that they carry time differences."""
    from heimdall_pipelines.model.clock import stated_clock
    from heimdall_pipelines.sessions.correcting import Correction, correct_session

    with opened_stores() as stores:
        correct_session(stores, session_id, Correction(clock={name: stated_clock("file:1us") for name in STATIONS}))
    return {}


def extract(session_id):
    """Extract the features."""
    from heimdall_pipelines.sessions.extraction import extract_session

    with opened_stores() as stores:
        return _measured(lambda: _extracted(extract_session(stores, session_id, _quiet)))


def _extracted(report):
    if not any(pair.num_known for pair in report.pairs):  # a part of the work would be left out
        raise RuntimeError("no station detected the transmission")
    return {"rows": report.num_rows}


def locate(session_id):
    """Locate the session and its segments, and store the positions."""
    from heimdall_pipelines.rf.geodesy import distance_m
    from heimdall_pipelines.sessions.positions import locate_and_store

    def work():
        location = locate_and_store(stores, session_id, _quiet)
        whole = location.rows[0]
        if whole.latitude is None:
            raise RuntimeError(whole.reason)
        error_m = float(distance_m(whole.latitude, whole.longitude, *TRANSMITTER[:2]))
        return {"rows": len(location.rows), "error_m": error_m}

    with opened_stores() as stores:
        return _measured(work)


def _quiet(_line):
    """Discard progress."""


def _measured(work):
    before = time.process_time()
    begun = time.perf_counter()
    result = work()
    return result | {"cpu_s": time.process_time() - before, "seconds": time.perf_counter() - begun}


def in_fresh_process(environment, what, *arguments):
    """Call one of the above in a process of its own; its answer with the peak memory."""
    return answer_of("benchmarks.bench_locating", environment, what, *arguments)


def run() -> list[tuple[str, float, str]]:
    """Measure: rows of what, how much, in which unit."""
    from heimdall_pipelines.local.stack import Stack
    from heimdall_pipelines.rf.geodesy import propagation_delay_s
    from heimdall_pipelines.stations.network import load_network

    by_name = {station.rx_id: station for station in load_network().stations}
    with scratch_folder() as folder, Stack(folder / "home").use() as environment:
        files = []
        for number, name in enumerate(STATIONS):
            station = by_name[name]
            place = (station.latitude, station.longitude, station.altitude_m)
            files.append(folder / f"{name}.bin")
            write_station(files[-1], number, float(propagation_delay_s(*TRANSMITTER, *place)))
        options = {
            "sample_rate_hz": RATE_HZ,
            "frequency_hz": 7_050_000.0,
            "start_time_unix_ns": START_UNIX_NS,
            "raw_format": "cf32",
        }
        imported = in_fresh_process(environment, "import_session_of", [str(file) for file in files], options)
        for file in files:
            file.unlink()
        session_id = imported["session_id"]
        in_fresh_process(environment, "state_clocks", session_id)
        # The first of each compiles code, and fills caches of the file system.
        extracted = in_fresh_process(environment, "extract", session_id)
        located = in_fresh_process(environment, "locate", session_id)
    what = f"7 stations, {DURATION_S} s"
    return [
        (what, extracted["cpu_s"], "s of processor: extract"),
        (what, located["cpu_s"], "s of processor: locate"),
        (what, located["cpu_s"] / extracted["cpu_s"], "times: locate over extract (limit 1)"),
        (what, extracted["peak_mb"], "MB peak: extract"),
        (what, located["peak_mb"], "MB peak: locate (limit 500)"),
        (what, located["error_m"], "m from the transmitter"),
    ]


if __name__ == "__main__":
    called = {
        "import_session_of": import_session_of,
        "state_clocks": state_clocks,
        "extract": extract,
        "locate": locate,
    }[sys.argv[1]]
    result = called(*json.loads(sys.argv[2]))
    print(json.dumps(result | {"peak_mb": peak_mb()}))
