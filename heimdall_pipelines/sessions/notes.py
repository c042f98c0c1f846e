"""What people should know of a session's stations beside the numbers, each thing said once."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol


class NotedStation(Protocol):
    """A station with what is to be said of it."""

    @property
    def rx_id(self) -> str:
        """The station's slug."""
        ...

    @property
    def error_message(self) -> str | None:
        """Why it has no features, or not everywhere."""
        ...

    @property
    def flags(self) -> Collection[str]:
        """What limits its values."""
        ...


def station_notes(stations: Sequence[NotedStation]) -> Iterator[str]:
    """Give each station's error, then what limits the values, with the stations that it holds for."""
    for station in stations:
        if station.error_message is not None:
            yield f"{station.rx_id}: {station.error_message}"
    for flag in sorted({flag for station in stations for flag in station.flags}):
        yield f"{flag} ({', '.join(station.rx_id for station in stations if flag in station.flags)})"
