"""Where the command line writes: results to standard output, progress and errors to standard error.

Rich is loaded by the first line that is written: a command's help needs none of it.
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_OF_FILES = 200  # a table that goes to a file or a pipe is not squeezed to a terminal's width


class Output:
    """A console that is made when it is first needed.

    Parameters
    ----------
    is_errors : bool
        Standard error, whose lines are never wrapped, instead of standard output.
    """

    def __init__(self, *, is_errors: bool) -> None:
        self._is_errors = is_errors

    @cached_property
    def console(self) -> Console:
        """Rich's own."""
        from rich.console import Console

        if self._is_errors:
            return Console(stderr=True, highlight=False, soft_wrap=True)
        return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)

    @property
    def is_terminal(self) -> bool:
        """Whether people read along."""
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
    """Keep Rich from reading text as markup."""
    from rich import markup

    return markup.escape(text)


def table(first: str, *others: str) -> Table:
    """Make an empty table; its first column, which names the row, is never wrapped."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first, no_wrap=True)
    for header in others:
        made.add_column(header)
    return made
