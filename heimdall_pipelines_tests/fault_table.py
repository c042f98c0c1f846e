"""The table of faults in docs/reliability.md, made by the tests that inject them.

A test with the marker ``fault("title")`` records its result with the fixture `fault`. At the end of a run the
table must say the same, for every test file that ran as a whole; ``make reliability`` writes the table where it does
not. The row of a test that was skipped (a program is missing on this machine) or deselected as slow stays as it is.
With pytest-xdist each worker process sends its rows to the controller.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

MARKER = "fault"
WHOLE = ("", "not slow", "slow", MARKER, f"{MARKER} or slow")  # values of -m; tests that they deselect keep their rows
WRITE = "HEIMDALL_TEST_WRITE_RELIABILITY"
DOCUMENT = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN = "<!-- made by: make reliability -->"
END = "<!-- until here -->"
HEADER = "| fault | detected by | result | test |\n|---|---|---|---|"
_KEY = "heimdall_faults"

Key: TypeAlias = tuple[str, str]  # file and title of a test


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    detected_by: str
    result: str
    test_file: str

    def __str__(self) -> str:
        return f"| {self.fault} | {self.detected_by} | {self.result} | `{self.test_file}` |"


class FaultTable:
    """A pytest plugin that collects what this run recorded, in any order of the tests."""

    def __init__(self) -> None:
        self._collected: list[Key] = []
        self._recorded: dict[Key, Row] = {}
        self._skipped_ids: set[str] = set()
        self._skipped: set[Key] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the tests that are skipped."""
        if report.skipped:
            self._skipped_ids.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note all tests as they stand in their files, before any is deselected."""
        self._collected += _keys(items)

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Note the tests that are deselected."""
        self._skipped.update(_keys(items))

    def add(self, row: Row) -> None:
        assert "|" not in row.fault + row.detected_by + row.result
        self._recorded[row.test_file, row.fault] = row

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Compare the table of the document with what this run recorded, or write it."""
        config = session.config
        for item in session.items:
            key = fault_of(item)
            if key is not None and item.nodeid in self._skipped_ids:
                self._skipped.add(key)
        if hasattr(config, "workeroutput"):
            rows = [vars(row) for row in self._recorded.values()]
            config.workeroutput[_KEY] = self._collected, list(self._skipped), rows
        elif exitstatus == pytest.ExitCode.OK and not _is_part(config):
            problem = self._compare_or_write()
            if problem:
                _fail(session, problem)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the rows of an xdist worker; one that crashed sent nothing, and its test failed."""
        collected, skipped, rows = getattr(node, "workeroutput", {}).get(_KEY, ((), (), ()))
        self._collected += [(test_file, title) for test_file, title in collected]
        self._skipped |= {(test_file, title) for test_file, title in skipped}
        for row in rows:
            self.add(Row(**row))

    def _compare_or_write(self) -> str:
        """Describe the difference; empty if there is none."""
        # Every process collects all tests. Files in the order of their names, tests as they stand in them.
        collected = sorted(dict.fromkeys(self._collected), key=lambda key: key[0])
        unrecorded = [": ".join(key) for key in collected if key not in self._recorded and key not in self._skipped]
        if unrecorded:
            return "\n".join(["tests that recorded nothing:", *unrecorded])
        before, rows, after = _split(DOCUMENT.read_text())
        known = {(_test_file(row), _fault(row)): row for row in rows}
        lines = {key: known[key] for key in self._skipped if key in known}
        lines |= {key: str(row) for key, row in self._recorded.items()}
        files = {test_file for test_file, _ in collected}
        here = Path(__file__).parent
        kept = [row for row in rows if _test_file(row) not in files and (here / _test_file(row)).exists()]
        made = sorted([*kept, *(lines[key] for key in collected if key in lines)], key=_test_file)
        if made == rows:
            return ""
        changed = sorted(set(made) ^ set(rows)) or ["its order"]
        if os.environ.get(WRITE):
            DOCUMENT.write_text("\n".join([before + BEGIN, HEADER, *made, END + after]))
            return "\n".join(["docs/reliability.md differed from this run and was updated; review:", *changed])
        return "\n".join(["docs/reliability.md differs from this run; run: make reliability", *changed])


@dataclass(frozen=True)
class Fault:
    """Records the line of one test."""

    table: FaultTable
    title: str
    test_file: str

    def record(self, *, detected_by: str | Iterable[str], result: str) -> None:
        """Record the result; names of checks and errors are set as code. The text must be the same in every run."""
        if not isinstance(detected_by, str):
            detected_by = ", ".join(f"`{name}`" for name in detected_by) or "nothing to detect"
        self.table.add(Row(self.title, detected_by, result, self.test_file))


def _keys(items: Iterable[pytest.Item]) -> list[Key]:
    return [key for item in items if (key := fault_of(item)) is not None]


def fault_of(item: pytest.Item) -> Key | None:
    """File and title of a test that injects a fault."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return None
    return item.path.relative_to(Path(__file__).parent).as_posix(), marker.args[0]


def _fail(session: pytest.Session, problem: str) -> None:
    """Let the run fail as if the document were a test."""
    name = f"docs/{DOCUMENT.name}"
    report = pytest.TestReport(name, (name, None, name), {}, "failed", problem, "teardown")
    session.config.hook.pytest_runtest_logreport(report=report)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_part(config: pytest.Config) -> bool:
    option = config.option
    return bool(
        option.collectonly
        or option.keyword
        or option.markexpr not in WHOLE
        or getattr(option, "lf", False)  # of a plugin that may be off
        or any("::" in arg for arg in config.args)
    )


def _split(document: str) -> tuple[str, list[str], str]:
    before, _, rest = document.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = [line for line in table.strip().splitlines() if line.startswith("|")]
    return before, rows[2:], after


def _fault(row: str) -> str:
    return row.split("|")[1].strip()


def _test_file(row: str) -> str:
    return row.rstrip(" |").rpartition("|")[2].strip(" `")
