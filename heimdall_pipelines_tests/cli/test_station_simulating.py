"""`heimdall station simulate` as a process of its own, recorded from by the client."""

import asyncio
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from heimdall_pipelines.cli import station
from heimdall_pipelines.cli.option_values import frequency_hz
from heimdall_pipelines.formats.gnss_clock import NO_FIX_AGE
from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.receivers.stream import Tuning
from heimdall_pipelines_tests.cli.conftest import LIMITS, TIMEOUT_S
from heimdall_pipelines_tests.formats.support import kiwi_file
from heimdall_pipelines_tests.receivers.support import recorded_from

RUN = [sys.executable, "-c", "from heimdall_pipelines.cli import main; main()", "station", "simulate", "--port=0"]


@contextmanager
def simulating(*arguments):
    """Run the command until the context ends; gives the lines that it shows."""
    process = subprocess.Popen([*RUN, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        while not lines or lines[-1] != "Ctrl-C to stop.":
            line = process.stdout.readline()
            assert line, lines
            lines.append(line.rstrip("\n"))
        yield lines
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def urls_of(lines):
    return [match[1] for line in lines if (match := re.search(r"listens at (\S+)", line))]


@pytest.mark.slow
@pytest.mark.programs
def test_simulated_stations_show_the_commands_that_record_them():
    with simulating("--speed=100", "--frequency=145.5MHz") as lines:
        urls = urls_of(lines)
        assert len(urls) == 3
        assert lines[0].startswith("sim-aquila-di-giaveno listens at http://127.0.0.1:")
        added = next(line for line in lines if "station add sim-torino" in line)
        assert "--latitude=45.044 --longitude=7.672 --altitude-m=250 --api-type=kiwisdr --url=http://" in added
        assert lines[-2] == (
            "  heimdall session record --frequency=145500000Hz --duration=10 "
            "--stations=sim-aquila-di-giaveno,sim-montanaro,sim-torino"
        )
        for url in urls:
            tuning = Tuning(145.5e6, 12_500.0, 1.0)
            recorded = asyncio.run(recorded_from(url, "kiwisdr", tuning=tuning, limits=LIMITS))
            assert recorded.iq.size >= 12_001
            assert np.std(recorded.iq) > 0.006  # more than the noise of 0.004
            assert all(block.stamp.age_s < NO_FIX_AGE for block in recorded.blocks)


@pytest.mark.slow
@pytest.mark.programs
def test_a_recording_is_replayed_where_its_receiver_is(tmp_path):
    path = kiwi_file(tmp_path, seconds=3.05)
    with simulating("--wav", path, "--speed=100", "--password=sesame") as lines:
        assert "--latitude=53.665337 --longitude=7.282766" in lines[2]
        assert "sesame" not in "".join(lines)
        assert "--frequency=77500Hz --duration=2.9 --stations=sim-df0kl" in lines[-2]
        url = urls_of(lines)[0].replace("//", "//:sesame@")
        tuning = Tuning(77_500.0, 8_000.0, 2.9)
        recorded = asyncio.run(recorded_from(url, "kiwisdr", tuning=tuning, limits=LIMITS))
        samples = np.concatenate(list(open_recording(path).blocks()))
        np.testing.assert_array_equal(recorded.iq, samples[: recorded.iq.size])


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.parametrize(
    ("option", "api_type", "rate_hz"),
    [("--wide", "kiwisdr", 20_252.0), ("--api-type=openwebrx", "openwebrx", 18_000.0)],
)
def test_wide_kiwisdrs_and_openwebrx_are_simulated(option, api_type, rate_hz):
    with simulating(option, "--count=1", "--speed=100") as lines:
        assert any(f"--api-type={api_type} " in line for line in lines)
        tuning = Tuning(7_050_000.0, 12_500.0, 1.0)
        recorded = asyncio.run(recorded_from(urls_of(lines)[0], api_type, tuning=tuning, limits=LIMITS))
    assert recorded.nominal_rate_hz == rate_hz
    assert np.std(recorded.iq) > 0.006  # more than the noise of 0.004


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--station=nowhere"], "the position of nowhere is unknown: give --position"),
        (["--position=91,0"], "--position 91,0: LATITUDE,LONGITUDE in degrees is expected"),
        (["--transmitter=here"], "--transmitter here: LATITUDE,LONGITUDE"),
        (["--position=45,7", "--station=a", "--station=b"], "give at most one --station"),
        (["--frequency=77.5 apples"], "a number with its unit is expected"),
        (["--wav=missing.wav"], "missing.wav: cannot be opened"),
        (["--speed=0"], "greater than or equal to 0.01"),
    ],
)
def test_what_cannot_be_played_is_refused(arguments, reason):
    ended = CliRunner().invoke(station.app, ["simulate", *arguments])
    assert ended.exit_code in (1, 2)
    assert reason in re.sub(r"[\s│]+", " ", f"{ended.output} {ended.exception}")


@pytest.mark.parametrize(
    ("text", "expected"), [("77.5kHz", 77_500.0), ("145.5 MHz", 145.5e6), ("77500hz", 77_500.0), ("1GHz", 1e9)]
)
def test_a_frequency_is_read_with_its_unit(text, expected):
    assert frequency_hz(text) == expected
