"""Figures as PNGs small enough to be kept with every materialization."""

import io

from matplotlib.figure import Figure
from PIL import Image

MAX_PNG_BYTES = 100_000
_COLOURS = 64
_DOTS_PER_INCH = (90, 75, 60, 45, 30)
_MAX_TEXT_CHARACTERS = 100


def literal(text: str) -> str:
    r"""Prepare a name for a picture: no character of it is mathematics or a control, and it fits on a line.

    Parameters
    ----------
    text : str
        Any text that people or files gave.

    Examples
    --------
    >>> literal("cost $x^{$")
    'cost \\$x^{\\$'
    """
    clean = "".join(character if character.isprintable() else "?" for character in text[: _MAX_TEXT_CHARACTERS + 1])
    if len(clean) > _MAX_TEXT_CHARACTERS:
        clean = f"{clean[:_MAX_TEXT_CHARACTERS]}…"
    return clean.replace("$", r"\$")


def small_png(figure: Figure, max_bytes: int = MAX_PNG_BYTES) -> bytes | None:
    """Draw a figure as a PNG of few colours, in the finest resolution that fits.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    max_bytes : int, optional
        Limit of the PNG's size.

    Returns
    -------
    bytes or None
        None if even the coarsest resolution does not fit.
    """
    for dots_per_inch in _DOTS_PER_INCH:
        png = _quantised_png(figure, dots_per_inch)
        if len(png) < max_bytes:
            return png
    return None


def _quantised_png(figure: Figure, dots_per_inch: int) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=dots_per_inch)
    image = Image.open(raw).convert("RGB").quantize(colors=_COLOURS, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    image.save(packed, format="png", optimize=True)
    return packed.getvalue()
