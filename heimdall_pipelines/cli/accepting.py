"""`heimdall db accept`: lists edits made by hand as they are found, and takes them over."""

from collections.abc import Iterator

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.database import EditedKind
from heimdall_pipelines.datasets.accepting import accept_dataset
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.sessions.accepting import accept_session
from heimdall_pipelines.store.accepting import accept_rows
from heimdall_pipelines.store.known_sources import list_known_sources
from heimdall_pipelines.store.stations import list_stations
from heimdall_pipelines.store.stores import Stores


def accept(stores: Stores, kind: EditedKind, name: str, reason: str | None) -> int:
    """List the edits of a dataset, session, station or source, and take them over if there is a reason.

    Returns
    -------
    int
        Number of edits.

    Raises
    ------
    HeimdallError
        There is no such dataset, session, station or source, or it is in use.
    """
    num = 0
    for edit in _edits(stores, kind, name, reason):
        num += 1
        output.print(edit if reason is None else f"taken over: {edit}")
    return num


def _edits(stores: Stores, kind: EditedKind, name: str, reason: str | None) -> Iterator[str]:
    match kind:
        case "dataset":
            return accept_dataset(stores, name, reason=reason)
        case "session":
            return accept_session(stores, name, reason=reason)
        case "station":
            return _place(stores, "websdr_stations", "rx_id", name, reason)
        case "source":
            return _place(stores, "known_sources", "name", name, reason)


def _place(stores: Stores, table: str, column: str, name: str, reason: str | None) -> Iterator[str]:
    known = (
        [station.rx_id for station in list_stations(stores.database)]
        if column == "rx_id"
        else [source.name for source in list_known_sources(stores.database)]
    )
    if name not in known:
        raise HeimdallError(f"there is no {name}; known are: {', '.join(known) or 'none'}")
    with stores.database.transaction() as connection:
        yield from accept_rows(connection, table, f"{column} = :name", {"name": name}, reason)
