"""Slugs of recording sessions: names for people, unique, made from start, frequency and name, and never changed.

A slug is words of a-z and 0-9 joined by single hyphens, 100 characters at most, optionally with a time before them:
`20171127T104156Z-77500hz-dcf77`. A UUID is not a slug, so that a slug is never taken for an id.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.slugs import slug as words_of
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from heimdall_pipelines.store.reading import Reading

# The constraint of the column is the same; see the migration 0007.
_SLUG = re.compile(r"([0-9]{8}T[0-9]{6}Z-)?[a-z0-9]+(-[a-z0-9]+)*")
_MAX_GIVEN_CHARACTERS = 80  # of 100: leaves room for a number
_MAX_NAME_CHARACTERS = 40
_MAX_PLAIN_FREQUENCY_HZ = 1e13  # digit by digit below, in three digits and an exponent from there on
# The default name of a session, which is left out: it repeats the time and frequency in front of it.
_DEFAULT_NAME = re.compile(r"\S+ kHz, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


class SlugError(HeimdallError):
    """A slug that was given is malformed."""


@dataclass(frozen=True)
class NewSession:
    """A session before it has a row; if ``wanted_slug`` is taken, a number is appended."""

    wanted_slug: str
    name: str
    frequency_hz: float
    bandwidth_hz: float
    known_source: str | None


def default_session_name(frequency_hz: float, start: datetime) -> str:
    """Give the default name of a session.

    >>> default_session_name(77_500.0, datetime(2017, 11, 27, 10, 41, 56, tzinfo=UTC))
    '77.5 kHz, 2017-11-27 10:41:56 UTC'
    """
    return f"{frequency_hz / 1e3:.10g} kHz, {start.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def session_slug(start: datetime, frequency_hz: float, name: str, known_source: str | None = None) -> str:
    """Make the slug of a session; if it is taken, `insert_with_slug` appends a number.

    Parameters
    ----------
    start : datetime
    frequency_hz : float
    name : str
        Any characters: accents are removed, then only a-z and 0-9 are kept, up to 40 characters.
    known_source : str, optional
        Replaces the name if that is the default one.

    >>> session_slug(datetime(2017, 11, 27, 10, 41, 56, tzinfo=UTC), 77_500.0, "DCF77, Zürich/Nord")
    '20171127T104156Z-77500hz-dcf77-zurich-nord'
    """
    start = start.astimezone(UTC)
    plain = frequency_hz < _MAX_PLAIN_FREQUENCY_HZ
    frequency = words_of(f"{frequency_hz:.0f}" if plain else f"{frequency_hz:.3g}")
    label = (known_source or "") if _DEFAULT_NAME.fullmatch(name) else name
    ascii_label = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii")
    parts = (
        f"{start.year:04d}{start:%m%dT%H%M%SZ}",
        f"{frequency}hz",
        words_of(ascii_label)[:_MAX_NAME_CHARACTERS].rstrip("-"),
    )
    return "-".join(filter(None, parts))


def check_slug(slug: str) -> str:
    """Check a slug that a person chose, and return it.

    Raises
    ------
    SlugError
        It is malformed.
    """
    if len(slug) > _MAX_GIVEN_CHARACTERS or not _SLUG.fullmatch(slug) or as_uuid(slug):
        raise SlugError(
            f"slug {slug!r} is malformed: expected are words of a-z and 0-9 joined by single hyphens, such as "
            f"night-watch or 20171127T104156Z-77500hz-dcf77; at most {_MAX_GIVEN_CHARACTERS} characters, and no UUID"
        )
    return slug


def insert_with_slug(connection: Connection, wanted: str, insert: Callable[[str], Row[Any] | None]) -> Row[Any]:
    """Insert a session with the wanted slug; if it is taken, with the lowest free number appended.

    Parameters
    ----------
    connection : Connection
    wanted : str
    insert : callable
        Inserts with a slug ``ON CONFLICT DO NOTHING``, which waits for a concurrent insert of the same slug to commit;
        returns the row, or None if the other insert was first. Then the next number is tried.
    """
    while True:
        row = insert(_free_slug(connection, wanted))
        if row is not None:
            return row


def slugs_of_ids(database: Reading, keys: Iterable[str | None]) -> dict[str, str]:
    """Map those keys that are ids of sessions to slugs; before slugs existed, partition keys were ids."""
    ids = {key: str(session_id) for key in keys if key is not None and (session_id := as_uuid(key)) is not None}
    if not ids:
        return {}
    rows = database.read(
        "SELECT id::text, slug FROM heimdall.recording_sessions WHERE id = ANY(CAST(%(ids)s AS uuid[]))",
        {"ids": list(ids.values())},
    )
    slugs: dict[str, str] = {row.id: row.slug for row in rows}
    return {key: slugs[session_id] for key, session_id in ids.items() if session_id in slugs}


def numbered(wanted: str, taken: set[str], first: int = 1) -> tuple[str, int]:
    """Return the wanted slug or, if it is taken, the first free one with a number from 2; and that number."""
    number = first
    while (slug := wanted if number == 1 else f"{wanted}-{number}") in taken:
        number += 1
    return slug, number


def as_uuid(key: UUID | str) -> UUID | None:
    """Parse an id as people type it; None if it is not a UUID."""
    try:
        return UUID(str(key))
    except ValueError:
        return None


def _free_slug(connection: Connection, wanted: str) -> str:
    taken = connection.execute(
        text("SELECT slug FROM heimdall.recording_sessions WHERE slug = :wanted OR slug LIKE :numbered"),
        {"wanted": wanted, "numbered": f"{wanted}-%"},
    ).scalars()
    return numbered(wanted, set(taken))[0]
