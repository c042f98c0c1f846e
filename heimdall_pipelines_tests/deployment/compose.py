"""docker-compose.yml as Compose reads it: anchors merged, variables put in."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from heimdall_pipelines_tests import PROJECT_FOLDER

COMPOSE_FILE = PROJECT_FOLDER / "docker-compose.yml"
OUR_IMAGE = "heimdall-pipelines"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


class MissingVariableError(Exception):
    """A variable that must be given is not."""


def load_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables put in, as `docker compose config` shows it; those that are missing raise."""
    return _interpolated(raw_compose(), variables)


def raw_compose() -> dict[str, Any]:
    """The file as it stands, anchors merged."""
    return yaml.safe_load(COMPOSE_FILE.read_text())


def variables_of(text: str) -> Iterator[tuple[str, str]]:
    """Each variable that a string names, with what follows the name: ``:-default``, ``:?message`` or nothing."""
    position = 0
    while (position := text.find("$", position)) >= 0:
        if text.startswith("$$", position):
            position += 2
            continue
        name, rest, position = _reference(text, position)
        yield name, rest
        yield from variables_of(rest)


def strings(node: Any) -> Iterator[str]:
    """Every string of a document, in its order."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put the variables into a string.

    ``$NAME``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` are understood, a default may hold others;
    ``$$`` stands for a dollar.
    """
    done, position = [], 0
    while (dollar := text.find("$", position)) >= 0:
        done.append(text[position:dollar])
        if text.startswith("$$", dollar):
            done.append("$")
            position = dollar + 2
            continue
        name, rest, position = _reference(text, dollar)
        value = variables.get(name, "")
        if not value and rest.startswith(":-"):
            value = interpolate(rest[2:], variables)
        elif not value and rest.startswith(":?"):
            raise MissingVariableError(f"{name}: {rest[2:]}")
        done.append(value)
    return "".join([*done, text[position:]])


def seconds(duration: str) -> float:
    """Read a duration such as 30s or 1m30s."""
    parts = re.findall(r"(\d+)([smh])", duration)
    assert parts, duration
    assert "".join(map("".join, parts)) == duration, duration
    return sum(int(number) * _UNITS_S[unit] for number, unit in parts)


def _reference(text: str, dollar: int) -> tuple[str, str, int]:
    """Name, what follows it, and the position after the reference that begins at ``dollar``."""
    braced = text.startswith("${", dollar)
    name = _NAME.match(text, dollar + 1 + braced)
    assert name is not None, f"no variable after the dollar in {text!r}"
    if not braced:
        return name.group(), "", name.end()
    depth, end = 1, name.end()
    while depth:
        assert end < len(text), f"unclosed variable in {text!r}"
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    rest = text[name.end() : end - 1]
    assert not rest or rest.startswith((":-", ":?")), f"{rest!r} in {text!r} is a form that this reader does not know"
    return name.group(), rest, end


def _interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return interpolate(node, variables)
    if isinstance(node, dict):
        return {key: _interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, variables) for value in node]
    return node
