"""Where the command line writes: results to standard output, progress and errors to standard error."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH_OF_FILES = 200  # a table that goes to a file or a pipe is not squeezed to a terminal's width

output = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def show_progress(line: str) -> None:
    """Show a line of progress."""
    errors.print(line, style="dim")


def table(first: str, *others: str) -> Table:
    """Make an empty table; its first column, which names the row, is never wrapped."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first, no_wrap=True)
    for header in others:
        made.add_column(header)
    return made
