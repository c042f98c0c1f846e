"""The door: which files are understood, and what is said of those that are not."""

import os

import pytest

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording

from .support import GIVEN, kiwi_file, noise


def test_the_error_is_one_for_people_and_a_value_error():
    error = RecordingFormatError("a.wav", "is damaged", 36)
    assert isinstance(error, HeimdallError)
    assert isinstance(error, ValueError)
    assert str(error) == "a.wav: at byte 36: is damaged"
    assert str(RecordingFormatError("a.wav", "is damaged")) == "a.wav: is damaged"


@pytest.mark.parametrize("name", ["a.wav", "a.npy", "a.bin", "a.sigmf-meta", "a.sigmf-data"])
def test_a_missing_file_is_an_error_of_the_recording(tmp_path, name):
    with pytest.raises(RecordingFormatError, match="cannot be opened: No such file"):
        open_recording(tmp_path / name, **GIVEN)


@pytest.mark.parametrize("name", ["a.wav", "a.npy", "a.bin", "a.sigmf-meta"])
def test_a_directory_or_a_pipe_is_an_error_of_the_recording(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(RecordingFormatError, match="not a file"):
        open_recording(tmp_path / name, **GIVEN)
    os.mkfifo(tmp_path / f"pipe{name}")
    with pytest.raises(RecordingFormatError, match="not a file"):
        open_recording(tmp_path / f"pipe{name}", **GIVEN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_an_error_of_the_recording(tmp_path):
    path = tmp_path / "a.cf32"
    noise(10).tofile(path)
    path.chmod(0)
    with pytest.raises(RecordingFormatError, match="Permission denied"):
        open_recording(path, **GIVEN)


def test_a_name_with_a_nul_is_an_error_of_the_recording():
    with pytest.raises(RecordingFormatError, match="cannot be opened"):
        open_recording("a\0.bin", **GIVEN)


@pytest.mark.parametrize("name", ["a.mp3", "a", "wav"])
def test_an_unknown_suffix_lists_what_is_understood(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(80))
    with pytest.raises(RecordingFormatError, match=r"\.wav.*\.sigmf-meta.*\.npy.*\.cf32.*\.bin"):
        open_recording(tmp_path / name, **GIVEN)


def test_a_raw_format_is_refused_for_files_that_describe_themselves(tmp_path):
    with pytest.raises(RecordingFormatError, match="give no raw format"):
        open_recording(kiwi_file(tmp_path), raw_format="ci16")


def test_an_unknown_raw_format_is_refused(tmp_path):
    (tmp_path / "a.cf32").write_bytes(bytes(80))
    with pytest.raises(ValueError, match="cf32, cf64, ci8, cu8, ci16"):
        open_recording(tmp_path / "a.cf32", raw_format="ci12", **GIVEN)


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("sample_rate_hz", 0.0, "--sample-rate"),
        ("sample_rate_hz", -1.0, "--sample-rate"),
        ("sample_rate_hz", float("nan"), "--sample-rate"),
        ("sample_rate_hz", float("inf"), "--sample-rate"),
        ("sample_rate_hz", 1e-320, "--sample-rate"),
        ("frequency_hz", float("nan"), "--frequency"),
        ("frequency_hz", float("inf"), "--frequency"),
        ("start_time_unix_ns", -1, "--start"),
        ("start_time_unix_ns", 10**30, "--start"),
    ],
)
@pytest.mark.parametrize("kind", ["cf32", "wav"])
def test_a_given_value_that_cannot_be_is_refused_by_its_option(tmp_path, kind, option, value, hint):
    path = kiwi_file(tmp_path) if kind == "wav" else tmp_path / "a.cf32"
    if kind == "cf32":
        noise(10).tofile(path)
    with pytest.raises(RecordingFormatError, match=hint):
        open_recording(path, **(GIVEN | {option: value}))
