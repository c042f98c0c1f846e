"""Values that no one means, and machines that are set up oddly: each is one clear message, or simply works."""

import inspect
import math
import os
import subprocess
import sys

import pytest
import typer

from heimdall_pipelines.cli import app
from heimdall_pipelines.settings import ENV_PREFIX
from heimdall_pipelines.store.stations import MAX_RX_ID_CHARACTERS, StationError, list_stations
from heimdall_pipelines_tests.cli.test_help import EVERY_COMMAND
from heimdall_pipelines_tests.datasets.support import add
from heimdall_pipelines_tests.dev_server import HEIMDALL
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options
from heimdall_pipelines_tests.waiting import TIMEOUT_S

ADD = ("station", "add", "garden", "--latitude", 45, "--longitude", 7)
TOO_MUCH = 10**30
NUMBERS = [math.nan, math.inf, -math.inf]


def leaf(words):
    """The command of these words."""
    command = typer.main.get_command(app)
    for word in words.split():
        with typer.Context(command) as context:
            command = command.get_command(context, word)
    return command


def run(*arguments, **variables):
    """Run the command line as a program, with these variables alone of the project's."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith((ENV_PREFIX, "DAGSTER_"))}
    return subprocess.run(
        [*HEIMDALL, *map(str, arguments)],
        env=outside | {name: str(value) for name, value in variables.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )


@pytest.mark.parametrize("words", [words for words in EVERY_COMMAND if words])
def test_commands_refuse_invalid_numbers(words):
    command = leaf(words)
    if hasattr(command, "commands"):
        return
    for number in (*NUMBERS, TOO_MUCH, -TOO_MUCH):
        for name in inspect.signature(inspect.unwrap(command.callback)).parameters:
            for value in (number, [number]):
                with pytest.raises(typer.BadParameter, match=r"finite|64 bits"):
                    command.callback(**{name: value})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--retries", 999_999_999_999), "retry_count"),
        (("--retries", -1), "retry_count"),
        (("--timeout", 1e300), "timeout_seconds"),
        (("--timeout", 0), "timeout_seconds"),
        (("--timeout", "nan"), "finite"),
        (("--full-scale-dbm", "nan"), "finite"),
        (("--full-scale-dbm", 1e300), "full_scale_dbm"),
        (("--altitude-m", "inf"), "finite"),
        (("--frequency-range", "0-inf"), "frequency range"),
        (("--frequency-range", "nan-5"), "frequency range"),
        (("--name", "n" * 5000), "name has 5000 characters"),
        (("--url", "http://" + "h" * 5000), "url has"),
    ],
)
def test_a_station_with_an_impossible_value_is_not_added(heimdall, stores, options, words):
    code, _, err = heimdall(*ADD, *options)
    assert code in (1, 2)
    assert words in err
    assert "garden" not in [station.rx_id for station in list_stations(stores.database)]


@pytest.mark.parametrize("name", ["Roof [west]", "Roof [/]", "2001:db8:a:b::1"])
def test_a_name_is_printed_as_it_was_given(heimdall, stores, name):
    assert heimdall(*ADD, "--name", name)[0] == 0
    code, shown, error = heimdall("station", "list")
    assert code == 0, error
    assert name in shown


def test_an_rx_id_of_2000_characters_is_refused_before_anything_is_stored(heimdall, stores, tmp_path):
    code, _, err = heimdall("station", "add", "r" * 2000, "--latitude", 45, "--longitude", 7)
    assert code == 1
    assert f"rx_id has 2000 characters, up to {MAX_RX_ID_CHARACTERS} are allowed" in err
    (file,) = npy_files(tmp_path, {"torino": noise(50_000)})
    long = type(file)(file.path, "r" * 2000, (45.0, 7.0, 0.0))
    with pytest.raises(StationError, match="rx_id has 2000 characters"):
        import_files(stores, [long], **npy_options())
    assert list(stores.objects.entries(stores.objects.raw_iq_bucket, "")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("session", "list", "--limit", 2**62),
        ("session", "list", "--limit", TOO_MUCH),
        ("session", "backfill", "--limit", 2**62),
        ("session", "import", "none.wav", "--full-scale-dbm", 1e300),
        ("session", "import", "none.wav", "--name", "n" * 5000),
        ("session", "record", "--frequency", "nankHz", "--all-active"),
        ("session", "record", "--frequency", "7MHz", "--all-active", "--duration", "inf"),
        ("session", "record", "--frequency", "7MHz", "--all-active", "--max-stations", -(2**62)),
        ("session", "record", "--frequency", "7MHz", "--stations", "r" * 2000),
        ("dataset", "create", "day", "--num-samples", TOO_MUCH),
        ("dataset", "create", "day", "--num-samples", -1),
        ("dataset", "create", "day", "--num-samples", 5, "--seed", 2**63 - 1),
        ("dataset", "create", "day", "--num-samples", 5, "--min-snr-db", "1e400"),
        ("dataset", "create", "day", "--num-samples", 5, "--tx-power-dbm", "nan"),
        ("dataset", "create", "day", "--num-samples", 5, "--batch-size", TOO_MUCH),
        ("dataset", "expand", "night", "--by", 2**62),
        ("dataset", "shrink", "night", "--to", -(2**62)),
        ("dataset", "iq", "night", 2**62, "-o", "folder"),
        ("dataset", "iq", "night", -1, "-o", "folder"),
        ("dataset", "repair", "night", "--sample", 2**62),
        ("dataset", "repair", "night", "--sample", 2**62, "--apply"),
        ("alerts", "list", "--limit", 2**62),
        ("metrics", "--serve", "9" * 5000),
    ],
)
def test_huge_and_negative_numbers_end_with_one_message(heimdall, stores, arguments, monkeypatch, tmp_path):
    add(stores, "night", 2)
    monkeypatch.chdir(tmp_path)
    code, _, err = heimdall(*arguments)  # a traceback would be another exception than SystemExit
    assert code in (0, 1, 2)
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_of_any_encoding_is_written(environment, tmp_path, encoding):
    home = {"HEIMDALL_HOME": tmp_path, "DAGSTER_HOME": tmp_path, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    for arguments, code in (
        (("--help",), 0),
        (("session", "import", "--help"), 0),
        (("station", "list"), 0),
        (("station", "add", "Zürich📡", "--latitude", 45, "--longitude", 7), 1),
    ):
        done = run(*arguments, **environment, **home)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        (done.stdout + done.stderr).decode(encoding)


@pytest.mark.programs
@pytest.mark.parametrize("home", ["/proc/heimdall", "FILE/home"])
@pytest.mark.parametrize("arguments", [("station", "list"), ("dev",), ("session", "list")])
def test_a_home_that_cannot_be_written_is_one_message(tmp_path, home, arguments):
    (tmp_path / "FILE").write_text("a file")
    done = run(*arguments, HEIMDALL_HOME=home if home.startswith("/") else tmp_path / home)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "set HEIMDALL_HOME to one that can" in line


USES_KERNELS = """
import numpy as np
from heimdall_pipelines.rf.philox import Purpose, generator
print(generator(seed=1, sample_idx=2, purpose=Purpose.NOISE).standard_normal(3))
import heimdall_pipelines.rf.features
import matplotlib.figure
"""


@pytest.mark.slow
@pytest.mark.programs
def test_without_any_folder_for_caches_the_numbers_are_the_same(tmp_path):
    """Neither HOME nor the folder of the package can be written; as root only numba's own choice can show that."""
    (tmp_path / "FILE").write_text("a file")
    unwritable = str(tmp_path / "FILE" / "cache")
    lacking = {
        "HOME": unwritable,
        "XDG_CACHE_HOME": unwritable,
        "XDG_CONFIG_HOME": unwritable,
        "MPLCONFIGDIR": unwritable,
        "NUMBA_CACHE_DIR": unwritable,
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    numbers = {}
    for name, variables in (("usual", {}), ("lacking", lacking)):
        command = [sys.executable, "-c", USES_KERNELS]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        numbers[name] = done.stdout
    assert numbers["lacking"] == numbers["usual"]
