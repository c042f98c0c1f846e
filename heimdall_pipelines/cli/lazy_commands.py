"""Commands whose modules are loaded on first use, and help without Rich."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

_MAX_INTEGER = 2**63 - 1  # of PostgreSQL's bigint


@dataclass(frozen=True)
class Place:
    """Where a command is defined; ``help`` is its line in the list of commands, which loads no module."""

    module: str
    attribute: str
    help: str


class LightGroup(TyperGroup):
    """A group without pydantic, which typer loads for each flag without a default."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Set the default of flags without one to False."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return parameters


class OnDemandGroup(LightGroup):
    """A group that makes a command when it is called: to make one takes longer than to write its help."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self._waiting: dict[str, Any] = {}

    def wait_with(self, commands: list[Any]) -> None:
        """Add commands as typer registers them; the group lists them with the first line of their help."""
        for info in commands:
            name = info.name or info.callback.__name__.replace("_", "-")
            description = inspect.cleandoc(info.help) if info.help else inspect.getdoc(info.callback)
            self._waiting[name] = info
            self.commands[name] = TyperCommand(
                name, help=description, hidden=info.hidden, deprecated=info.deprecated, rich_markup_mode=None
            )

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Make and return a command."""
        if cmd_name in self._waiting:
            holder = _holder()
            holder.registered_commands.append(self._waiting.pop(cmd_name))
            self.commands[cmd_name] = _only_command(holder, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, of which none is made for it."""
        TyperGroup(commands=dict(self.commands), rich_markup_mode=None).format_commands(ctx, formatter)


class LazyGroup(LightGroup):
    """A group with a table of its commands, each loaded on first use; subclasses define the table."""

    places: ClassVar[Mapping[str, Place]] = {}

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, place in self.places.items():
            self.commands[name] = TyperCommand(name, help=place.help, rich_markup_mode=None)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  # typer's copies of click's types are private
        """Load and return a command."""
        place = self.places.get(cmd_name)
        if place is None:
            return None
        target = getattr(import_module(place.module), place.attribute)
        holder = _holder()
        if isinstance(target, typer.Typer):
            commands, target.registered_commands = target.registered_commands, []
            holder.add_typer(target, name=cmd_name, cls=OnDemandGroup)
            group = _only_command(holder, cmd_name)
            target.registered_commands = commands
            group.wait_with(commands)
            return group
        holder.command(cmd_name)(target)
        return _only_command(holder, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """List the commands with their lines from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in self.places.items()])


def _holder() -> typer.Typer:
    return typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_show_locals=False)


def _only_command(holder: typer.Typer, name: str) -> Any:
    command = typer.main.get_group(holder).commands[name]
    if command.callback is not None:
        command.callback = _with_possible_numbers(command.callback)
    return command


def _with_possible_numbers(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command accept only numbers that are finite and have at most 64 bits.

    Ranges of options let NaN pass, which compares as neither too small nor too large.
    """

    @functools.wraps(callback)
    def checked(*arguments: Any, **values: Any) -> Any:
        for name, value in values.items():
            for number in value if isinstance(value, list | tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise typer.BadParameter(f"--{name.replace('_', '-')} {number}: a finite number is expected")
                if isinstance(number, int) and abs(number) > _MAX_INTEGER:
                    raise typer.BadParameter(f"--{name.replace('_', '-')} {number}: it has more than 64 bits")
        return callback(*arguments, **values)

    return checked


class SectionedCommand(TyperCommand):
    """A command whose help shows each panel of options as a section."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel, in order of appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if record is not None:
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
