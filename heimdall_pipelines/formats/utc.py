"""UTC instants as integer nanoseconds since 1970 and as ISO 8601 text, exact in both directions."""

import re
from datetime import UTC, datetime, timedelta

NS_PER_S = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,100}))?(?:Z|[+-]00:00)", re.ASCII
)


def unix_ns_from_iso(text: str) -> int:
    """Parse a UTC instant such as ``2017-11-27T10:41:56.038122299Z`` (RFC 3339, offset Z or +00:00).

    Parameters
    ----------
    text : str
        Any number of fractional digits; those beyond the nanosecond are truncated. A leap second, ``:60``, is taken
        as the first second of the next minute, as POSIX time does.

    Returns
    -------
    int
        Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.

    Raises
    ------
    ValueError
        If `text` is not such an instant.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is not a UTC instant like 2017-11-27T10:41:56.038122299Z")
    year, month, day, hour, minute, second = (int(group) for group in match.groups()[:6])
    if second > 60:
        raise ValueError(f"{text[:60]!r}: invalid second {second}")
    minute_start = datetime(year, month, day, hour, minute, tzinfo=UTC)
    elapsed = minute_start - _EPOCH
    fraction_ns = int((match[7] or "0").ljust(9, "0")[:9])
    return (elapsed.days * 86_400 + elapsed.seconds + second) * NS_PER_S + fraction_ns


def iso_from_unix_ns(unix_ns: int) -> str:
    """Write an instant as ISO 8601 with nine fractional digits and Z.

    Parameters
    ----------
    unix_ns : int
        Nanoseconds since 1970-01-01T00:00:00Z; years 1 to 9999.

    Raises
    ------
    ValueError
        If the instant lies outside the years that ISO 8601 writes with four digits.
    """
    seconds, fraction_ns = divmod(unix_ns, NS_PER_S)
    try:
        instant = _EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"{unix_ns} ns is outside the years 1 to 9999") from error
    return f"{instant:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f".{fraction_ns:09d}Z"
