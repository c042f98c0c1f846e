"""Notes on a session's stations beside the numbers; each note is given once."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol


class NotedStation(Protocol):
    """A station with its notes."""

    @property
    def rx_id(self) -> str:
        """The station's slug."""
        ...

    @property
    def error_message(self) -> str | None:
        """Why features are missing in some or all segments."""
        ...

    @property
    def flags(self) -> Collection[str]:
        """Limits of its values."""
        ...


def station_notes(stations: Sequence[NotedStation]) -> Iterator[str]:
    """Give each station's error, then each flag with the stations that have it."""
    for station in stations:
        if station.error_message is not None:
            yield f"{station.rx_id}: {station.error_message}"
    for flag in sorted({flag for station in stations for flag in station.flags}):
        yield f"{flag} ({', '.join(station.rx_id for station in stations if flag in station.flags)})"
