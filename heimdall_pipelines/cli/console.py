"""Output of the command line: results to standard output, progress and errors to standard error.

The first written line loads Rich, which a command's help does not need.
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console, RenderableType
    from rich.table import Table

_WIDTH_OF_FILES = 200  # tables in a file or a pipe are not limited to a terminal's width


class Output:
    """A console that is created at first use.

    Parameters
    ----------
    is_errors : bool
        Use standard error instead of standard output.
    """

    def __init__(self, *, is_errors: bool) -> None:
        self._is_errors = is_errors

    @cached_property
    def console(self) -> Console:
        """The console of Rich: names that people and files give are printed as they are, in tables too."""
        from rich.console import Console

        return Console(
            stderr=self._is_errors,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=self._is_errors,
            width=None if self._is_errors or sys.stdout.isatty() else _WIDTH_OF_FILES,
        )

    @property
    def is_terminal(self) -> bool:
        """Whether the output is a terminal."""
        return self.console.is_terminal

    def print(self, what: RenderableType = "", *, markup: bool = False, style: str | None = None) -> None:
        """Print a table, or text, whose lines are not wrapped.

        Parameters
        ----------
        what : str or rich.table.Table, optional
        markup : bool, optional
            The text has Rich's markup, such as ``[bold]``, and nothing that people or files gave.
        style : str, optional
            Of Rich.
        """
        self.console.print(what, markup=markup, style=style, soft_wrap=isinstance(what, str))

    def print_labelled(self, label: str, style: str, text: str) -> None:
        """Print a line that begins with a word in a style of Rich."""
        from rich.text import Text

        self.console.print(Text.assemble((label, style), f" {text}"), soft_wrap=True)

    def print_json(self, document: Any) -> None:
        """Print what JSON can hold, indented, in colours on a terminal."""
        self.console.print_json(data=document)


output = Output(is_errors=False)
errors = Output(is_errors=True)


def show_progress(line: str) -> None:
    """Show a line of progress."""
    errors.print(line, style="dim")


def print_error(error: object) -> None:
    """Write an error to standard error."""
    errors.print_labelled("Error:", "bold red", str(error))


def number_text(value: float | None, decimals: int) -> str:
    """Format a number for a table, without the sign of a rounded zero; nothing for None.

    >>> number_text(-0.04, 1), number_text(None, 1)
    ('0.0', '')
    """
    return "" if value is None else f"{value:z.{decimals}f}"


def time_text(moment: datetime | None) -> str:
    """Format a time for people, to the second; nothing for None."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def table(first: str, *others: str) -> Table:
    """Create an empty table; its first column, with the name of the row, is never wrapped."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first, no_wrap=True)
    for header in others:
        made.add_column(header)
    return made
