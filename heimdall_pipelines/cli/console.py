"""Output of the command line: results to standard output, progress and errors to standard error.

The first written line loads Rich, which a command's help does not need.
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_OF_FILES = 200  # tables in a file or a pipe are not limited to a terminal's width


class Output:
    """A console that is created at first use.

    Parameters
    ----------
    is_errors : bool
        Use standard error, whose lines are never wrapped, instead of standard output.
    """

    def __init__(self, *, is_errors: bool) -> None:
        self._is_errors = is_errors

    @cached_property
    def console(self) -> Console:
        """The console of Rich."""
        from rich.console import Console

        if self._is_errors:
            return Console(stderr=True, highlight=False, soft_wrap=True)
        return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)

    @property
    def is_terminal(self) -> bool:
        """Whether the output is a terminal."""
        return self.console.is_terminal

    def print(self, *what: Any, **options: Any) -> None:
        """Print as `rich.console.Console.print` does."""
        self.console.print(*what, **options)

    def print_json(self, document: str) -> None:
        """Print a JSON document, indented."""
        self.console.print_json(document)


output = Output(is_errors=False)
errors = Output(is_errors=True)


def show_progress(line: str) -> None:
    """Show a line of progress."""
    errors.print(line, style="dim")


def escape(text: str) -> str:
    """Escape text, so that Rich does not parse it as markup."""
    from rich import markup

    return markup.escape(text)


def table(first: str, *others: str) -> Table:
    """Create an empty table; its first column, with the name of the row, is never wrapped."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first, no_wrap=True)
    for header in others:
        made.add_column(header)
    return made
