"""Tables and pictures as the Markdown that the UI shows in a materialization."""

import base64
from collections.abc import Iterable, Sequence

import dagster as dg


def table_metadata(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """Return a table; above 1000 characters the UI shows it only after a click."""
    lines = [columns, ["---"] * len(columns), *rows]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))


def picture_metadata(title: str, png: bytes) -> dg.MarkdownMetadataValue:
    """Return a picture; it is stored with the event, so it should stay below 100 kB."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")
