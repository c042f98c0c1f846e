"""The table of faults in docs/reliability.md, made by the tests that inject them.

A test with the marker ``fault("title")`` takes the fixture `fault` and records what it saw. At the end of a run the
table must say the same, for every test file that ran as a whole; ``make reliability`` writes it instead.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MARKER = "fault"
WRITE = "HEIMDALL_TEST_WRITE_RELIABILITY"
DOCUMENT = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN = "<!-- made by: make reliability -->"
END = "<!-- until here -->"
HEADER = "| fault | found by | what came of it | test |\n|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    found_by: str
    came_of_it: str
    test_file: str

    def __str__(self) -> str:
        return f"| {self.fault} | {self.found_by} | {self.came_of_it} | `{self.test_file}` |"


@dataclass
class FaultTable:
    """What this run recorded, in whatever order the tests ran."""

    recorded: dict[tuple[str, str], Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        assert "|" not in row.fault + row.found_by + row.came_of_it
        self.recorded[row.test_file, row.fault] = row

    def rows(self, collected: Iterable[tuple[str, str]]) -> list[Row]:
        """Those of some tests: files in the order of their names, tests as they stand in them."""
        return [self.recorded[key] for key in sorted(collected, key=lambda key: key[0]) if key in self.recorded]


@dataclass(frozen=True)
class Fault:
    """Records the line of one test."""

    table: FaultTable
    title: str
    test_file: str

    def record(self, *, found_by: str | Iterable[str], came_of_it: str) -> None:
        """Keep what was seen; names of checks and errors are set as code. Nothing that differs from run to run."""
        if not isinstance(found_by, str):
            found_by = ", ".join(f"`{name}`" for name in found_by) or "nothing to find"
        self.table.add(Row(self.title, found_by, came_of_it, self.test_file))


def fault_of(item: pytest.Item) -> tuple[str, str] | None:
    """File and title of a test that injects a fault."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return None
    return item.path.relative_to(Path(__file__).parent).as_posix(), marker.args[0]


def compare_or_write(table: FaultTable, session: pytest.Session) -> None:
    """Compare the table of the document with what this run recorded, or write it."""
    if session.testsfailed or _is_part(session.config):
        return
    collected = list(dict.fromkeys(key for key in map(fault_of, session.items) if key is not None))
    before, rows, after = _split(DOCUMENT.read_text())
    files = {test_file for test_file, _ in collected}
    unrecorded = [f"{test_file}: {title}" for test_file, title in collected if (test_file, title) not in table.recorded]
    assert not unrecorded, f"tests that recorded nothing: {unrecorded}"
    kept = [row for row in rows if _test_file(row) not in files and (Path(__file__).parent / _test_file(row)).exists()]
    made = sorted([*kept, *map(str, table.rows(collected))], key=_test_file)
    if os.environ.get(WRITE):
        DOCUMENT.write_text("\n".join([before + BEGIN, HEADER, *made, END + after]))
    elif made != rows:
        changed = sorted(set(made) ^ set(rows)) or ["its order"]
        pytest.fail("docs/reliability.md is not what this run saw; run: make reliability\n" + "\n".join(changed), False)


def _is_part(config: pytest.Config) -> bool:
    option = config.option
    return bool(
        option.keyword or option.markexpr not in ("", MARKER) or option.lf or any("::" in arg for arg in config.args)
    )


def _split(document: str) -> tuple[str, list[str], str]:
    before, _, rest = document.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = [line for line in table.strip().splitlines() if line.startswith("|")]
    return before, rows[2:], after


def _test_file(row: str) -> str:
    return row.rstrip(" |").rpartition("|")[2].strip(" `")
