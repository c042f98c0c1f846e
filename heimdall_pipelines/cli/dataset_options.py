"""Options for the parameters of a dataset, generated from their table, which has names, defaults and ranges."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from heimdall_pipelines.model.dataset_parameters import PARAMETERS, Parameter, allowed_values

_NAMES = {"dataset_type": "type", "use_random_receivers": "random-receivers"}  # others: the field with - instead of _

_PARAMETERS = "Parameters, frozen when the dataset is created"
_SWITCHES = "Parameters that are on or off"


def option_name(field: str) -> str:
    """Long name of the option for a field of `DatasetSpec`, without the dashes.

    >>> option_name("tx_power_dbm")
    'tx-power-dbm'
    """
    return _NAMES.get(field, field.replace("_", "-"))


def with_spec_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add one option for each field of `DatasetSpec` to a command.

    The command's parameter ``parameters`` is the mapping of the given fields. `parse_spec` checks their values, and
    reports all problems at once.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "parameters"]
    options = [_option(row) for row in PARAMETERS.values()]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        given = {name: value for name in PARAMETERS if (value := values.pop(name)) is not None}
        command(**values, parameters={name: _read(PARAMETERS[name].kind, value) for name, value in given.items()})

    signature = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own + options]
    )
    with_options.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads
    with_options.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return with_options


def _option(row: Parameter) -> inspect.Parameter:
    name = option_name(row.name)
    option = typer.Option(
        f"--{name}/--no-{name}" if row.kind is bool else f"--{name}",
        help=_help(row),
        metavar="" if row.kind is bool else row.kind.__name__,
        show_default=False,  # None stands for "not given"
        rich_help_panel=_SWITCHES if row.kind is bool else _PARAMETERS,
    )
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[(bool if row.kind is bool else str) | None, option],
    )


def _read(kind: type, value: Any) -> Any:
    """Convert to a number if possible; `parse_spec` reports other values."""
    try:
        return kind(value)
    except ValueError:
        return value


def _help(row: Parameter) -> str:
    default = row.default
    if isinstance(default, bool):
        default = "on" if default else "off"
    elif isinstance(default, int | float):
        default = f"{default:g}"
    given = "default: none" if default is None else f"default {default}"
    return f"{row.description}; " + ", ".join(part for part in (allowed_values(row.name), given) if part)
