"""Modules that decide a sample's bytes compute with what IEEE 754 fixes alone: no library's transform, sine or sum."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

DECIDES_BYTES = ("exact", "fourier", "philox", "modulation", "channel", "link", "synthesis")
# Where numbers come from and go to: integers drawn, memory laid out, numbers rounded as IEEE 754 or decimal says.
ALLOWED_OF_NUMPY = {
    "arange", "array", "asarray", "any", "ascontiguousarray", "complex64", "dtype", "empty", "float32", "float64",
    "floor", "inf", "int32", "int64", "ndarray", "ones", "random", "sqrt", "uint32", "uint64", "zeros",
}  # fmt: skip
ALLOWED_OF_MATH = {"ceil", "floor", "inf", "isnan", "pi", "sqrt"}
ALLOWED_OF_GENERATORS = {"Generator", "Philox", "integers", "random"}
ALLOWED_MODULES = {
    "collections.abc", "dataclasses", "enum", "functools", "math", "numba", "numba.extending", "numpy", "numpy.typing",
    "typing",
}  # fmt: skip
# Methods of arrays that add in an order of their own, or round by a library.
FORBIDDEN_METHODS = {
    "cumsum", "dot", "exponential", "log", "matmul", "max", "mean", "min", "normal", "prod", "standard_exponential",
    "standard_normal", "std", "sum", "trace", "var", "vdot",
}  # fmt: skip
FORBIDDEN_BUILTINS = {"pow", "sum", "__import__", "eval", "exec", "getattr"}


def problems(source):
    """What of a module's source is not in the allowed set, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for what in _problems_of(node):
            found.append(f"line {node.lineno}: {what}")
    return found


def _problems_of(node):
    if isinstance(node, ast.Import):
        yield from (f"imports {name.name}" for name in node.names if name.name not in ALLOWED_MODULES)
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module.startswith("heimdall_pipelines.rf."):
            if module.removeprefix("heimdall_pipelines.rf.") not in DECIDES_BYTES:
                yield f"imports {module}, which is none of the modules that decide bytes"
        elif module not in ALLOWED_MODULES | {"heimdall_pipelines.errors"} or module in {"math", "numpy"}:
            yield f"imports from {module}"
    if isinstance(node, ast.Attribute):
        yield from _problems_of_attribute(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_BUILTINS:
        yield f"calls {node.func.id}"
    if isinstance(node, ast.BinOp | ast.AugAssign):
        if isinstance(node.op, ast.MatMult):
            yield "multiplies matrices"
        is_whole_power = isinstance(node, ast.BinOp) and _is_whole(node.right)
        if isinstance(node.op, ast.Pow) and not is_whole_power:
            yield "raises to a power that is no whole number written out"
    if isinstance(node, ast.keyword) and node.arg in {"fastmath", "parallel"}:
        yield f"compiles with {node.arg}"


def _is_whole(node):
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value % 1 == 0
    return is_number or ast.unparse(node) == "impairments.adc_bits - 1"  # an integer field


def _problems_of_attribute(node):
    base = ast.unparse(node.value)
    if base == "np" and node.attr not in ALLOWED_OF_NUMPY:
        yield f"uses np.{node.attr}"
    elif base == "np.random" and node.attr not in ALLOWED_OF_GENERATORS:
        yield f"uses np.random.{node.attr}"
    elif base == "math" and node.attr not in ALLOWED_OF_MATH:
        yield f"uses math.{node.attr}"
    elif base == "rng" and node.attr not in ALLOWED_OF_GENERATORS:
        yield f"draws by rng.{node.attr}"
    elif base not in {"np", "math"} and node.attr in FORBIDDEN_METHODS:
        yield f"calls .{node.attr}"


@pytest.mark.parametrize("name", DECIDES_BYTES)
def test_a_module_that_decides_bytes_stays_in_the_allowed_set(name):
    module = importlib.import_module(f"heimdall_pipelines.rf.{name}")
    assert problems(Path(inspect.getfile(module)).read_text()) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import ducc0", "imports ducc0"),
        ("import scipy.fft", "imports scipy.fft"),
        ("from scipy import fft", "imports from scipy"),
        ("from math import sin", "imports from math"),
        ("from heimdall_pipelines.rf.spectrum import tukey_window", "none of the modules"),
        ("np.fft.rfft(x)", "uses np.fft"),
        ("math.sin(x)", "uses math.sin"),
        ("np.cos(x)", "uses np.cos"),
        ("np.log10(x)", "uses np.log10"),
        ("np.vdot(x, x)", "uses np.vdot"),
        ("np.sum(x)", "uses np.sum"),
        ("x.sum()", "calls .sum"),
        ("x @ y", "multiplies matrices"),
        ("10 ** x", "raises to a power"),
        ("x **= 0.5", "raises to a power"),
        ("rng.standard_normal(8)", "draws by rng.standard_normal"),
        ("numba.njit(fastmath=True)", "compiles with fastmath"),
    ],
)
def test_what_rounds_by_processor_is_found(source, problem):
    (found,) = problems(source)
    assert problem in found
