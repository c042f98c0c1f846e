"""The table of formats is the one place for suffixes, readers and their descriptions."""

import os
import subprocess
import sys
from pathlib import Path

from heimdall_pipelines.formats.file_formats import FILE_FORMATS, RAW_FORMATS, format_of
from heimdall_pipelines.formats.raw_files import RAW_ENCODINGS
from heimdall_pipelines_tests import PROJECT_FOLDER

PAGE = PROJECT_FOLDER / "docs" / "recordings.md"


def test_every_suffix_belongs_to_one_format():
    suffixes = [suffix for one in FILE_FORMATS for suffix in one.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    for one in FILE_FORMATS:
        for suffix in one.suffixes:
            assert format_of(Path(f"a{suffix.upper()}")) is one


def test_the_documented_formats_are_those_of_the_table():
    rows = [f"| {one.description} | {one.states} | {one.options} |".replace("|  |", "| |") for one in FILE_FORMATS]
    before, header, rest = PAGE.read_text().partition("| file | contains | options needed |\n|---|---|---|\n")
    written, blank, after = rest.partition("\n\n")
    if os.environ.get("HEIMDALL_TEST_WRITE_DOCS") == "1":
        PAGE.write_text("".join([before, header, "\n".join(rows), blank, after]))
        return
    assert written.splitlines() == rows, "write it with: HEIMDALL_TEST_WRITE_DOCS=1 python -m pytest -k documented"


def test_raw_formats_have_an_encoding_each():
    assert tuple(RAW_ENCODINGS) == RAW_FORMATS


def test_the_table_loads_without_numpy_and_readers():
    code = "import sys, heimdall_pipelines.formats.file_formats; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" not in loaded
    assert not any(name.startswith("heimdall_pipelines.formats.kiwi") for name in loaded)
