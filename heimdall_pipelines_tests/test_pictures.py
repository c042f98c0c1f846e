"""Pictures: names are drawn as they are, and a picture that cannot be drawn does not fail its run."""

import pytest
from matplotlib.figure import Figure

from heimdall_pipelines.defs.metadata import drawn_or_reason
from heimdall_pipelines.pictures import literal, small_png

# What matplotlib takes for mathematics, or refuses, or would make a line too long of.
ODD_NAMES = ["cost $x^{$", "$\\frac$", "a\\$b$c$", "$", "100 % _^{}", "x" * 2000, "line\nline\x00\x1b[31m", "\udcff 📡"]


def titled(text, **options):
    figure = Figure(figsize=(4, 1))
    figure.subplots().set_title(text, **options)
    return small_png(figure)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_name_can_be_drawn(name):
    assert titled(literal(name)).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["cost $x^{$", "$\\frac$", "$a$ and $b$", "a_b^c"])
def test_names_are_drawn_literally(name):
    assert titled(literal(name)) == titled(name, parse_math=False)


def test_a_picture_that_fails_leaves_its_reason():
    warned = []

    def fail():
        raise ValueError("no $mathematics^{$")

    assert "ValueError: no $mathematics" in drawn_or_reason("map", fail, warned.append).value
    assert len(warned) == 1
    assert "'map' could not be drawn" in warned[0]


def test_a_picture_of_nothing_is_left_out():
    assert drawn_or_reason("map", lambda: None, pytest.fail) is None
