"""Slugs: names of datasets and stations that people, paths and keys can have."""

import re

_SLUG = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


def is_slug(text: str) -> bool:
    """Whether a text is words of a-z and 0-9 joined by single - or _; the database's constraints are the same.

    >>> is_slug("night-watch_2"), is_slug("night__2"), is_slug("Night")
    (True, False, False)
    """
    return _SLUG.fullmatch(text) is not None


def slug(text: str) -> str:
    """Convert a name to a slug: lower case, each run of other characters than a-z and 0-9 becomes one ``-``.

    >>> slug("Passo del Giovi")
    'passo-del-giovi'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
