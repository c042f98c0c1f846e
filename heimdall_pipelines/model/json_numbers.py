"""Numbers as JSON columns hold them: jsonb keeps integers of any length, of which some are too large for a float."""

import sys
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that a float can have.

    >>> is_number(1), is_number(0.5), is_number(True), is_number("1"), is_number(10**400)
    (True, True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_too_large(value: Any) -> bool:
    """Whether a JSON value is an integer that no float can have.

    >>> is_too_large(10**400), is_too_large("10")
    (True, False)
    """
    return isinstance(value, int) and abs(value) > sys.float_info.max
