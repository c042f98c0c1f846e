"""The real client, kiwirecorder, records from simulated KiwiSDRs; HEIMDALL_TEST_KIWIRECORDER names kiwirecorder.py."""

import os
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from heimdall_pipelines.formats.iq_recording import GivenValues
from heimdall_pipelines.formats.kiwi_wav import open_kiwi_wav
from heimdall_pipelines.receivers.signal_sources import WIDE_RATE_HZ, SyntheticSource
from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import run_simulated

from .support import FREQUENCY_HZ, GENOVA, TORINO, TRANSMISSION, synthetic

PROGRAM = os.environ.get("HEIMDALL_TEST_KIWIRECORDER")
TIMEOUT_S = 300.0
pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="HEIMDALL_TEST_KIWIRECORDER does not name kiwirecorder.py"),
    pytest.mark.programs,
]


def kiwirecorder(folder: Path, *urls: str, options: tuple[str, ...] = (), seconds: int = 6) -> list[Path]:
    """Run the program until its time limit; gives the files that it wrote, by name."""
    folder.mkdir(exist_ok=True)
    ports = ",".join(url.rpartition(":")[2] for url in urls)
    hosts = ",".join("127.0.0.1" for _ in urls)
    command = [
        sys.executable,
        str(Path(PROGRAM or "").resolve()),
        "-s",
        hosts,
        "-p",
        ports,
        "-f",
        f"{FREQUENCY_HZ / 1e3}",
    ]
    process = subprocess.run(
        [*command, f"--tlimit={seconds}", "-d", str(folder), *options],
        cwd=Path(PROGRAM or "").parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert process.returncode == 0, process.stdout
    assert "Traceback" not in process.stdout, process.stdout
    return sorted(folder.glob("*.wav"))


def audio_of(path: Path) -> tuple[int, np.ndarray]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)


@pytest.mark.parametrize("options", [("-m", "iq", "--kiwi-wav"), ("-m", "iq", "--kiwi-wav", "--ncomp")])
def test_iq_is_recorded_with_time_stamps_and_without_compression(tmp_path, options):
    began_ns = time.time_ns()  # kiwirecorder names its files by this machine's clock
    simulated = SimulatedKiwiSdr(SyntheticSource("torino", TORINO, TRANSMISSION))
    with run_simulated(simulated) as (url,):
        (path,) = kiwirecorder(tmp_path / "out", url, options=options)
    file = open_kiwi_wav(path, GivenValues())
    assert file.time_source == "gnss"
    assert began_ns < file.start_time_unix_ns < time.time_ns()
    iq = np.concatenate(list(file.blocks()))
    assert iq.size > 4 * 12_000
    assert 0.02 < np.std(iq) < 0.2  # the transmission, 25 dB above a noise of 0.003
    assert any(command.startswith("SET mod=iq ") for command in simulated.commands)


def test_three_receivers_are_recorded_at_once(tmp_path):
    simulated = [SimulatedKiwiSdr(synthetic(name, GENOVA)) for name in ("a", "b", "c")]
    with run_simulated(*simulated) as urls:
        paths = kiwirecorder(tmp_path / "out", *urls, options=("-m", "iq", "--station=a,b,c"))
    assert len(paths) == 3
    for path in paths:
        file = open_kiwi_wav(path, GivenValues())
        assert sum(block.size for block in file.blocks()) > 4 * 12_000
    assert all(len(receiver.connection_ids) == 1 for receiver in simulated)


def test_the_mode_of_20_khz_has_its_rate(tmp_path):
    with run_simulated(SimulatedKiwiSdr(synthetic(nominal_rate_hz=WIDE_RATE_HZ))) as (url,):
        (path,) = kiwirecorder(tmp_path / "out", url, options=("-m", "iq"))
    file = open_kiwi_wav(path, GivenValues())
    assert file.sample_rate_hz == pytest.approx(WIDE_RATE_HZ, rel=1e-4)


@pytest.mark.parametrize("mode", ["usb", "am", "nbfm"])
def test_audio_comes_compressed_by_default_and_is_decoded_to_the_uncompressed(tmp_path, mode):
    found = {}
    for name, options in (("compressed", ()), ("plain", ("--ncomp",))):
        simulated = SimulatedKiwiSdr(synthetic())
        with run_simulated(simulated) as (url,):
            (path,) = kiwirecorder(tmp_path / name, url, options=("-m", mode, *options))
        assert ("SET compression=0" in simulated.commands) == (name == "plain")
        rate_hz, found[name] = audio_of(path)
        assert rate_hz == 12_001
    size = min(audio.size for audio in found.values()) - 2_000
    plain, compressed = (found[name][1_000 : 1_000 + size] for name in ("plain", "compressed"))
    assert size > 3 * 12_000
    likeness = np.dot(plain, compressed) / np.sqrt(np.dot(plain, plain) * np.dot(compressed, compressed))
    assert likeness > 0.95  # 4 bits of a wide band


def test_a_mode_that_is_none_is_answered_as_by_the_server_with_am(tmp_path):
    simulated = SimulatedKiwiSdr(synthetic())
    with run_simulated(simulated) as (url,):
        (path,) = kiwirecorder(tmp_path / "out", url, options=("-m", "wxyz", "-L", "-4900", "-H", "4900"))
    assert any(command.startswith("SET mod=wxyz ") for command in simulated.commands)
    assert audio_of(path)[1].size > 3 * 12_000


def test_a_password_is_asked_for(tmp_path):
    simulated = SimulatedKiwiSdr(synthetic(), password="sesame")
    with run_simulated(simulated) as (url,):
        (path,) = kiwirecorder(tmp_path / "out", url, options=("-m", "iq", "--pw=sesame"))
        assert path.stat().st_size > 100_000
        with pytest.raises(AssertionError, match="KiwiBadPasswordError"):
            kiwirecorder(tmp_path / "none", url, options=("-m", "iq", "--pw=wrong"))


def test_a_client_camps_on_the_stream_of_another(tmp_path):
    simulated = SimulatedKiwiSdr(synthetic())
    with run_simulated(simulated) as (url,):
        listening = threading.Thread(
            target=kiwirecorder, args=(tmp_path / "first", url), kwargs={"options": ("-m", "iq"), "seconds": 25}
        )
        listening.start()
        try:
            while simulated.num_users == 0:
                listening.join(0.1)
                assert listening.is_alive()
            (path,) = kiwirecorder(tmp_path / "camp", url, options=("-m", "iq", "--camp=0"))
        finally:
            listening.join()
    with wave.open(str(path)) as file:
        assert file.getnchannels() == 2
        assert file.getnframes() > 3 * 12_000
    assert simulated.commands.count("SET MON_CAMP=0") == 1
