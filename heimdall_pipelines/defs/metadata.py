"""Tables and pictures as the Markdown that the UI shows in a materialization."""

from collections.abc import Callable, Iterable, Sequence

import dagster as dg

from heimdall_pipelines.report_page import data_uri

_MAX_REASON_CHARACTERS = 500


def table_metadata(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """Return a table; above 1000 characters the UI shows it only after a click."""
    lines = [columns, ["---"] * len(columns), *rows]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))


def picture_metadata(title: str, png: bytes) -> dg.MarkdownMetadataValue:
    """Return a picture; it is stored with the event, so it should stay below 100 kB."""
    return dg.MetadataValue.md(f"![{title}]({data_uri(png)})")


def drawn_or_reason(
    title: str, draw: Callable[[], bytes | None], warn: Callable[[str], object]
) -> dg.MetadataValue | None:
    """Draw a picture; one that fails is replaced by the reason, and its run goes on.

    Parameters
    ----------
    title : str
    draw : callable
        Returns a PNG, or None if there is nothing to draw.
    warn : callable
        Logs a warning.

    Returns
    -------
    dg.MetadataValue or None
        The picture, or text with the reason; None if there is nothing to draw.
    """
    try:
        png = draw()
    except Exception as error:  # of any library below, which must not cost the results of the run
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_MAX_REASON_CHARACTERS]
        warn(f"the picture {title!r} could not be drawn; the run continues without it: {reason}")
        return dg.MetadataValue.text(f"could not be drawn: {reason}")
    return None if png is None else picture_metadata(title, png)
