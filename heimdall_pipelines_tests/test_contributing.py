"""The examples of CONTRIBUTING.md are code that works: its reader reads, its feature and its check are well-formed."""

import inspect
import re
import struct
import textwrap

import numpy as np
import pytest

from heimdall_pipelines.datasets.row_checks import RowChecks
from heimdall_pipelines.formats import file_formats, iq_recording, samples
from heimdall_pipelines.formats.iq_recording import GivenValues
from heimdall_pipelines.formats.samples import RecordingFormatError
from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES, Feature
from heimdall_pipelines_tests import PROJECT_FOLDER

RATE_HZ, FREQUENCY_HZ = 12_000.0, 77_500.0


def blocks_of(heading: str) -> list[str]:
    section = (PROJECT_FOLDER / "CONTRIBUTING.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    blocks = re.findall(r"^   ```python\n(.*?)^   ```", section.split("\n## ")[0], re.S | re.M)
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture
def c64(tmp_path):
    """A file of the example's format, and the example's functions."""
    reader, entry = blocks_of("Add a file format")
    names = {**vars(samples), **vars(iq_recording), **vars(file_formats), "struct": struct}
    exec(reader, names)
    exec("from __future__ import annotations\n" + entry.replace("    ...,\n", ""), names)
    path = tmp_path / "a.c64"
    path.write_bytes(struct.pack("<dd", RATE_HZ, FREQUENCY_HZ) + np.arange(100, dtype="<c8").tobytes())
    return path, names


def test_the_reader_of_the_example_reads_what_a_file_holds(c64):
    path, names = c64
    recording = names["open_c64"](path, GivenValues(start_time_unix_ns=0))
    assert (recording.sample_rate_hz, recording.frequency_hz) == (RATE_HZ, FREQUENCY_HZ)
    assert np.concatenate(list(recording.blocks(64))) == pytest.approx(np.arange(100))


def test_the_reader_of_the_example_names_where_a_damaged_file_ends(c64):
    path, names = c64
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RecordingFormatError, match=r"a\.c64.*ends within its header or a sample: 813 bytes"):
        names["open_c64"](path, GivenValues())


def test_the_entry_of_the_example_has_the_form_of_the_table_of_formats(c64):
    _, names = c64
    (entry,) = names["FILE_FORMATS"]
    assert entry.suffixes == (".c64",)
    assert entry.reader is names["_open_c64"]
    assert inspect.signature(entry.reader) == inspect.signature(file_formats.FILE_FORMATS[0].reader)


def test_the_feature_of_the_example_is_a_new_one():
    version, line = re.fullmatch(r"FEATURE_VERSION = (\d+)\n\.\.\.\n(.*)", blocks_of("Add a feature")[0], re.S).groups()
    (feature,) = eval(f"({line.strip()})")
    assert isinstance(feature, Feature)
    assert feature.name not in FEATURE_NAMES
    assert feature.since == int(version)


def test_the_check_of_the_example_is_called_like_the_others():
    method = {}
    exec("from heimdall_pipelines.datasets.row_checks import *\n" + blocks_of("Add a check")[1], method)
    assert "_truth" in vars(RowChecks)
    assert list(inspect.signature(method["_power"]).parameters) == ["self", "row"]
