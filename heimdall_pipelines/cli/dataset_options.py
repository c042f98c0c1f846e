"""Options for the parameters of a dataset, generated from `DatasetSpec`: it alone knows names, defaults and ranges."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from heimdall_pipelines.datasets.spec import DatasetSpec, allowed_values

_NAMES = {"dataset_type": "type", "use_random_receivers": "random-receivers"}  # others: the field with - for _
_TYPES = {"number": float, "integer": int, "string": str, "boolean": bool}

_PARAMETERS = "Parameters, frozen when the dataset is created"
_SWITCHES = "Parameters that are on or off"


def option_name(field: str) -> str:
    """Long name of the option for a field of `DatasetSpec`, without the dashes.

    >>> option_name("tx_power_dbm")
    'tx-power-dbm'
    """
    return _NAMES.get(field, field.replace("_", "-"))


def with_spec_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of `DatasetSpec`.

    The command's parameter ``parameters`` becomes the mapping of those fields that were given. Their values are checked
    by `parse_spec`, which names all that is wrong at once.
    """
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "parameters"]
    schemas = DatasetSpec.model_json_schema()["properties"]
    options = [_option(field, schema) for field, schema in schemas.items()]
    kinds = {field: _kind(schema) for field, schema in schemas.items()}

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        given = {field: value for field in kinds if (value := values.pop(field)) is not None}
        command(**values, parameters={field: _read(kinds[field], value) for field, value in given.items()})

    signature = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own + options]
    )
    with_options.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads
    with_options.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return with_options


def _option(field: str, schema: dict[str, Any]) -> inspect.Parameter:
    kind = _kind(schema)
    name = option_name(field)
    option = typer.Option(
        f"--{name}/--no-{name}" if kind is bool else f"--{name}",
        help=_help(field, schema),
        metavar="" if kind is bool else kind.__name__,
        show_default=False,  # None stands for "not given"
        rich_help_panel=_SWITCHES if kind is bool else _PARAMETERS,
    )
    return inspect.Parameter(
        field,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[(bool if kind is bool else str) | None, option],
    )


def _kind(schema: dict[str, Any]) -> type:
    return _TYPES[_values(schema)["type"]]


def _read(kind: type, value: Any) -> Any:
    """Give a number where it is one; `parse_spec` says best what is wrong with anything else."""
    try:
        return kind(value)
    except ValueError:
        return value


def _help(field: str, schema: dict[str, Any]) -> str:
    default = schema["default"]
    if isinstance(default, bool):
        default = "on" if default else "off"
    elif isinstance(default, int | float):
        default = f"{default:g}"
    given = "default: none" if default is None else f"default {default}"
    return f"{schema['description']}; " + ", ".join(part for part in (allowed_values(field), given) if part)


def _values(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may be given; null cannot, it is only a default."""
    return next((part for part in schema.get("anyOf", []) if part["type"] != "null"), schema)
