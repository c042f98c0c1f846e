"""Formats of headerless files: implied by the suffix, asked for, and never guessed wrongly."""

import numpy as np
import pytest

from heimdall_pipelines.formats.file_formats import RAW_FORMATS, SUFFIX_RAW_FORMATS
from heimdall_pipelines.formats.raw_formats import RAW_ENCODINGS, implausibility, likely_format
from heimdall_pipelines.formats.recording import RecordingFormatError, open_recording

from .support import GIVEN, all_samples

TONE = (0.5 * np.exp(2j * np.pi * 1000 / 48_000 * np.arange(20_000))).astype(np.complex64)


def stored(raw_format, iq=TONE, level=1.0):
    encoding = RAW_ENCODINGS[raw_format]
    rng = np.random.default_rng(1)
    values = level * (iq.view(np.float32) + 0.01 * rng.standard_normal(2 * iq.size))
    if encoding.is_integer:
        values = np.rint(values * (encoding.full_scale - 1) + encoding.zero)
    return values.astype(encoding.component).tobytes()


@pytest.mark.parametrize("raw_format", RAW_FORMATS)
def test_every_raw_format_gives_its_samples(tmp_path, raw_format):
    (tmp_path / "a.bin").write_bytes(stored(raw_format))
    recording = open_recording(tmp_path / "a.bin", raw_format=raw_format, **GIVEN)
    assert (recording.num_samples, recording.encoding) == (20_000, raw_format)
    np.testing.assert_allclose(all_samples(recording), TONE, atol=0.08)


@pytest.mark.parametrize("suffix", SUFFIX_RAW_FORMATS)
def test_a_suffix_implies_its_format(tmp_path, suffix):
    raw_format = SUFFIX_RAW_FORMATS[suffix]
    (tmp_path / f"a{suffix}").write_bytes(stored(raw_format))
    assert open_recording(tmp_path / f"a{suffix}", **GIVEN).encoding == raw_format


@pytest.mark.parametrize("suffix", [".bin", ".iq", ".raw", ".dat"])
@pytest.mark.parametrize("raw_format", ["cf32", "ci8", "cu8", "ci16"])
def test_other_suffixes_ask_for_the_format_with_a_suggestion(tmp_path, suffix, raw_format):
    (tmp_path / f"a{suffix}").write_bytes(stored(raw_format))
    with pytest.raises(RecordingFormatError, match=f"give --raw-format.*look like {raw_format}"):
        open_recording(tmp_path / f"a{suffix}", **GIVEN)


@pytest.mark.parametrize("level", [1.0, 0.1])
@pytest.mark.parametrize("raw_format", ["cf32", "cf64", "cf32_be", "ci8", "cu8", "ci16", "ci16_be"])
def test_the_statistics_of_bytes_tell_the_format(raw_format, level):
    assert likely_format(stored(raw_format, level=level)[:65_536]) == raw_format


@pytest.mark.parametrize(
    ("content", "read_as"),
    [
        ("cu8", "cf32"),
        ("ci8", "cf32"),
        ("ci16", "cf32"),
        ("cu8", "ci8"),
        ("ci8", "cu8"),
        ("cf32", "ci16"),
        ("cf32", "cu8"),
    ],
)
def test_a_format_that_does_not_fit_the_bytes_is_refused(tmp_path, content, read_as):
    (tmp_path / "a.bin").write_bytes(stored(content, level=0.3))
    with pytest.raises(RecordingFormatError, match=f"look like {content}: give the right --raw-format"):
        open_recording(tmp_path / "a.bin", raw_format=read_as, **GIVEN)


@pytest.mark.parametrize("raw_format", RAW_FORMATS)
@pytest.mark.parametrize("content", [bytes(65_536), b"\x01\x02" * 100, b""])
def test_silence_and_a_few_bytes_are_not_judged(raw_format, content):
    assert raw_format in ("cu8", "cu16", "cu16_be") or implausibility(content, raw_format) is None
