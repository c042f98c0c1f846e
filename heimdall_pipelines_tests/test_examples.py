"""Examples in docstrings give what they show; the public functions of `rf` describe every parameter."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "heimdall_pipelines"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


# By their text: modules without examples, such as the migrations, are not imported.
WITH_EXAMPLES = sorted(name_of(path) for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
KERNELS = {"philox", "cross_spectra", "correlation_peak"}  # compiled, each for one module's use
RF = sorted(name_of(path) for path in (PACKAGE / "rf").glob("[!_]*.py") if path.stem not in KERNELS)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_show(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def public_functions() -> list:
    functions = (inspect.unwrap(value) for name in RF for value in vars(importlib.import_module(name)).values())
    own = (function for function in functions if inspect.isfunction(function) and function.__module__ in RF)
    return sorted({function for function in own if not function.__name__.startswith("_")}, key=str)


@pytest.mark.parametrize("function", public_functions(), ids=lambda function: function.__qualname__)
def test_every_parameter_of_rf_is_described(function):
    section = re.search(r"^Parameters\n-+\n(.*?)(?:\n\n\w+\n-+\n|\Z)", inspect.getdoc(function) or "", re.S | re.M)
    headings = re.findall(r"^[\w, ]+(?= :|$)", section[1] if section else "", re.M)
    described = {name.strip() for heading in headings for name in heading.split(",")}
    assert described >= set(inspect.signature(function).parameters)
