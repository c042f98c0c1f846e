"""The kinds of receivers; clients, help texts and the database's constraint agree with this enumeration."""

from enum import StrEnum


class ReceiverKind(StrEnum):
    """Protocol by which a receiver is recorded, the column ``api_type`` of a station."""

    KIWISDR = "kiwisdr"
    OPENWEBRX = "openwebrx"
    NONE = "none"


CLIENT_KINDS = tuple(kind for kind in ReceiverKind if kind is not ReceiverKind.NONE)


def kinds_text(kinds: tuple[ReceiverKind, ...] = CLIENT_KINDS) -> str:
    """List kinds for a message; by default those that have a client.

    >>> kinds_text()
    'kiwisdr or openwebrx'
    """
    *others, last = kinds
    return f"{', '.join(others)} or {last}" if others else str(last)
